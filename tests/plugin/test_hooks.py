"""Every hook's documented example is executed, and the hooks come in the order of the lifecycle."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_aefm import hooks

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

# What each example prints when it is called.
PRINTS = {
    "pytest_aefm_experiment_start": "experiment it begins",
    "pytest_aefm_environment_ready": "shop answers 200",
    "pytest_aefm_factor_changed": "payload None -> 7",
    "pytest_aefm_case_start": "case shop-payload7-200rps at 200 req/s",
    "pytest_aefm_collect_start": "collecting for shop-payload7-200rps",
    "pytest_aefm_case_finish": "case shop-payload7-200rps passed",
    "pytest_aefm_experiment_finish": "experiment it is over",
    "pytest_aefm_driver": "driver chosen",
    "pytest_aefm_collectors": "weather observed",
    "pytest_aefm_case_cost": "cost asked",
    "pytest_aefm_report": "report edited",
}


def add_to_conftest(folder: ExperimentFolder, source: str) -> None:
    """Append to the folder's conftest."""
    path = folder.path / "conftest.py"
    path.write_text(path.read_text() + "\n" + source)


def example(name: str) -> str:
    """Return the example in a hook's docstring."""
    documented = inspect.getdoc(getattr(hooks, name)) or ""
    return textwrap.dedent(documented.partition("Example::")[2])


def test_every_hook_has_an_example() -> None:
    """No hook is without an example, and none is forgotten here."""
    assert set(PRINTS) == set(hooks.__all__)


@pytest.mark.parametrize("name", hooks.__all__)
def test_every_hook_says_where_it_runs(name: str) -> None:
    """A hook's documentation tells in which process it is called: under xdist that decides where it must stand."""
    assert "\nWhere: " in (inspect.getdoc(getattr(hooks, name)) or "")


@pytest.mark.parametrize("name", hooks.__all__)
def test_example_works(folder: ExperimentFolder, name: str) -> None:
    """The example in a hook's documentation does what it says."""
    add_to_conftest(folder, example(name))
    folder.test("factors={'payload': [7]}")
    result = folder.run("-s")
    result.assert_outcomes(passed=1)
    assert PRINTS[name] in result.stdout.str()


def test_lifecycle_in_order(folder: ExperimentFolder) -> None:
    """Events come as the lifecycle has them; a factor is told when it changes, and only then."""
    add_to_conftest(
        folder,
        """
def note(text):
    with open("events.txt", "a") as file:
        file.write(text + "\\n")

def pytest_aefm_experiment_start(experiment): note("experiment")
def pytest_aefm_environment_ready(deployment): note("environment")
def pytest_aefm_factor_changed(factor, new): note(f"{factor}={new}")
def pytest_aefm_case_start(case): note("case")
def pytest_aefm_collect_start(case): note("collect")
def pytest_aefm_case_finish(trial): note("finish")
def pytest_aefm_experiment_finish(experiment): note("over")
""",
    )
    folder.test("rate=[150, 200], cpu=1, orders=['rate', 'cpu']")
    folder.run().assert_outcomes(passed=2)
    events = (folder.path / "events.txt").read_text().split()
    assert ["experiment", "environment", "cpu=1", "rate=150", "case", "collect", "finish"] == events[:7]
    assert ["rate=200", "case", "collect", "finish", "over"] == events[7:]


def test_edited_report_and_added_collector_are_written(folder: ExperimentFolder) -> None:
    """What the examples add stands in the report."""
    add_to_conftest(folder, example("pytest_aefm_report") + example("pytest_aefm_collectors"))
    folder.test()
    folder.run().assert_outcomes(passed=1)
    assert "search" == folder.report()["run"]["team"]
    assert "clear" == folder.trial()["collectors"]["weather"]["sky"]


_NOTE = """
def note(text):
    with open("events.txt", "a") as file:
        file.write(text + "\\n")
"""


def test_a_factor_that_failed_is_remembered(folder: ExperimentFolder) -> None:
    """A value whose hook raised is not brought about: later cases that want it are broken, naming the first."""
    hook = """
def pytest_aefm_factor_changed(factor, new):
    if factor == "payload":
        note(str(new))
        if new == 2:
            raise OSError("no payload")
"""
    add_to_conftest(folder, _NOTE + hook)
    folder.test("factors={'payload': [1, 2]}, rate=[150, 200], order='cost'")
    folder.run().assert_outcomes(passed=2, errors=2)
    assert ["1", "2"] == (folder.path / "events.txt").read_text().split()
    first, second = (trial["reason"] for trial in folder.report()["trials"] if trial["factors"]["payload"] == 2)
    assert "OSError: no payload" == first
    assert "factor payload=2: its hook failed before and is not tried again: OSError: no payload" == second


def test_an_environment_that_failed_is_remembered(folder: ExperimentFolder) -> None:
    """A deployment for which the hook raised breaks all its cases; the hook is called once."""
    hook = "def pytest_aefm_environment_ready():\n    note('ready')\n    raise OSError('no data')\n"
    add_to_conftest(folder, _NOTE + hook)
    folder.test("rate=[150, 200]")
    folder.run().assert_outcomes(errors=2)
    assert ["ready"] == (folder.path / "events.txt").read_text().split()
    assert "its hook failed before" in folder.report()["trials"][1]["reason"]


def test_an_application_deployed_anew_is_a_new_environment(folder: ExperimentFolder) -> None:
    """Where settling deploys anew, that is told, and the script's first requests are sent alone again."""
    folder.use("restless")
    hook = "def pytest_aefm_environment_ready(deployment):\n    note(str(deployment.generation))\n"
    add_to_conftest(folder, _NOTE + hook)
    folder.test()
    folder.run().assert_outcomes(passed=1)
    assert ["1", "2"] == (folder.path / "events.txt").read_text().split()
    assert ["load 10", "load 10", "load 200"] == [line for line in folder.asked() if line.startswith("load")]


def test_a_raising_end_of_a_case_is_broken(folder: ExperimentFolder) -> None:
    """What the last hook of a case raises makes its trial broken, too; what was measured stays in the report."""
    add_to_conftest(folder, "def pytest_aefm_case_finish(case):\n    raise OSError('no space')\n")
    folder.test()
    folder.run().assert_outcomes(errors=1)
    trial = folder.trial()
    assert ("broken", "error", "OSError: no space") == (trial["verdict"], trial["outcome"], trial["reason"])
    assert 80 == trial["load"]["offered"]


@pytest.mark.parametrize("added", ["pathlib.Path()", "float('nan')"])
def test_an_addition_that_is_no_json_is_left_out(folder: ExperimentFolder, added: str) -> None:
    """A report that the hook spoils is written as it was before, and the summary says so."""
    add_to_conftest(folder, f"import pathlib\ndef pytest_aefm_report(report):\n    report['run']['more'] = {added}\n")
    folder.test()
    result = folder.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*AEFM problems*", "pytest_aefm_report: *the report is written without*"])
    assert "more" not in folder.report()["run"]
    assert 1 == len(folder.report()["trials"])


def test_a_trial_that_is_no_json_is_broken(folder: ExperimentFolder) -> None:
    """What a replaced testbed says of itself may be no JSON: its trial is broken, and says why."""
    folder.use("no-json")
    folder.test()
    folder.run().assert_outcomes(errors=1)
    assert "what came of it is no JSON" in folder.trial()["reason"]


def test_raising_hook_is_broken(folder: ExperimentFolder) -> None:
    """A hook of a case that raises makes its trial broken."""
    add_to_conftest(folder, "def pytest_aefm_case_start(case):\n    raise OSError('no space')\n")
    folder.test()
    folder.run().assert_outcomes(errors=1)
    assert "OSError: no space" in folder.trial()["reason"]


def test_raising_end_is_told(folder: ExperimentFolder) -> None:
    """A hook that raises at the end of the session is told in the summary, and the report is written."""
    add_to_conftest(folder, "def pytest_aefm_experiment_finish(experiment):\n    raise OSError('no space')\n")
    folder.test()
    result = folder.run()
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*AEFM cleanup*", "*no space*"])
    assert "passed" == folder.trial()["verdict"]
