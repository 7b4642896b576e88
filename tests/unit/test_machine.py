"""What is read of a machine: cores, quotas, facts, counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_aefm.testbeds.local_counters import (
    ProcessReading,
    pressure_us,
    read_process,
    read_ticks,
    steal_share,
    waited_s,
)
from pytest_aefm.testbeds.machine import (
    assign_cores,
    cache_bytes,
    machine_facts,
    memory_bytes,
    memory_room_bytes,
    parse_cpu_list,
    quota_cores,
)

SPIN = "import time\nwhile time.process_time() < {seconds}: pass\nprint('done', flush=True)\ntime.sleep(60)"


def pairs(cpu: int) -> set[int]:
    """Siblings of a machine with two threads per core: 0-1, 2-3, ..."""
    return {cpu & ~1, cpu | 1}


def alone(cpu: int) -> set[int]:
    """Siblings of a machine with one thread per core."""
    return {cpu}


@pytest.mark.parametrize(
    ("cpus", "siblings", "generator", "services"),
    [
        ({0, 1}, alone, {0}, {1}),
        ({0, 1, 2, 3}, pairs, {0, 1}, {2, 3}),
        ({3, 4, 5}, pairs, {3}, {4, 5}),
        (set(range(8)), alone, {0}, set(range(1, 8))),
    ],
)
def test_generator_has_one_physical_core(
    cpus: set[int], siblings: Callable[[int], set[int]], generator: set[int], services: set[int]
) -> None:
    """The generator gets all allowed threads of one physical core, services the rest."""
    plan = assign_cores(cpus, siblings)
    assert (plan.generator, plan.services, plan.shared) == (frozenset(generator), frozenset(services), False)


@pytest.mark.parametrize(("cpus", "siblings"), [({0}, alone), ({2, 3}, pairs)])
def test_one_physical_core_is_shared(cpus: set[int], siblings: Callable[[int], set[int]]) -> None:
    """With one physical core everything shares it, and the plan says so."""
    plan = assign_cores(cpus, siblings)
    assert (plan.generator, plan.services, plan.shared) == (frozenset(cpus), frozenset(cpus), True)
    assert "share" in plan.warning


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("0-2,5\n", {0, 1, 2, 5}), ("", set())])
def test_cpu_list(text: str, cpus: set[int]) -> None:
    """The kernel's lists of cpus are read."""
    assert parse_cpu_list(text) == cpus


def put(root: Path, path: str, text: str) -> None:
    """Write a file below a root of our own."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_quota_of_version_2_is_the_smallest_on_the_way_up(tmp_path: Path) -> None:
    """A quota of a cgroup's ancestor counts, too."""
    put(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    put(tmp_path, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    put(tmp_path, "sys/fs/cgroup/a/cpu.max", "150000 100000\n")
    assert quota_cores(tmp_path) == 1.5


def test_quota_of_version_1(tmp_path: Path) -> None:
    """A version 1 cgroup's quota is found."""
    put(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/a\n2:memory:/b\n")
    put(tmp_path, "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n")
    put(tmp_path, "sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert quota_cores(tmp_path) == 0.5


def test_no_quota_is_none(tmp_path: Path) -> None:
    """Without a quota there is no number."""
    put(tmp_path, "proc/self/cgroup", "0::/\n")
    assert quota_cores(tmp_path) is None


def test_facts_that_are_not_told_are_none(tmp_path: Path) -> None:
    """On a kernel that tells nothing, facts are None or False, and nothing is raised."""
    facts = machine_facts(tmp_path)
    unknown = ("governor", "turbo", "quota_cores", "memory_bytes", "steal_since_boot", "loadavg_1min")
    assert [facts[name] for name in unknown] == [None] * len(unknown)
    assert (facts["psi"], facts["schedstat"]) == (False, False)


@pytest.mark.parametrize(
    ("path", "text", "turbo"),
    [
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1", False),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0", True),
        ("sys/devices/system/cpu/cpufreq/boost", "1", True),
    ],
)
def test_turbo(tmp_path: Path, path: str, text: str, turbo: bool) -> None:
    """Both of the kernel's switches for turbo are understood."""
    put(tmp_path, path, text)
    assert machine_facts(tmp_path)["turbo"] is turbo


def test_facts_of_this_machine() -> None:
    """The facts of a real machine name its cpu, kernel and memory."""
    facts = machine_facts()
    assert facts["cpu_model"]
    assert facts["kernel"] == os.uname().release
    assert facts["memory_bytes"] > 2**20
    assert memory_bytes()["MemAvailable"] <= memory_bytes()["MemTotal"]


def test_process_reading_follows_cpu_time() -> None:
    """A process's CPU time is read to the millisecond, threads and resident memory with it."""
    child = subprocess.Popen([sys.executable, "-S", "-c", SPIN.format(seconds=0.2)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        reading = read_process(child.pid)
        assert reading is not None
        assert reading.cpu_s == pytest.approx(0.2, abs=0.05)
        assert reading.run_s == pytest.approx(reading.cpu_s, abs=0.05)
        assert reading.rss_bytes > 2**20
    finally:
        child.kill()
        child.communicate()
    assert read_process(child.pid) is None


def test_a_zombie_is_gone() -> None:
    """A process that ended and was not yet reaped is no process."""
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while read_process(child.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists()
    child.wait()


def reading(threads: dict[int, tuple[float, float]]) -> ProcessReading:
    """Return a reading that matters by its threads alone."""
    return ProcessReading(1, 1, 0.0, 0, threads)


def test_waiting_is_counted_by_thread() -> None:
    """Waiting is the sum over threads: new ones count whole, ended ones not at all."""
    before = reading({1: (0.0, 1.0), 2: (0.0, 50.0)})
    after = reading({1: (0.0, 1.5), 3: (0.0, 0.25)})
    assert waited_s(before, after) == 0.75


def test_waiting_is_unknown_without_statistics() -> None:
    """Where the kernel keeps no such statistics the wait is None, never zero."""
    assert waited_s(reading({}), reading({})) is None


def test_steal_is_of_the_worst_used_cpu(tmp_path: Path) -> None:
    """The share of stolen time is that of the used cpu which lost most."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\n" + "".join(f"cpu{n} 0 0 0 0 0 0 0 0 0 0\n" for n in range(3)))
    before = read_ticks({0, 1}, stat)
    stat.write_text("cpu0 90 0 0 0 0 0 0 10 7 0\ncpu1 0 0 0 80 0 0 0 20 0 0\ncpu2 0 0 0 0 0 0 0 100 0 0\nintr 1\n")
    assert steal_share(before, read_ticks({0, 1}, stat)) == 0.2


def test_pressure_totals(tmp_path: Path) -> None:
    """Totals are read by resource and kind; cpu.full of a machine is undefined."""
    line = "{} avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
    put(tmp_path, "cpu", line.format("some", 5) + line.format("full", 0))
    put(tmp_path, "memory", line.format("some", 7) + line.format("full", 3))
    assert pressure_us(tmp_path) == {"cpu.some": 5, "memory.some": 7, "memory.full": 3}


def test_no_pressure_is_empty(tmp_path: Path) -> None:
    """A kernel without pressure information has no totals."""
    assert pressure_us(tmp_path) == {}


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root; return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "room_mib"),
    [
        ({}, 4000),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "max"}, 4000),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/memory.max": str(2000 << 20),
                "sys/fs/cgroup/a/memory.current": str(700 << 20),
                "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {200 << 20}",
            },
            1500,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(1000 << 20),
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(900 << 20),
            },
            100,
        ),
    ],
    ids=["no cgroup", "no limit", "version 2", "version 1"],
)
def test_room_is_what_is_available_within_limits(files: dict[str, str], room_mib: int, tmp_path: Path) -> None:
    """Memory that may still be taken is what is available, or what the limit of a cgroup, or its parent, leaves."""
    write(tmp_path, {"proc/meminfo": f"MemAvailable: {4000 << 10} kB", **files})
    assert memory_room_bytes(tmp_path) == room_mib << 20


def test_last_level_cache_is_the_deepest(tmp_path: Path) -> None:
    """The last-level cache is that of the highest level that holds data; without any it is unknown."""
    assert cache_bytes(tmp_path) is None
    caches = [("1", "48K", "Data"), ("1", "32K", "Instruction"), ("2", "2M", "Unified"), ("3", "33792K", "Unified")]
    for number, (level, size, kind) in enumerate(caches):
        folder = f"sys/devices/system/cpu/cpu0/cache/index{number}"
        write(tmp_path, {f"{folder}/level": level, f"{folder}/size": size, f"{folder}/type": kind})
    assert cache_bytes(tmp_path) == 33 << 20
