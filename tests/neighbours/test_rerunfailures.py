"""pytest-rerunfailures: every attempt is a trial of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.neighbours.conftest import Beside
    from tests.plugin.conftest import ExperimentFolder


def attempts(folder: ExperimentFolder) -> list[tuple[Any, ...]]:
    """Return attempt, verdict and outcome of every trial."""
    return [(trial["attempt"], trial["verdict"], trial["outcome"]) for trial in folder.report()["trials"]]


def test_every_attempt_is_in_the_report(folder: ExperimentFolder, beside: Beside) -> None:
    """A case that stays violated leaves a numbered trial for each attempt, and JUnit the properties of each once."""
    folder.test('slos=["p95 < 1us"]')
    result = beside("rerunfailures", "--reruns=2", "--junitxml=junit.xml")
    assert {"failed": 1, "rerun": 2} == result.parseoutcomes()
    assert [(1, "violated", "rerun"), (2, "violated", "rerun"), (3, "violated", "failed")] == attempts(folder)
    assert all(trial["message"].startswith("SLOViolated: ") for trial in folder.report()["trials"])
    testcases = folder.path.joinpath("junit.xml").read_text().split("<testcase")[1:]
    assert {1} == {text.count('<property name="p99"') for text in testcases}


def test_an_attempt_begins_anew(folder: ExperimentFolder, beside: Beside) -> None:
    """What an attempt has done does not count for the next: aefm_run may be called again, and passes."""
    folder.test(body="assert 2 == aefm_run().attempt")
    result = beside("rerunfailures", "--reruns=3")
    assert (0, {"passed": 1, "rerun": 1}) == (result.ret, result.parseoutcomes())
    assert [(1, "passed", "rerun"), (2, "passed", "passed")] == attempts(folder)


@pytest.mark.parametrize(("fault", "verdict"), [("deploy", "broken"), ("bug", "broken"), ("steal", "invalid")])
def test_failures_of_the_experiment_are_run_again(
    folder: ExperimentFolder, beside: Beside, fault: str, verdict: str
) -> None:
    """Set-ups and calls that are broken or invalid are attempts, too; the last one is an error."""
    folder.use(fault)
    folder.test()
    assert {"errors": 1, "rerun": 1} == beside("rerunfailures", "--reruns=1").parseoutcomes()
    assert [(1, verdict, "rerun"), (2, verdict, "error")] == attempts(folder)


def test_invalid_alone_is_run_again(folder: ExperimentFolder, beside: Beside) -> None:
    """--only-rerun InvalidMeasurement measures again what the machine spoilt, and no violation."""
    arguments = ("--reruns=1", "--only-rerun=InvalidMeasurement")
    folder.test('slos=["p95 < 1us"]')
    assert {"failed": 1} == beside("rerunfailures", *arguments).parseoutcomes()
    folder.use("steal")
    assert {"errors": 1, "rerun": 1} == beside("rerunfailures", *arguments).parseoutcomes()


def test_crashed_workers_count_as_attempts(folder: ExperimentFolder, beside: Beside) -> None:
    """A case whose worker crashes is run on another worker: both attempts are told apart, both broken."""
    folder.use("exit-in-window")
    folder.test()
    result = beside("rerunfailures", "--reruns=1", "-n1")
    assert 1 == result.ret
    assert [(1, "broken", "rerun"), (2, "broken", "error")] == attempts(folder)
    assert {"the worker crashed in phase 'load'"} == {trial["reason"] for trial in folder.report()["trials"]}
