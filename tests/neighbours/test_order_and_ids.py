"""pytest-randomly and pytest-repeat: the plan's order stays, and every repetition has an id of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.neighbours.conftest import Beside
    from tests.plugin.conftest import ExperimentFolder

_TWO = """
import pytest

@pytest.mark.aefm(app="shop", script="ok.lua", rate=[150, 160, 170], rounds=2, duration=1)
def test_one(aefm_run):
    aefm_run()

@pytest.mark.aefm(app="shop", script="ok.lua", rate=[150, 160], cpu=[0, 1], duration=1)
def test_two(aefm_run):
    aefm_run()

@pytest.mark.parametrize("number", range(5))
def test_other(number):
    pass
"""


def collected(result: pytest.RunResult) -> list[str]:
    """Return the node ids that --collect-only -q printed, without their file."""
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


def of(name: str, lines: list[str]) -> list[str]:
    """Return the cases of one function."""
    return [line for line in lines if line.startswith(f"{name}[")]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_randomly_leaves_the_plan(folder: ExperimentFolder, beside: Beside, seed: str) -> None:
    """pytest-randomly shuffles other tests and test functions; the cases of each keep the order of the run's seed."""
    folder.pytester.makepyfile(_TWO)
    arguments = ("--collect-only", "-q", "--aefm-seed=5")
    plan = collected(beside("", *arguments))
    shuffled = collected(beside("randomly", *arguments, f"--randomly-seed={seed}"))
    assert set(plan) == set(shuffled)
    assert plan != shuffled
    assert (of("test_one", plan), of("test_two", plan)) == (of("test_one", shuffled), of("test_two", shuffled))


def test_randomly_with_workers(folder: ExperimentFolder, beside: Beside) -> None:
    """All workers of xdist find the same order, and the run's seed is not the one that pytest-randomly resets to."""
    folder.test("rate=[150, 160, 170]")
    beside("randomly", "-n2", "--randomly-seed=1").assert_outcomes(passed=3)
    first = folder.report()["run"]["seed"]
    beside("randomly", "-n2", "--randomly-seed=1").assert_outcomes(passed=3)
    assert first != folder.report()["run"]["seed"]


def test_repetitions_are_numbered(folder: ExperimentFolder, beside: Beside) -> None:
    """With --count each repetition is a test and a trial of its own, told apart by its id."""
    folder.test("rate=[150, 160], order='cost'")
    beside("repeat", "--count=2").assert_outcomes(passed=4)
    found = [trial["id"].rpartition("::")[2] for trial in folder.report()["trials"]]
    assert [f"test_it[shop-{rate}rps-{number}-2]" for rate in (150, 160) for number in (1, 2)] == found


def test_repeated_sessions_keep_the_order_of_each(folder: ExperimentFolder, beside: Beside) -> None:
    """--repeat-scope=session runs the whole plan, then all of it again."""
    folder.test("rate=[150, 160], order='cost'")
    lines = collected(beside("repeat", "--count=2", "--repeat-scope=session", "--collect-only", "-q"))
    assert [f"test_it[shop-{rate}rps-{number}-2]" for number in (1, 2) for rate in (150, 160)] == lines


def test_all_at_once(folder: ExperimentFolder, beside: Beside) -> None:
    """All neighbours and xdist together: every repetition of every case is in the report once."""
    folder.test("rate=[150, 160]")
    everybody = "html randomly repeat rerunfailures timeout"
    result = beside(everybody, "-n2", "--count=2", "--reruns=1", "--timeout=600", "--html=page.html", "-q")
    assert 0 == result.ret
    assert 4 == len({trial["id"] for trial in folder.report()["trials"] if trial["outcome"] == "passed"})
