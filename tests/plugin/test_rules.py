"""Rules of living with pytest and xdist that no other file holds: markers, messages, workers, leftovers, handlers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_aefm.journal import read_journal

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

_ONE = 'import pytest\n\n@pytest.mark.aefm(app="shop", script="ok.lua", rate=200, duration=1)\n'


def add_to_conftest(folder: ExperimentFolder, source: str) -> None:
    """Append to the folder's conftest."""
    path = folder.path / "conftest.py"
    path.write_text(path.read_text() + "\n" + source)


def collected(result: pytest.RunResult) -> list[str]:
    """Return the node ids that --collect-only -q printed, without their file."""
    return [line.partition("::")[2] for line in result.outlines if "::" in line]


# Markers


def test_marker_is_known(folder: ExperimentFolder) -> None:
    """The marker is registered, and strict markers take it."""
    folder.test()
    folder.run("--markers").stdout.fnmatch_lines(["@pytest.mark.aefm(*experiment, app=...*"])
    assert 0 == folder.run("--strict-markers", "--collect-only").ret


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            _ONE + "@pytest.mark.aefm(rate=[100])\ndef test_it(aefm_run): pass",
            "*::test_it: rate: two markers at the same level say ?100? and 200; expected one value; keep one of them",
        ),
        (
            _ONE + "class TestIt:\n    pytestmark = [pytest.mark.aefm(factors={'a': 1, 'b': 2}), "
            "pytest.mark.aefm(factors={'a': 3})]\n    def test_it(self, aefm_run): pass",
            "*::TestIt::test_it: factors.a: two markers at the same level say 1 and 3; *",
        ),
        (
            "import pytest\npytestmark = [pytest.mark.aefm('a.yaml'), pytest.mark.aefm('b.yaml')]\n"
            "def test_it(aefm_run): pass",
            "*::test_it: path: two markers at the same level say ('a.yaml',) and ('b.yaml',); *",
        ),
    ],
)
def test_contradictory_markers_are_refused(folder: ExperimentFolder, source: str, words: str) -> None:
    """Two markers at the same level that say different things are refused: neither is the closest."""
    folder.pytester.makepyfile(source)
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    result.stdout.fnmatch_lines([words])
    assert [] == folder.asked()


def test_markers_of_one_level_that_agree_merge(folder: ExperimentFolder) -> None:
    """Markers of one level may share the work; a class's own marker is closer than that of its base."""
    folder.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.aefm(app="shop", duration=1, rate=100)
        class Base:
            pass

        @pytest.mark.aefm(rate=200)
        @pytest.mark.aefm(script="ok.lua", rate=200)
        class TestIt(Base):
            def test_it(self, aefm_run):
                aefm_run()
        """
    )
    assert ["TestIt::test_it[shop-200rps]"] == collected(folder.run("--collect-only", "-q"))


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("rate=[]", "*::test_it: rate: expected at least one value, got none"),
        ("exclude=[{'rate': 200}]", "*::test_it: exclude: it leaves no case; expected at least one case"),
        ("factors={'p': ['a b', 'a_b']}", "*::test_it: factors.p?1?: 'a b' and 'a_b' are both 'pa_b' in the ids of *"),
        ("factors={'p': ['a', 'A']}", "*::test_it: factors.p?1?: 'a' and 'A' are both 'pA' in the ids of cases; *"),
        ("orders=['rate', 'cpuu']", "*::test_it: orders?1?: unknown factor 'cpuu'; expected one of rate*"),
    ],
)
def test_a_matrix_without_meaning_is_refused(folder: ExperimentFolder, marker: str, words: str) -> None:
    """An empty matrix, ids that would be equal, and unknown factors are found before anything is parametrized."""
    folder.test(marker)
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    result.stdout.fnmatch_lines([words])
    assert [] == folder.asked()


def test_mistakes_are_told_once_by_all_workers(folder: ExperimentFolder) -> None:
    """Every worker words a mistake alike, so that xdist prints it once, without a traceback."""
    folder.test("rats=[1]")
    output = folder.run("-n2", subprocess=True).stdout.str()
    assert 1 == output.count("ERROR collecting")
    assert "::test_it: rats: unknown key; did you mean 'rate'?" in output
    assert "Traceback" not in output


def test_parameters_of_a_wider_scope_stay_together(folder: ExperimentFolder) -> None:
    """A module's parametrized fixture is set up once for each of its values; the plan's order stays."""
    folder.pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module", params=["v1", "v2"])
        def version(request):
            return request.param

        @pytest.mark.aefm(app="shop", script="ok.lua", rate=[200, 150], duration=1, order="cost")
        def test_it(aefm_run, version):
            aefm_run()
        """
    )
    found = collected(folder.run("--collect-only", "-q"))
    rates = [("200rps" if "200rps" in line else "150rps", "v1" if "v1" in line else "v2") for line in found]
    assert [("200rps", "v1"), ("150rps", "v1"), ("200rps", "v2"), ("150rps", "v2")] == rates


def test_a_test_without_the_marker_is_refused(folder: ExperimentFolder) -> None:
    """A test that asks for a case and has no marker is told what it lacks, however it asks."""
    folder.pytester.makepyfile(
        test_run="def test_run(aefm_run): aefm_run()",
        test_machine="def test_machine(aefm_machine): pass",
        test_late='def test_late(request): request.getfixturevalue("aefm_run")',
    )
    output = folder.run("--continue-on-collection-errors").stdout.str()
    for name, fixture in (("run", "aefm_run"), ("machine", "aefm_machine"), ("late", "aefm_case")):
        assert f"::test_{name}: uses {fixture} and has no marker 'aefm'; add @pytest.mark.aefm(...)" in output
    assert "KeyError" not in output


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import unittest\n@pytest.mark.aefm(app='shop', script='ok.lua', rate=200, duration=1)\n"
            "class TestIt(unittest.TestCase):\n    def test_it(self): pass",
            "::TestIt::test_it: the marker 'aefm' has no effect on a method of unittest.TestCase",
        ),
        (
            "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.aefm(app='shop', rate=200))])\n"
            "def test_it(a): pass",
            "::test_it[1]: the marker 'aefm' has no effect in pytest.param()",
        ),
    ],
)
def test_a_marker_without_effect_is_refused(folder: ExperimentFolder, source: str, words: str) -> None:
    """Where the marker cannot make cases, pytest ends with a message; on a worker the test is an error."""
    folder.pytester.makepyfile(f"import pytest\n{source}\n")
    result = folder.run()
    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert words in result.stderr.str()
    result = folder.run("-n1", subprocess=True)
    result.assert_outcomes(errors=1)
    assert words in result.stdout.str()


@pytest.mark.parametrize("answer", ["1 / 0", "'soon'", "float('nan')"])
def test_a_cost_that_is_no_number_is_named(folder: ExperimentFolder, answer: str) -> None:
    """A hook of a case's cost that fails, or gives no number, ends the plan with a message, and breaks the cases."""
    add_to_conftest(folder, f"def pytest_aefm_case_cost(case):\n    return {answer}\n")
    folder.test()
    plan = folder.run("--aefm-plan")
    assert pytest.ExitCode.USAGE_ERROR == plan.ret
    assert "pytest_aefm_case_cost: " in plan.stderr.str()
    folder.run().assert_outcomes(errors=1)
    assert "expected a number of seconds, or None" in folder.trial()["reason"]


def test_a_misspelt_service_is_refused(folder: ExperimentFolder) -> None:
    """An SLO on a service that the application has not is found at collection, with the nearest name."""
    folder.test('slos=["cpu(serach) < 80%"]')
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace('"shop"', '"hotel"'))
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    result.stdout.fnmatch_lines(
        ["*: slos?0?: cpu(serach) < 80%: hotel has no service 'serach'; *did you mean 'search'?"]
    )


# Outcomes


def test_no_samples_fail(folder: ExperimentFolder) -> None:
    """A metric that nothing observed is no_data, and the test fails: that is the application's matter."""
    folder.test('slos=["self_time(rate, p95) < 1s"]')
    folder.run().assert_outcomes(failed=1)
    assert ("no_data", "failed") == (folder.trial()["verdict"], folder.trial()["outcome"])


def test_exceptions_carry_the_trial(folder: ExperimentFolder) -> None:
    """What aefm_run raises is a public name with the trial on it."""
    body = (
        "import pytest_aefm\n"
        "    with pytest.raises(pytest_aefm.SLOViolated) as caught: aefm_run()\n"
        "    assert ('violated', 80) == (caught.value.trial.verdict, caught.value.trial.load.offered)\n"
        "    assert isinstance(caught.value, AssertionError)"
    )
    folder.test('slos=["p95 < 1us"]', body=body)
    folder.run().assert_outcomes(passed=1)


def test_junit_of_an_invalid_case(folder: ExperimentFolder) -> None:
    """JUnit has an invalid call as a failure, and its verdict as a property."""
    folder.use("steal")
    folder.test()
    folder.run("--junitxml=junit.xml").assert_outcomes(errors=1)
    xml = folder.path.joinpath("junit.xml").read_text()
    assert "<failure message=" in xml
    assert '<property name="verdict" value="invalid"' in xml


def test_skipping_inside_leaves_no_trial(folder: ExperimentFolder) -> None:
    """A test that skips itself before it calls aefm_run is skipped, not broken."""
    folder.test(body="pytest.skip('not today')")
    folder.run().assert_outcomes(skipped=1)
    assert not (folder.path / "aefm-report.json").exists()


def test_the_case_alone_deploys_nothing(folder: ExperimentFolder) -> None:
    """A test with aefm_case only is legal: it deploys nothing and leaves no trial."""
    folder.pytester.makepyfile(_ONE + "def test_it(aefm_case): assert 200 == aefm_case.load.rate_rps")
    folder.run().assert_outcomes(passed=1)
    assert [] == folder.asked()
    assert not (folder.path / "aefm-report.json").exists()


@pytest.mark.parametrize(
    ("fault", "call", "reason"), [("deploy", "()", "not ready"), ("", "", "never called aefm_run")]
)
def test_asked_for_late_is_no_lost_trial(folder: ExperimentFolder, fault: str, call: str, reason: str) -> None:
    """What getfixturevalue("aefm_run") cannot set up, or what is not called then, is a broken trial, too."""
    folder.use(fault)
    source = f'def test_it(request, aefm_testbed):\n    request.getfixturevalue("aefm_run"){call}'
    folder.pytester.makepyfile(_ONE + source)
    folder.run().assert_outcomes(errors=1)
    trial = folder.trial()
    assert ("broken", "error") == (trial["verdict"], trial["outcome"])
    assert reason in trial["reason"]


@pytest.mark.parametrize("failure", ["raise OSError('no disk')", "pytest.fail('no disk')"])
def test_xfail_does_not_hide_a_broken_setup(folder: ExperimentFolder, failure: str) -> None:
    """A fixture of the user's that fails breaks the case, and an expected failure does not hide it."""
    add_to_conftest(folder, f"@pytest.fixture\ndef disk():\n    {failure}\n")
    folder.pytester.makepyfile(_ONE + "@pytest.mark.xfail\ndef test_it(disk, aefm_run): aefm_run()")
    folder.run().assert_outcomes(errors=1)
    trial = folder.trial()
    assert ("broken", "error", "no disk") == (trial["verdict"], trial["outcome"], trial["reason"])


def test_failing_inside_a_case_is_broken(folder: ExperimentFolder) -> None:
    """pytest.fail() in the middle of a trial, as a limit of time does it, breaks the trial and names the phase."""
    add_to_conftest(folder, "def pytest_aefm_collect_start(case):\n    pytest.fail('Timeout (>1.0s)')\n")
    folder.test()
    folder.run().assert_outcomes(errors=1)
    trial = folder.trial()
    assert ("broken", "error") == (trial["verdict"], trial["outcome"])
    assert [("load", "Failed: Timeout (>1.0s)")] == [
        (finding["subject"], finding["message"]) for finding in trial["findings"]
    ]


# Messages and files


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_messages_are_arrays_and_come_live(folder: ExperimentFolder, workers: tuple[str, ...]) -> None:
    """Each message is a string with a JSON array; all of a test come to the controller before its call ends."""
    add_to_conftest(
        folder,
        """
import itertools
import json

def pytest_runtest_logreport(report):
    if not hasattr(report, "node") and "PYTEST_XDIST_WORKER" in __import__("os").environ:
        return
    if report.when == "aefm":
        assert type(report.aefm) is str
        kinds = [message["kind"] for message in json.loads(report.aefm)]
    else:
        kinds = [report.when]
    with open("events.txt", "a") as file:
        file.write(" ".join(kinds) + "\\n")
""",
    )
    folder.test()
    folder.run(*workers, subprocess=True).assert_outcomes(passed=1)
    told = (folder.path / "events.txt").read_text().split()
    assert ["trial", "call", "teardown"] == told[-3:]
    assert {"phase", "testbed", "setup"} == set(told[:-3])
    assert told.index("phase") < len(told) - 4


def test_a_later_run_leaves_the_runs_before(folder: ExperimentFolder) -> None:
    """A quick run of one case replaces the copy, and nothing in the folder of the run before."""
    folder.test("rate=[150, 200]")
    folder.run().assert_outcomes(passed=2)
    (first,) = folder.path.glob(".aefm/runs/*/report.json")
    before = first.read_bytes()
    folder.run("-k", "150rps", subprocess=True).assert_outcomes(passed=1, deselected=1)
    assert before == first.read_bytes()
    assert 2 == len(json.loads(before)["trials"])
    assert 1 == len(folder.report()["trials"])


def test_paths_from_a_subfolder(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started in a subfolder, an option's path is relative to it, an ini value's to rootdir."""
    ini = folder.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naefm_journal = from-ini.jsonl\n")
    folder.test()
    (folder.path / "sub").mkdir()
    monkeypatch.chdir(folder.path / "sub")
    command = [sys.executable, "-m", "pytest", f"--rootdir={folder.path}", "-c", str(ini), "--aefm-report=here.json"]
    subprocess.run([*command, str(folder.path)], capture_output=True, check=False)
    assert (folder.path / "sub" / "here.json").exists()
    assert (folder.path / "from-ini.jsonl").exists()


def test_no_option_eats_what_follows(folder: ExperimentFolder) -> None:
    """No option takes a value or none: `--aefm-observe experiments/` would eat the folder."""
    text = folder.run("--help").stdout.str()
    section = text.partition("microservice performance experiments")[2].partition("\n\n")[0]
    assert "--aefm-observe" in section
    assert "[" not in "".join(line for line in section.splitlines() if line.lstrip().startswith("--"))


def test_groups_of_xdist_are_no_part_of_an_identity(folder: ExperimentFolder) -> None:
    """The group that --dist=loadgroup may append to a node id is not in the trial's id."""
    folder.pytester.makepyfile(
        _ONE.replace("duration=1", "duration=0.4, connections=96, warmup=0")
        + '@pytest.mark.xdist_group("one")\ndef test_it(aefm_run): aefm_run()'
    )
    folder.run("-n1", "--dist=loadgroup", subprocess=True).assert_outcomes(passed=1)
    assert folder.trial()["id"].endswith("::test_it[shop-200rps]")


# Workers, ends, handlers


def test_workers_share_the_controllers_seed(folder: ExperimentFolder) -> None:
    """Without --aefm-seed all workers collect the order of one seed, which the report records."""
    folder.use("deploy")  # quick: what matters is which tests there are
    path = folder.path / "test_seed.py"
    path.write_text(
        'import pytest\n\n@pytest.mark.aefm(app="shop", script="ok.lua", rate=list(range(150, 158)), rounds=2, '
        "duration=1)\ndef test_it(aefm_run): aefm_run()\n"
    )
    result = folder.run("-n2", subprocess=True)
    result.assert_outcomes(errors=16)
    assert "Different tests" not in result.stdout.str()
    seed = folder.report()["run"]["seed"]
    assert 16 == len(collected(folder.run("--collect-only", "-q", f"--aefm-seed={seed}")))


def test_leftovers_of_workers_reach_the_report(folder: ExperimentFolder) -> None:
    """What a worker could not remove is in the controller's report and summary, and makes the exit 1."""
    folder.use("leftover")
    folder.test("rate=[150, 200]")
    result = folder.run("-n2", subprocess=True)
    result.assert_outcomes(passed=2)
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*AEFM cleanup*", "process 4711 would not end"])
    assert {"process 4711 would not end"} == set(folder.report()["run"]["cleanup"])


def test_sigterm_has_its_handler_back(pytester: pytest.Pytester) -> None:
    """While a testbed lives SIGTERM ends the session in order; then the handler from before is back."""
    pytester.makeconftest(
        """
        import signal
        def before(*_): pass
        def pytest_configure():
            signal.signal(signal.SIGTERM, before)
        def pytest_unconfigure():
            print("back:", signal.getsignal(signal.SIGTERM) is before)
        """
    )
    pytester.makepyfile(
        """
        import signal
        def test_it(aefm_testbed):
            print("replaced:", signal.getsignal(signal.SIGTERM).__name__)
        """
    )
    result = pytester.runpytest_subprocess("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*replaced: _exit*", "*back: True*"])


def test_sigterm_of_the_controller_keeps_the_report(folder: ExperimentFolder) -> None:
    """Under -n 2 SIGTERM ends the workers, too; the report holds every finished trial, and the exit is 2."""
    folder.test("rate=list(range(150, 250))")
    command = [sys.executable, "-m", "pytest", "-n2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        deadline = time.monotonic() + 60
        while not any('"kind":"trial"' in path.read_text() for path in folder.path.glob(".aefm/runs/*/journal.jsonl")):
            assert time.monotonic() < deadline, "no case ended"
            assert run.poll() is None, "pytest ended by itself"
            time.sleep(0.05)
        others = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
    assert 2 == run.returncode
    (journal,) = folder.path.glob(".aefm/runs/*/journal.jsonl")
    told = [message["trial"]["id"] for message in read_journal(journal) if message["kind"] == "trial"]
    assert told == [trial["id"] for trial in folder.report()["trials"]]
    assert [] == psutil.wait_procs(others, timeout=10)[1]


_LOCAL = """
from pytest_aefm.testbeds.lease import MachineLease
from pytest_aefm.testbeds.local import LocalTestbed

def noting(kind, name):
    old = getattr(kind, name)
    def noted(self):
        print(f"{kind.__name__}.{name}")
        return old(self)
    setattr(kind, name, noted)

noting(MachineLease, "release")
noting(LocalTestbed, "close")
"""


def test_the_machine_is_given_away_last(pytester: pytest.Pytester) -> None:
    """Everything that runs on the machine is ended before others may have it."""
    pytester.makeconftest(_LOCAL)
    pytester.makepyfile("def test_it(aefm_testbed, aefm_lease): pass")
    result = pytester.runpytest_subprocess("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*LocalTestbed.close*", "*MachineLease.release*"])


def test_a_testbed_that_cannot_be_closed_blames_no_test(pytester: pytest.Pytester) -> None:
    """What closing raises is a line of the summary and makes the exit 1; the last test passes."""
    pytester.makeconftest(
        "from pytest_aefm.testbeds.local import LocalTestbed\n"
        "def close(self): raise OSError('gone')\n"
        "LocalTestbed.close = close\n"
    )
    pytester.makepyfile("def test_it(aefm_testbed): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*AEFM cleanup*", "local testbed: OSError: gone"])


def test_a_worker_that_cannot_stop_its_application_gives_the_machine_away(folder: ExperimentFolder) -> None:
    """Of several workers one whose application does not stop closes its testbed, and the others go on."""
    folder.use("vacate")
    folder.test("rate=[150, 200]")
    folder.run("-n2", subprocess=True).assert_outcomes(passed=2, errors=2)
    asked = folder.asked()
    assert ["close", "close"] == [after for before, after in itertools.pairwise(asked) if before == "vacate"]


def test_hooks_of_a_folder_see_its_own_cases(folder: ExperimentFolder) -> None:
    """A case hook in the conftest of a subfolder is called for the cases of that folder only."""
    for name in ("one", "two"):
        (folder.path / name).mkdir()
        source = _ONE.replace("duration=1", "duration=0.4, connections=96, warmup=0")
        (folder.path / name / f"test_{name}.py").write_text(f"{source}def test_{name}(aefm_run): aefm_run()\n")
    hook = "def pytest_aefm_case_finish(item):\n    open('seen.txt', 'a').write(item.name + '\\n')\n"
    (folder.path / "one" / "conftest.py").write_text(hook)
    folder.run(subprocess=True).assert_outcomes(passed=2)
    assert {"test_one[shop-200rps]"} == set((folder.path / "seen.txt").read_text().splitlines())


# Where other plugins are missing


@pytest.mark.parametrize("workers", [(), ("-n2",)])
@pytest.mark.parametrize("without", ["terminal", "cacheprovider", "xdist"])
def test_inert_with_warnings_as_errors(tmp_path: Path, without: str, workers: tuple[str, ...]) -> None:
    """In a project that does not use it the plugin warns of nothing and leaves no file, with and without workers."""
    if without == "xdist" and workers:
        pytest.skip("there are no workers without xdist")
    (tmp_path / "test_it.py").write_text("def test_it(): pass")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings =\n    error\n    ignore:Module already imported so cannot be rewritten. _editable\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", f"no:{without}", *workers]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # which workers inherit, unlike -B
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (0, ["pytest.ini", "test_it.py"]) == (done.returncode, sorted(path.name for path in tmp_path.iterdir()))


@pytest.mark.parametrize("without", ["terminal", "cacheprovider"])
def test_workers_without_other_plugins(folder: ExperimentFolder, without: str) -> None:
    """Under -n 2 cases run and are reported without pytest's terminal or its cache."""
    folder.test("rate=[150, 200]")
    assert 0 == folder.run("-n2", "-p", f"no:{without}", subprocess=True).ret
    assert ["passed", "passed"] == [trial["outcome"] for trial in folder.report()["trials"]]
