"""Where reports and journals go, with and without xdist, and that the plugin is inert where it is not used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from pytest_aefm.journal import read_journal
from pytest_aefm.report import Report

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())


def test_report_is_valid_and_says_where_it_lies(folder: ExperimentFolder) -> None:
    """The report follows its schema, lies in rootdir and in the run's folder, and the summary names both."""
    folder.test()
    result = folder.run()
    jsonschema.validate(folder.report(), SCHEMA)
    (own,) = folder.path.glob(".aefm/runs/*/report.json")
    assert folder.report() == json.loads(own.read_text())
    result.stdout.fnmatch_lines(["report: aefm-report.json  (this run: *"])
    assert {"kind": "local"} == folder.report()["run"]["testbed"]


def test_artifacts_lie_in_the_runs_folder(folder: ExperimentFolder) -> None:
    """A trial names its files relative to the run's folder, and they are there."""
    folder.test()
    folder.run().assert_outcomes(passed=1)
    (own,) = folder.path.glob(".aefm/runs/*")
    artifacts = folder.trial()["artifacts"]
    assert {"load.json", "load.log"} == {name.rpartition("/")[2] for name in artifacts}
    assert all((own / name).is_file() for name in artifacts)


def test_journal_holds_what_the_report_holds(folder: ExperimentFolder) -> None:
    """The journal rebuilds the report."""
    folder.test("rate=[150, 200]")
    folder.run().assert_outcomes(passed=2)
    (path,) = folder.path.glob(".aefm/runs/*/journal.jsonl")
    rebuilt = Report()
    for message in read_journal(path):
        rebuilt.apply(message)
    assert folder.report() == rebuilt.document()


def test_git_leaves_the_folder_of_runs_alone(folder: ExperimentFolder) -> None:
    """.aefm has a .gitignore for all of it, and what a user wrote there stays."""
    folder.test()
    folder.run()
    ignored = folder.path / ".aefm" / ".gitignore"
    assert "*" == ignored.read_text().splitlines()[-1]
    ignored.write_text("runs\n")
    folder.run()
    assert "runs\n" == ignored.read_text()


def test_aefm_report_rebuilds_from_the_journal(folder: ExperimentFolder) -> None:
    """`aefm report --from-journal` prints the report of a run."""
    folder.test()
    folder.run().assert_outcomes(passed=1)
    (path,) = folder.path.glob(".aefm/runs/*/journal.jsonl")
    command = [sys.executable, "-m", "pytest_aefm", "report", "--from-journal", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert folder.report() == json.loads(done.stdout)


def test_options_and_ini_choose_the_paths(folder: ExperimentFolder) -> None:
    """An option's path is relative to the current folder, an ini value's to rootdir; the option wins."""
    ini = folder.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naefm_report = from-ini.json\naefm_journal = from-ini.jsonl\n")
    folder.test()
    folder.run().assert_outcomes(passed=1)
    assert (folder.path / "from-ini.json").exists()
    assert (folder.path / "from-ini.jsonl").exists()
    folder.run("--aefm-report=from-option.json").assert_outcomes(passed=1)
    assert (folder.path / "from-option.json").exists()


def test_an_ini_path_concerns_experiments_alone(folder: ExperimentFolder) -> None:
    """A report's folder is made when it is written; one that cannot be is refused only where there are cases."""
    ini = folder.path / "tox.ini"
    usual = ini.read_text()
    ini.write_text(usual + "\naefm_report = tox.ini/x.json\n")
    plain = folder.path / "test_plain.py"
    plain.write_text("def test_it(): pass")
    folder.run("test_plain.py").assert_outcomes(passed=1)
    folder.test()
    assert pytest.ExitCode.USAGE_ERROR == folder.run().ret
    assert [] == folder.asked()
    ini.write_text(usual + "\naefm_report = build/some/x.json\n")
    folder.run().assert_outcomes(passed=2)
    assert (folder.path / "build" / "some" / "x.json").exists()


def test_no_trial_leaves_the_old_report(folder: ExperimentFolder) -> None:
    """A run that runs no case does not touch the report of an earlier one."""
    folder.test()
    (folder.path / "aefm-report.json").write_text("precious")
    folder.run("-k", "nothing")
    assert (folder.path / "aefm-report.json").read_text() == "precious"


def test_a_full_disk_takes_the_journal_alone(folder: ExperimentFolder) -> None:
    """A journal that cannot be written is told in the summary; the trials are in the report."""
    folder.test()
    result = folder.run("--aefm-journal=/dev/full")
    result.assert_outcomes(passed=1)
    assert 0 == result.ret
    result.stdout.fnmatch_lines(["*AEFM problems*", "journal /dev/full cannot be written: No space left on device"])
    assert 1 == len(folder.report()["trials"])


def test_xdist_writes_one_report(folder: ExperimentFolder) -> None:
    """Under -n 2 the controller writes one report with every case once, the worker and the outcome of each."""
    folder.test("rate=[150, 200], rounds=2")
    result = folder.run("-n2", "-v", subprocess=True)
    result.assert_outcomes(passed=4)
    report = folder.report()
    jsonschema.validate(report, SCHEMA)
    assert 4 == len({trial["id"] for trial in report["trials"]})
    assert {"passed"} == {trial["outcome"] for trial in report["trials"]}
    assert {trial["worker"] for trial in report["trials"]} <= {"gw0", "gw1"}
    assert 1 == len(list(folder.path.glob(".aefm/runs/*/journal.jsonl")))


def test_crashed_worker_leaves_a_broken_trial(folder: ExperimentFolder) -> None:
    """A worker that dies in mid-load leaves a broken trial with its last phase."""
    folder.use("exit-in-window")
    folder.test()
    result = folder.run("-n1", "--max-worker-restart=0", subprocess=True)
    assert 1 == result.ret
    trial = folder.trial()
    assert ("broken", "error", "the worker crashed in phase 'load'") == (
        trial["verdict"],
        trial["outcome"],
        trial["reason"],
    )


def test_a_worker_that_crashes_early_leaves_a_broken_trial(folder: ExperimentFolder) -> None:
    """A worker that dies before the first phase of a case leaves a broken trial with its factors, too."""
    conftest = folder.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\n@pytest.fixture\ndef early():\n    __import__('os')._exit(3)\n")
    folder.test("cpu=1")
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace("(aefm_run)", "(early, aefm_run)"))
    folder.run("-n1", "--max-worker-restart=0", subprocess=True)
    jsonschema.validate(folder.report(), SCHEMA)
    trial = folder.trial()
    assert ("broken", "error", "the worker crashed in phase 'setup'") == (
        trial["verdict"],
        trial["outcome"],
        trial["reason"],
    )
    assert 1 == trial["interference"][0]["count"]
    assert trial["started_wall_s"] > 0


def test_a_seed_of_the_command_line_wins(folder: ExperimentFolder) -> None:
    """--aefm-seed goes before the experiment's own; each trial records the one that decided."""
    folder.use("deploy")
    folder.test()
    folder.run("--aefm-seed=7").assert_outcomes(errors=1)
    assert (7, 7) == (folder.report()["run"]["seed"], folder.trial()["seed"])
    folder.run().assert_outcomes(errors=1)
    assert 1 == folder.trial()["seed"]


def test_table_shows_every_case(folder: ExperimentFolder) -> None:
    """The run ends with a table of rate, interference, p50, p99, goodput and verdict."""
    folder.test("cpu=[0, 2], orders=['cpu', 'rate']")
    folder.run().stdout.re_match_lines(
        [
            r"case +rate +interference +p50 +p99 +goodput +verdict",
            r"test_it\[shop-cpu0-200rps\] +200/s +- +[\d.]+ ms +[\d.]+ ms +100 % +passed",
            r"test_it\[shop-cpu2-200rps\] +200/s +cpu=2 +[\d.]+ ms +[\d.]+ ms +100 % +passed",
        ]
    )


@pytest.mark.parametrize("without", [(), ("-p", "no:terminal"), ("-p", "no:cacheprovider"), ("-p", "no:xdist")])
def test_inert_without_experiments(tmp_path: Path, without: tuple[str, ...]) -> None:
    """In a project that does not use it the plugin leaves no file and changes no outcome."""
    tmp_path.joinpath("test_it.py").write_text("def test_it(): pass")
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", *without]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (0, ["test_it.py"]) == (done.returncode, [path.name for path in tmp_path.iterdir()])


@pytest.mark.parametrize("without", [("-p", "no:terminal"), ("-p", "no:cacheprovider"), ("-p", "no:xdist")])
def test_runs_without_other_plugins(folder: ExperimentFolder, without: tuple[str, ...]) -> None:
    """Cases run and are reported without pytest's terminal, its cache, or xdist."""
    folder.test()
    assert 0 == folder.run(*without, subprocess=True).ret
    assert "passed" == folder.trial()["verdict"]


@pytest.mark.parametrize("module", ["kubernetes", "numpy", "pydantic", "requests", "rich", "yaml", "hdrh"])
def test_entry_point_imports_nothing_heavy(module: str) -> None:
    """Loading the plugin imports none of the heavy libraries."""
    code = f"import sys, pytest_aefm.plugin; sys.exit({module!r} in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code]).returncode


def test_help_says_the_defaults(pytester: pytest.Pytester) -> None:
    """Each option's help says its default."""
    output = pytester.runpytest_subprocess("--help").stdout.str()
    section = output.partition("microservice performance experiments")[2].partition("\n\n")[0]
    options = section.split("\n  --aefm-")[1:]
    assert len(options) > 20
    assert all("default" in part or part.startswith("plan") for part in options)


def test_workers_take_turns(folder: ExperimentFolder) -> None:
    """Under -n 2 no load runs inside another's, and each worker stops what it deployed before the next begins."""
    folder.test("rate=[150, 160, 170, 180]")
    folder.run("-n2", subprocess=True).assert_outcomes(passed=4)
    trials = sorted(folder.report()["trials"], key=lambda trial: trial["started_wall_s"])
    assert {"gw0", "gw1"} == {trial["worker"] for trial in trials}
    ends = [trial["window"]["start_wall_s"] + trial["window"]["duration_s"] for trial in trials]
    starts = [trial["started_wall_s"] for trial in trials]
    assert all(end <= start for end, start in zip(ends[:-1], starts[1:], strict=True))
    assert 4 == folder.asked().count("vacate")
