"""Doses of memory and network with the real programs: delivered, proven, told, and missed when something is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_aefm.errors import InterferenceError
from pytest_aefm.interference import StressorReading
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Trial, as_json
from pytest_aefm.supervisor import descendants
from pytest_aefm.testbeds import local_doses, local_stressors
from pytest_aefm.testbeds.local import LocalTestbed
from pytest_aefm.testbeds.local_counters import read_process
from pytest_aefm.testbeds.local_marks import Mark
from pytest_aefm.trial import run_trial

MIB, GIB = 2**20, 2**30
TINY = """
app: tiny
description: Two services, for tests.
entry: front
smoke: [{path: /work}]
services:
  front:
    endpoints: [{path: /work, steps: [{call: {service: back, endpoint: /work}}]}]
  back:
    endpoints: [{path: /work, steps: [{cpu_us: 500}]}]
"""
CAPACITY = InterferenceSpec("mem_capacity", 1, mem_size=256 * MIB)
BANDWIDTH = InterferenceSpec("mem_bandwidth", 1)
NETWORK = InterferenceSpec("network", 1, throughput="200M")
_ATTEMPTS = 3  # on a machine so busy that streams starve


class Bench:
    """A testbed with a small application, and trials on it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.testbed = folder, LocalTestbed(folder / "run", cache)
        topology, self.script = folder / "tiny.yaml", folder / "work.lua"
        topology.write_text(TINY)
        self.script.write_text('function request() return wrk.format("GET", "/work") end\n')
        self.app = AppSpec("tiny", topology=str(topology))
        self.trials = 0

    def case(self, *specs: InterferenceSpec) -> Case:
        """Return a case of two seconds under this interference."""
        load = LoadSpec("work.lua", 20, 2.0, warmup_s=0.3)
        return Case("case", "doses", "local", self.app, specs, load, {})

    def trial(self, *specs: InterferenceSpec) -> Trial:
        """Run a trial under this interference."""
        self.trials += 1
        folder, driver = self.folder / "trials" / str(self.trials), AefmWrk.find()
        return run_trial(self.case(*specs), testbed=self.testbed, driver=driver, script=self.script, artifacts=folder)

    def stressors(self) -> dict[str, StressorReading]:
        """Return what runs now, by name."""
        return {reading.stressor.name: reading for reading in self.testbed.mark().stressors}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The bench of all tests, for deploying takes time."""
    found = Bench(tmp_path_factory.mktemp("doses"), tmp_path_factory.getbasetemp() / "cache")
    try:
        found.testbed.ensure_app(found.app)
        yield found
    finally:
        assert found.testbed.close() == ()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("spec", [CAPACITY, BANDWIDTH, NETWORK], ids=lambda spec: spec.kind)
def test_dose_is_delivered_and_proven(bench: Bench, spec: InterferenceSpec, count: int) -> None:
    """A dose of each kind is delivered over the window, its proof has the kind's figures, and the effect is apart."""
    asked = InterferenceSpec(spec.kind, count, spec.cpu_size, spec.mem_size, spec.throughput)
    for _ in range(_ATTEMPTS):
        trial = bench.trial(asked)
        (dose,) = trial.doses
        if dose.ok:
            break
    print(dose.message, as_json(dose.details), as_json(trial.effect))
    assert (dose.kind, dose.count, dose.ok) == (spec.kind, count, True), dose.message
    assert [check.ok for check in trial.checks if check.name == f"dose {spec.kind}"] == [True]
    figures: dict[str, dict[str, float]] = {
        "mem_capacity": {"asked_bytes": int(0.9 * 256 * MIB) * count, "held_bytes": 207 * MIB * count},
        "mem_bandwidth": {"asked_bytes": 48 * MIB * count, "held_bytes": 43 * MIB * count, "asked_core_s": 1.9 * count},
        "network": {"offered_gbit_per_s": 0.2 * count, "achieved_gbit_per_s": 0.18 * count, "streams": count},
    }
    least = figures[spec.kind]
    assert {name: dose.details[name] >= value for name, value in least.items()} == dict.fromkeys(least, True)
    assert set(trial.effect["run_delay_ms_per_s"]) == {"front", "back"}
    assert trial.effect["memory_available_bytes"] > 0


@pytest.mark.parametrize(
    ("spec", "victim", "message"),
    [
        (CAPACITY, "holder", "stressor pid {pid} (mem_capacity-1) ended in the window"),
        (CAPACITY, "program", "stressor mem_capacity-1 (pid {pid}) ended in the window"),
        (BANDWIDTH, "holder", "stressor pid {pid} (mem_bandwidth-1) ended in the window"),
        (NETWORK, "network-client", "stressor network-client (pid {pid}) ended in the window"),
        (NETWORK, "network-server", "stressor network-server (pid {pid}) ended in the window"),
    ],
    ids=["memory's holder", "memory's program", "stream", "client", "server"],
)
def test_a_stressor_killed_in_mid_window_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spec: InterferenceSpec, victim: str, message: str
) -> None:
    """A process that is killed in the window makes the trial invalid, naming it; the next case gets a sound dose."""
    killed: list[int] = []
    mark = bench.testbed.mark

    def sabotage() -> None:
        os.kill(killed[0], signal.SIGKILL)

    def mark_and_kill() -> Mark:
        seen = mark()
        if not killed:  # the window begins
            readings = {reading.stressor.name: reading for reading in seen.stressors}
            reading = readings.get(victim) or next(iter(readings.values()))
            holder = max(reading.workers.values(), key=lambda worker: worker.rss_bytes)
            killed.append(holder.pid if victim == "holder" else reading.pid)
            threading.Timer(0.5, sabotage).start()
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(bench.testbed, "mark", mark_and_kill)
        trial = bench.trial(spec)
    (finding,) = [item for item in trial.findings if item.subject == f"dose {spec.kind}"]
    assert (trial.verdict, finding.verdict) == ("invalid", "invalid")
    assert message.format(pid=killed[0]) in finding.message
    bench.testbed.ensure_interference((spec,))
    now = bench.stressors().values()
    assert all(reading.alive for reading in now)
    assert killed[0] not in {pid for reading in now for pid in (reading.pid, *reading.workers)}


def test_doses_of_all_kinds_together(bench: Bench) -> None:
    """All kinds can disturb at once; each has a dose of its own, and those that stay are not started anew."""
    bench.testbed.ensure_interference((CAPACITY, NETWORK))
    before = {name: reading.pid for name, reading in bench.stressors().items()}
    bench.testbed.ensure_interference((InterferenceSpec("cpu", 1, 0.1), CAPACITY, BANDWIDTH, NETWORK))
    after = {name: reading.pid for name, reading in bench.stressors().items()}
    assert set(after) == {"cpu-1", "mem_capacity-1", "mem_bandwidth-1", "network-server", "network-client"}
    assert {name: after[name] for name in before} == before


def test_everything_is_given_back(bench: Bench) -> None:
    """When a case wants no interference none of its processes is left."""
    bench.testbed.ensure_interference((CAPACITY, NETWORK))
    pids = [pid for reading in bench.stressors().values() for pid in (reading.pid, *descendants(reading.pid))]
    assert len(pids) >= 5
    bench.testbed.ensure_interference(())
    assert [pid for pid in pids if read_process(pid)] == []


def test_memory_that_does_not_fill_is_told(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dose that is not filled when its time is up says how much of it is resident."""
    program = tmp_path / "stress-ng"
    program.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'stress-ng, version 0.17.08';; *) sleep 60 & wait;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(bench.testbed, "_tools", {})
    monkeypatch.setattr(local_stressors, "_FILL_S", 0.5)
    with pytest.raises(InterferenceError, match=r"not at work after [\d.]+ s: \d+ of 288 MiB are resident"):
        bench.testbed.ensure_interference((InterferenceSpec("mem_capacity", 1, mem_size=320 * MIB),))
    assert bench.stressors() == {}


def test_a_dose_that_does_not_fit_is_refused(bench: Bench) -> None:
    """What this machine cannot hold is refused before anything is deployed."""
    with pytest.raises(InterferenceError, match=r"'mem_capacity': the dose does not fit: 2 x 8100\.0 GiB"):
        bench.testbed.check(bench.case(InterferenceSpec("mem_capacity", 2, mem_size=9000 * GIB)))


def test_memory_that_is_held_already_counts_as_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dose that runs is not refused for the memory that it holds itself."""
    bench.testbed.ensure_interference(())
    monkeypatch.setattr(local_doses, "memory_room_bytes", lambda: GIB + 10 * MIB)
    with pytest.raises(InterferenceError, match="the dose does not fit"):
        bench.testbed.check(bench.case(CAPACITY))
    bench.testbed.ensure_interference((CAPACITY,))
    bench.testbed.check(bench.case(CAPACITY))
