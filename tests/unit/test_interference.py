"""Interference: from what is asked to what is run, and from two readings to a proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError, InterferenceError
from pytest_aefm.interference import Stressor, StressorReading, WorkerReading, check, find_stress_ng, plan, prove
from pytest_aefm.model import Dose, InterferenceSpec

PROGRAM = Path("/usr/bin/stress-ng")


@pytest.mark.parametrize(
    ("cpu_size", "arguments", "workers", "worker_cores"),
    [
        (1, "--cpu 1 --cpu-method loop", 1, 1.0),
        (2, "--cpu 2 --cpu-method loop", 2, 1.0),
        (0.5, "--cpu 1 --cpu-method loop --cpu-load 50 --cpu-load-slice 50", 1, 0.5),
        (1.5, "--cpu 2 --cpu-method loop --cpu-load 75 --cpu-load-slice 50", 2, 0.75),
        (0.001, "--cpu 1 --cpu-method loop --cpu-load 1 --cpu-load-slice 50", 1, 0.01),
    ],
)
def test_cpu_is_workers_with_a_duty_cycle(cpu_size: float, arguments: str, workers: int, worker_cores: float) -> None:
    """``cpu_size`` rounded up is the number of workers; a share of a core is a load in slices of 50 ms."""
    (stressor,) = plan([InterferenceSpec("cpu", 1, cpu_size)], PROGRAM, 60)
    assert stressor.argv == (str(PROGRAM), *arguments.split(), "--timeout", "60s")
    assert (stressor.workers, stressor.worker_cores) == (workers, worker_cores)


def test_one_program_per_count() -> None:
    """``count`` is the number of programs, each with a name of its own; zero is none."""
    stressors = plan([InterferenceSpec("cpu", 3), InterferenceSpec("cpu", 0, 2)], PROGRAM, 60)
    assert [stressor.name for stressor in stressors] == ["cpu-1", "cpu-2", "cpu-3"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            InterferenceSpec("network", 1),
            "interference 'network': kind 'network' is not available on the local testbed yet; available: cpu",
        ),
        (
            InterferenceSpec("mem_bandwith", 1),
            "interference 'mem_bandwith': unknown kind; expected one of cpu, mem_capacity, mem_bandwidth, network; "
            "did you mean 'mem_bandwidth'?",
        ),
        (InterferenceSpec("cpu", -1), "interference 'cpu': count -1; expected 0 or more stressors"),
        (InterferenceSpec("cpu", 1, 0), "interference 'cpu': cpu_size 0; expected a positive number of cores"),
    ],
)
def test_what_cannot_be_run_is_refused(spec: InterferenceSpec, message: str) -> None:
    """Kinds that are unknown or not available, and impossible doses, are refused with what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        check(spec)
    assert str(caught.value) == message


def fake_stress_ng(folder: Path, script: str) -> str:
    """Put a program called stress-ng into a folder; return a PATH that holds it alone."""
    program = folder / "stress-ng"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


def test_stress_ng_is_found(tmp_path: Path) -> None:
    """The program on PATH and its version are found."""
    found = find_stress_ng(fake_stress_ng(tmp_path, "echo 'stress-ng, version 0.17.08 (gcc 13.2.0, x86_64)'"))
    assert (found.program, found.version) == (tmp_path / "stress-ng", "0.17.08")


def test_missing_stress_ng_names_the_line_that_installs_it(tmp_path: Path) -> None:
    """Without stress-ng the message says how to get it."""
    with pytest.raises(InterferenceError, match=r"not found on PATH; .*>= 0.15; .*apt-get install stress-ng"):
        find_stress_ng(str(tmp_path))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'stress-ng, version 0.13.12 (gcc)'", "is version 0.13.12; expected stress-ng >= 0.15"),
        ("echo hello", "does not tell its version: 'hello"),
    ],
)
def test_unfit_stress_ng_is_refused(tmp_path: Path, script: str, message: str) -> None:
    """An old stress-ng, and what is none, are refused."""
    with pytest.raises(InterferenceError, match=message):
        find_stress_ng(fake_stress_ng(tmp_path, script))


(ONE,) = plan([InterferenceSpec("cpu", 1, 2)], PROGRAM, 60)
BEFORE = StressorReading(
    ONE,
    10,
    True,
    100.0,
    {11: WorkerReading(11, 500, frozenset({1}), 1.0, 0.0), 12: WorkerReading(12, 501, frozenset({1}), 1.0, 0.0)},
)


def later(run_s: float = 2.5, wait_s: float = 2.5, **changes: object) -> StressorReading:
    """Return the reading 5 s after BEFORE, each worker having run and waited for so long in between."""
    workers = {
        pid: replace(worker, run_s=worker.run_s + run_s, wait_s=worker.wait_s + wait_s)
        for pid, worker in BEFORE.workers.items()
    }
    values: dict[str, object] = {"mono_s": 105.0, "workers": workers, **changes}
    return replace(BEFORE, **values)  # type: ignore[arg-type]  # fields by name


def proof(after: StressorReading, before: StressorReading = BEFORE) -> Dose:
    """Return the one dose that two readings prove."""
    (dose,) = prove([before], [after], {1})
    return dose


def test_waiting_for_a_core_is_delivered() -> None:
    """Two workers on one core run half of the time and wait the other half: the whole dose."""
    dose = proof(later())
    assert (dose.ok, dose.share, dose.count, dose.kind) == (True, 1.0, 1, "cpu")
    assert dose.details["asked_core_s"] == 10.0
    assert (dose.details["run_s"], dose.details["waiting_s"]) == (5.0, 5.0)


def test_a_load_share_is_the_dose_of_a_worker() -> None:
    """A worker that was asked for half a core has delivered all when it ran half of the time."""
    (half,) = plan([InterferenceSpec("cpu", 1, 0.5)], PROGRAM, 60)
    worker = WorkerReading(11, 500, frozenset({1}), 0.0, 0.0)
    before = StressorReading(half, 10, True, 0.0, {11: worker})
    after = replace(before, mono_s=10.0, workers={11: replace(worker, run_s=5.0)})
    assert (proof(after, before).ok, proof(after, before).share) == (True, 1.0)


def test_too_little_is_no_dose() -> None:
    """Less than 90 % of the dose is not ok, and the message has the figure."""
    dose = proof(later(2.0, 2.0))
    assert (dose.ok, dose.share) == (False, 0.8)
    assert "80% of the dose was delivered, at least 90% is needed" in dose.message


def test_one_worker_does_not_make_up_for_another() -> None:
    """What a worker gave beyond its share does not count for one that stood still."""
    after = later()
    still = {**after.workers, 12: replace(BEFORE.workers[12])}
    dose = proof(replace(after, workers=still))
    assert (dose.ok, dose.share) == (False, 0.5)
    assert "worker pid 12 of cpu-1 gave 0% of its load" in dose.message


def without(after: StressorReading, pid: int) -> StressorReading:
    """Return a reading without one worker."""
    return replace(after, workers={key: value for key, value in after.workers.items() if key != pid})


def with_worker(after: StressorReading, pid: int, **changes: object) -> StressorReading:
    """Return a reading in which one worker is different, or there at all."""
    worker = replace(after.workers.get(pid, after.workers[12]), pid=pid, **changes)  # type: ignore[arg-type]
    return replace(after, workers={**after.workers, pid: worker})


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (BEFORE, without(later(), 12), "cpu: stressor pid 12 (cpu-1) ended in the window"),
        (BEFORE, with_worker(later(), 12, started=999), "cpu: stressor pid 12 (cpu-1) ended in the window"),
        (BEFORE, with_worker(later(), 13), "cpu: stressor pid 13 (cpu-1) began in the window"),
        (BEFORE, with_worker(later(), 12, cpus=frozenset({0, 1})), "pid 12 (cpu-1) could run on cpus 0,1, outside 1"),
        (BEFORE, later(alive=False, workers={}), "cpu: stressor cpu-1 (pid 10) ended in the window"),
        (replace(BEFORE, alive=False, workers={}), later(alive=False, workers={}), "had ended before the window"),
        (without(BEFORE, 12), without(later(), 12), "cpu-1 had 1 of 2 workers when the window began"),
    ],
    ids=[
        "worker ended",
        "pid used again",
        "worker began",
        "out of place",
        "stressor ended",
        "dead before",
        "one short",
    ],
)
def test_what_failed_is_named(before: StressorReading, after: StressorReading, message: str) -> None:
    """A worker that ended, began, moved or was replaced makes the dose absent, and the message names it."""
    dose = proof(after, before)
    assert not dose.ok
    assert message in dose.message


def test_a_stressor_that_was_not_read_again_is_absent() -> None:
    """A stressor without a second reading proves nothing."""
    (dose,) = prove([BEFORE], [], {1})
    assert (dose.ok, dose.share) == (False, 0.0)


def test_stressors_of_one_spec_are_one_dose() -> None:
    """The programs of a spec are proven together, those of another apart."""
    specs = [InterferenceSpec("cpu", 2), InterferenceSpec("cpu", 1, 0.5)]

    def read(stressor: Stressor, pid: int, seconds: float) -> StressorReading:
        worker = WorkerReading(pid + 1, pid, frozenset({1}), seconds * stressor.worker_cores, 0.0)
        return StressorReading(stressor, pid, True, seconds, {pid + 1: worker})

    stressors = plan(specs, PROGRAM, 60)
    before = [read(stressor, 10 * index, 1.0) for index, stressor in enumerate(stressors)]
    after = [read(stressor, 10 * index, 6.0) for index, stressor in enumerate(stressors)]
    assert [(dose.count, dose.details["asked_core_s"], dose.ok) for dose in prove(before, after, {1})] == [
        (2, 10.0, True),
        (1, 2.5, True),
    ]
