"""Doses in the plan: how long memory takes to fill, and what this machine cannot make or hold is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

EXPERIMENT = """
app: hotel
script: hotel/search.lua
rate: 20
{factor}
duration: 5s
slos: none
interference:
  {size}
"""

Plan = Callable[[str, str], pytest.RunResult]


@pytest.fixture
def plan(pytester: pytest.Pytester) -> Plan:
    """Plan an experiment of which one factor and the size of its stressors are given."""

    def run(factor: str, size: str) -> pytest.RunResult:
        pytester.path.joinpath("doses.aefm.yaml").write_text(EXPERIMENT.format(factor=factor, size=size))
        return pytester.runpytest_subprocess("--aefm-plan", "-p", "no:cacheprovider")

    return run


def test_plan_shows_how_long_memory_takes_to_fill(plan: Plan) -> None:
    """A row whose memory dose is new says how long that takes to fill, 2 GiB/s, and its time has it in."""
    done = plan("mem_capacity: 1", "mem_capacity: {mem_size: 2Gi, cpu_size: 0.1}")
    done.stdout.fnmatch_lines(
        ["1  test_doses[[]hotel-mem_capacity1-20rps[]]  deploy hotel, memory filled in 9.0 s  25 s"]
    )


def test_filled_memory_costs_nothing(plan: Plan) -> None:
    """A row that keeps the memory dose of the row before says nothing of filling."""
    done = plan("mem_capacity: 1\ncpu: [0, 1]\norder: cost", "mem_capacity: {mem_size: 2Gi}")
    assert done.ret == 0
    assert str(done.stdout).count("memory filled in 0.9 s") == 1


@pytest.mark.parametrize(
    ("factor", "size", "message"),
    [
        (
            "mem_capacity: [0, 2]",
            "mem_capacity: {mem_size: 900Gi}",
            "doses.aefm.yaml:5: mem_capacity: the dose does not fit: 2 x 810.0 GiB of memory are asked for, "
            "and there is room for * GiB; lower its level or its mem_size",
        ),
        (
            "network: 1",
            "network: {cpu_size: 1}",
            "doses.aefm.yaml:5: network: throughput is missing; expected bits per second of one stream, such as 100M",
        ),
        (
            "mem_bandwidth: 1",
            "mem_bandwidth: {mem_size: 50Mi}",
            "doses.aefm.yaml:5: mem_bandwidth: mem_size 50Mi is too small; expected at least 64Mi: *",
        ),
        (
            "mem_bandwidth: 1",
            "mem_capacity: {dram: true}",
            "doses.aefm.yaml:9: interference.mem_capacity.dram: unknown key; *",
        ),
    ],
    ids=["does not fit", "no throughput", "too small", "dram of another kind"],
)
def test_what_this_machine_cannot_do_is_refused_in_the_plan(plan: Plan, factor: str, size: str, message: str) -> None:
    """A dose that cannot be made or held here fails the collection with file, line and what would be right."""
    done = plan(factor, size)
    assert done.ret != 0
    done.stdout.fnmatch_lines([message])


def test_a_dose_elsewhere_is_not_refused_here(plan: Plan) -> None:
    """What another testbed is to hold is no matter of this machine's memory."""
    done = plan("mem_capacity: 2\ntestbed: kubernetes", "mem_capacity: {mem_size: 900Gi}")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*deploy hotel, memory filled in 405.0 s*"])
