"""What logs of stressors say of a window: read, placed in time, judged."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.testbeds.kubernetes.stress_pods import StressJob, plan_clients, plan_jobs
from pytest_aefm.testbeds.kubernetes.stress_proof import NodeClock, PodFate, Stressing, fate, judge
from pytest_aefm.testbeds.kubernetes.stress_sampler import SCRIPT, Sample, read_log
from pytest_aefm.testbeds.kubernetes.stress_start import idle

MIB = 2**20
WINDOW = Window(1e9, 1000.0, 10.0)
CLOCK = NodeClock(900.0, 0.02)  # the window is the node's uptime from 100 to 110
CPU, MEMORY = InterferenceSpec("cpu", 1), InterferenceSpec("mem_capacity", 1, mem_size=200 * MIB)
NETWORK = InterferenceSpec("network", 1, throughput="100M")


def line(uptime_s: float, run_s: float, *more: str, wait_s: float = 0.0, pid: int = 9, pages: int = 100) -> str:
    """Return what the sampler writes of a program with one worker."""
    worker = f"w={pid}:7:R:500:{run_s * 1e9:.0f}:{wait_s * 1e9:.0f}:{pages}"
    fixed = f"aefm1 up={uptime_s:.2f} main=7 page=4096 w=7:1:S:400:1000:0:50 {worker} cpus=1"
    return " ".join([fixed, *more, "."])


def log(share: float = 1.0, *, start: float = 95.0, end: float = 115.0, **more: Any) -> str:
    """Return a log of half seconds in which the worker ran a share of the time."""
    times = [start + 0.5 * index for index in range(int((end - start) * 2) + 1)]
    return "stress-ng: info: hello\n" + "\n".join(line(at, share * (at - start), **more) for at in times)


def fate_of(name: str = "p1", **more: Any) -> PodFate:
    """Return a pod that runs on node a."""
    return replace(PodFate(name, "uid", "a", "job"), **more)


def job(spec: InterferenceSpec) -> StressJob:
    """Return the first Job of a spec."""
    return plan_jobs([spec], ["a"])[0]


def proof(spec: InterferenceSpec, text: str, **more: Any) -> tuple[Dose, dict[str, Any]]:
    """Judge one pod by its log."""
    stressor = replace(job(spec).stressor, place="p1")
    pod = replace(Stressing(stressor, fate_of(), fate_of(), read_log(text)), **more)
    (dose,), effect = judge([spec], [pod], {"a": CLOCK}, WINDOW, ["a"])
    return dose, effect


def test_a_dose_is_proven_by_the_moments_around_the_window() -> None:
    """A worker that ran all the time delivered all, and its pod, node and clock are told."""
    dose, effect = proof(CPU, log())
    assert (dose.ok, dose.share, dose.message) == (True, 1.0, "cpu: 100% of the dose was delivered")
    assert (dose.details["nodes"], dose.details["clock_uncertainty_s"]) == (["a"], 0.02)
    assert dose.details["workers"][0]["pod"] == "p1"
    assert dose.details["run_s"] == pytest.approx(10.5, abs=0.6)
    assert effect == {}


def test_waiting_counts_and_idling_does_not() -> None:
    """Nine tenths must be run or waited for."""
    assert proof(CPU, "\n".join(line(95 + i, 0.4 * i, wait_s=0.55 * i) for i in range(21)))[0].ok
    dose, _ = proof(CPU, log(0.85))
    assert not dose.ok
    assert "worker pid 9 of p1 gave 85% of its load" in dose.message


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (log(end=108), {}, "pod p1 on a: its log does not cover the window"),
        (log(start=101), {}, "pod p1 on a: its log does not cover the window"),
        ("", {"trouble": "404: no such pod"}, "its log does not cover the window: 404: no such pod"),
        (log(), {"after": None, "trouble": "Preempting: by x"}, "was gone when the window ended: Preempting: by x"),
        (log(), {"after": fate_of(trouble="OOMKilled, exit status 137")}, "pod p1 on a: OOMKilled, exit status 137"),
        (log(), {"after": fate_of(uid="other")}, "pod p1 on a was gone when the window ended"),
        (log(), {"before": None}, "pod p1 was not there when the window began"),
        (log(end=104) + "\n" + log(start=104.5, pid=10), {}, "workers of pod p1 ended or began in the window"),
    ],
)
def test_what_happens_to_a_pod_makes_its_dose_unproven(text: str, more: dict[str, Any], message: str) -> None:
    """The dose is not ok, and says which pod, where, and why."""
    dose, _ = proof(CPU, text, **more)
    assert not dose.ok
    assert message in dose.message


def test_an_oom_kill_is_told() -> None:
    """The kernel's counter says so even where the pod lives on."""
    times = range(95, 116)
    text = "\n".join(line(at, at - 95, f"oom.oom_kill={int(at > 105)}") for at in times)
    dose, _ = proof(CPU, text)
    assert not dose.ok
    assert "the kernel killed 1 processes of pod p1 for want of memory (OOM)" in dose.message


def test_a_missing_pod_lowers_the_share() -> None:
    """Two were asked for, one was there: half of the dose."""
    spec = replace(CPU, count=2)
    stressor = job(spec).stressor
    there = Stressing(replace(stressor, place="p1"), fate_of(), fate_of(), read_log(log()))
    missing = Stressing(replace(stressor, index=1, place="job (number 2)"), None, None)
    (dose,), _ = judge([spec], [there, missing], {"a": CLOCK}, WINDOW, ["a"])
    assert (dose.ok, dose.count) == (False, 2)
    assert dose.share == pytest.approx(0.5, abs=0.03)
    assert "pod job (number 2) was not there when the window began" in dose.message


def test_memory_must_be_held_all_the_time() -> None:
    """What was let go between the edges is seen, too."""
    full, less = 180 * MIB // 4096, 100 * MIB // 4096
    assert proof(MEMORY, log(0, pages=full))[0].ok
    dip = "\n".join(line(at, 0, pages=less if at == 104 else full) for at in range(95, 116))
    dose, _ = proof(MEMORY, dip)
    assert not dose.ok
    assert "p1 held only 100 of 180 MiB once in the window" in dose.message


def test_traffic_is_payload() -> None:
    """Bytes sent less what frames are longer than their payload; the path is between nodes."""
    client = replace(plan_clients([NETWORK], ["a", "b"], {"a": "1", "b": "2"})[0].stressor, place="p1")
    rows = []
    for at in range(95, 116):
        packets = 10_000 * (at - 95)
        size = int(12.5e6 * (at - 95)) + 66 * packets
        head = f"aefm1 up={at} main=7 page=4096 w=7:1:S:400:1000:0:50 cpus=1"
        rows.append(f"{head} tx=0:0 tx={size}:{packets} retrans={at} to=A001 to=A003 .")
    pod = Stressing(client, fate_of(), fate_of(), read_log("\n".join(rows)))
    (dose,), _ = judge([NETWORK], [pod], {"a": CLOCK}, WINDOW, ["a", "b"])
    assert dose.message.startswith("network (between nodes): 100% of the dose was delivered: 0.1 of 0.1 Gbit/s")
    assert dose.ok
    assert idle(client, read_log("\n".join(rows[:2]))) == ""
    assert idle(client, read_log(rows[0])) == "it has just begun"


def test_children_of_a_moment_are_no_workers() -> None:
    """What stress-ng starts and ends while it begins does not pass for its workers."""
    stressor = job(CPU).stressor
    assert idle(stressor, read_log("\n".join([line(1, 0.1, pid=8), line(1.5, 0.1, pid=9)]))) != ""
    assert idle(stressor, read_log("\n".join([line(1, 0.1, pid=9), line(1.5, 0.6, pid=9)]))) == ""


def test_pressure_is_per_node_and_absent_where_unknown() -> None:
    """Totals become milliseconds of waiting per second; cpu.full of a whole node means nothing."""
    rows = [line(at, at - 95, f"psi.cpu.some={at * 250_000}", "psi.cpu.full=0") for at in range(95, 116)]
    _, effect = proof(CPU, "\n".join(rows))
    assert effect == {"node_pressure_ms_per_s": {"a": {"cpu.some": 250.0}}}


def test_a_line_that_is_cut_is_passed_over() -> None:
    """The log's first line may lack its beginning, the last one its end."""
    whole = line(1, 1)
    assert [one.uptime_s for one in read_log(f"{whole[20:]}\n{whole}\n{whole[:-2]}\n{whole[:60]} .")] == [1.0]


@pytest.mark.parametrize(
    ("status", "deleted", "trouble"),
    [
        ({"phase": "Running"}, False, ""),
        ({"phase": "Pending"}, False, "Pending"),
        ({"phase": "Running"}, True, "it is being deleted"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, False, "Evicted: low on memory"),
        (
            {"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "Preempted"}]},
            True,
            "Preempted",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}],
            },
            False,
            "OOMKilled, exit status 137",
        ),
    ],
)
def test_a_pod_says_why_it_does_not_run(status: dict[str, Any], deleted: bool, trouble: str) -> None:
    """Evicted, preempted, killed, ended, or on the way."""
    metadata = {"name": "p", "uid": "u", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    assert fate({"metadata": metadata, "spec": {"nodeName": "a"}, "status": status}).trouble == trouble


def alone() -> list[str]:
    """Return what runs a program as in a pod, with few processes, where that is allowed."""
    command = ["unshare", "--map-root-user", "--fork", "--pid", "--mount-proc"]
    return [] if subprocess.run([*command, "true"], capture_output=True).returncode else command


def test_the_sampler_tells_of_a_real_process(tmp_path: Path) -> None:
    """Plain sh reads this kernel: a busy worker is seen to run, and the program's exit status is the pod's."""
    enough, stressor = tmp_path / "enough", job(CPU).stressor
    program = f"(while :; do :; done) & while [ ! -e {enough} ]; do sleep 0.1; done; kill $!; exit 3"
    began, samples = time.clock_gettime(time.CLOCK_BOOTTIME), list[Sample]()
    command = [*alone(), "sh", "-c", SCRIPT, "sh", "0", "sh", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sampler:
        assert sampler.stdout is not None
        assert sampler.stderr is not None
        while len(samples) < 4:
            found = read_log(sampler.stdout.readline())
            samples += [one for one in found if len(one.reading(stressor).workers) >= 2]
        enough.touch()
        sampler.stdout.read()
        assert (sampler.wait(30), sampler.stderr.read()) == (3, "")
    assert 0 <= samples[0].uptime_s - began < 300
    readings = [one.reading(stressor) for one in samples]
    assert all(one.alive and one.pid == samples[0].main for one in readings)
    first, last = (
        {pid: worker.run_s + worker.wait_s for pid, worker in one.workers.items()}
        for one in readings[:: len(readings) - 1]
    )
    elapsed_s = samples[-1].uptime_s - samples[0].uptime_s
    assert max(last[pid] - first[pid] for pid in first.keys() & last.keys()) > 0.5 * elapsed_s
    assert readings[-1].held_bytes > 100_000
    assert read_log(SCRIPT) == []


@pytest.mark.parametrize(("port", "times"), [("0", 1), ("5201", 3)])
def test_a_client_is_tried_again_at_first(tmp_path: Path, port: str, times: int) -> None:
    """A server may not take streams yet; stress-ng is started once."""
    tried = tmp_path / "tried"
    program = f"echo x >> {tried}; [ $(wc -l < {tried}) = 3 ] || exit 1"
    done = subprocess.run([*alone(), "sh", "-c", SCRIPT, "sh", port, "sh", "-c", program], capture_output=True)
    assert done.returncode == (times == 1)
    assert len(tried.read_text().splitlines()) == times
