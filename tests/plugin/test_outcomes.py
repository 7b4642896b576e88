"""What pytest makes of each verdict: F tells of the application, E of the experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder


def test_passed(folder: ExperimentFolder) -> None:
    """A case whose SLOs hold passes, and its entry says so."""
    folder.test('slos=["p95 < 1s"]')
    result = folder.run()
    result.assert_outcomes(passed=1)
    trial = folder.trial()
    assert ("passed", "passed", 80, 80) == (
        trial["verdict"],
        trial["outcome"],
        trial["load"]["offered"],
        trial["load"]["outcomes"]["success"],
    )


def test_violated_fails(folder: ExperimentFolder) -> None:
    """A violated SLO fails the test with metric, observed value and limit in the first line, then the table."""
    folder.test('script="slow.lua", slos=["p95 < 5ms"]')
    result = folder.run()
    result.assert_outcomes(failed=1)
    assert 1 == result.ret
    result.stdout.re_match_lines(
        [r"E +.*SLOViolated: p95 ([5-9]\d\d ms|\d\S* s), limit < 5 ms", r"E +metric +limit +observed +bounds +off by"]
    )
    assert ("violated", "failed") == (folder.trial()["verdict"], folder.trial()["outcome"])


def test_traceback_is_the_users_line(folder: ExperimentFolder) -> None:
    """The failure shows the line that called aefm_run and nothing of the plugin."""
    folder.test('slos=["p95 < 1us"]')
    output = folder.run().stdout.str()
    assert ">       aefm_run()" in output or ">   aefm_run()" in output
    assert "pytest_aefm/" not in output


def test_errors_are_judged_before_latency(folder: ExperimentFolder) -> None:
    """A run whose requests all fail is violated by its goodput, not passed by its fast answers."""
    folder.test('script="fail.lua", slos=["p95 < 1s"]')
    folder.use()
    # The smoke request would stop a script of which no request succeeds, so that only half of them fail here.
    Path(folder.path / "fail.lua").write_text(
        'local n = 0\nfunction request() n = n + 1\n return wrk.format("GET", n % 2 == 0 and "/fail" or "/ok") end\n'
    )
    folder.run().assert_outcomes(failed=1)
    trial = folder.trial()
    assert ("violated", 0.5) == (trial["verdict"], trial["metrics"]["goodput"])
    assert trial["reason"].startswith("goodput 50 %, limit >= 99 %")


def test_a_hopeless_run_is_violated_whatever_slos_say(folder: ExperimentFolder) -> None:
    """It ends early, and its beginning does not save it."""
    folder.test(
        'script="fail.lua", rate=50, duration=60, abort="error_rate>90%:500ms", '
        'slos=["goodput >= 0%", "error_rate <= 100%"]'
    )
    Path(folder.path / "fail.lua").write_text(
        'local n = 0\nfunction request() n = n + 1\n return wrk.format("GET", n > 20 and "/fail" or "/ok") end\n'
    )
    result = folder.run()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"E +.*SLOViolated: hopeless, ended .* s after its start: error_rate"])
    trial = folder.trial()
    assert ("violated", "abort") == (trial["verdict"], trial["load"]["ended_by"])
    assert ["passed", "passed"] == [slo["verdict"] for slo in trial["slos"] if slo["metric"] != "restarts"]
    assert trial["window"]["duration_s"] < 60


def test_a_window_that_ended_early_is_judged_as_it_was(folder: ExperimentFolder) -> None:
    """Rates are those of the window that there was, and the records of its requests are kept."""
    folder.test('rate=50, duration=60, precision="p95:90%", requests=True, slos=["p95 < 10s"]')
    folder.run().assert_outcomes(passed=1)
    trial = folder.trial()
    seconds, load = trial["window"]["duration_s"], trial["load"]
    assert ("precision", True) == (load["ended_by"], seconds < 60)
    assert 50 * seconds == load["offered"] == load["outcomes"]["success"]
    assert 50.0 == trial["metrics"]["achieved_rps"]
    assert any(path.endswith("/requests.bin") for path in trial["artifacts"])


def test_check_false_returns_the_trial(folder: ExperimentFolder) -> None:
    """check=False leaves the judgement to the test; table and entry show verdict and outcome."""
    folder.test('slos=["p95 < 1us"]', body='assert aefm_run(check=False).verdict == "violated"')
    result = folder.run()
    result.assert_outcomes(passed=1)
    assert ("violated", "passed") == (folder.trial()["verdict"], folder.trial()["outcome"])
    result.stdout.fnmatch_lines(["*violated (passed)"])


def test_check_false_does_not_silence_invalid(folder: ExperimentFolder) -> None:
    """An apparatus that cannot be trusted raises even with check=False."""
    folder.use("steal")
    folder.test(body="aefm_run(check=False)")
    folder.run().assert_outcomes(errors=1)


def test_invalid_is_an_error(folder: ExperimentFolder) -> None:
    """A failed self-check is an error that names the check and its figures; exit 1."""
    folder.use("steal")
    folder.test('slos=["p95 < 1us"]')
    result = folder.run("-v")
    result.assert_outcomes(errors=1)
    assert 1 == result.ret
    result.stdout.fnmatch_lines(
        ["*::test_it?shop-200rps? INVALID*", "*a hypervisor took 20% of a used core, limit 10%*"]
    )
    trial = folder.trial()
    assert ("invalid", "error") == (trial["verdict"], trial["outcome"])
    assert ["invalid", "violated"] == [finding["verdict"] for finding in trial["findings"]]


def test_broken_setup_is_an_error_with_an_entry(folder: ExperimentFolder) -> None:
    """An application that does not come up is a broken trial, told in one line without a traceback."""
    folder.use("deploy")
    folder.test()
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*DeploymentError: app 'shop': not ready after 1 s; see its log"])
    assert "Traceback" not in result.stdout.str()
    assert "small_testbed.py" not in result.stdout.str()
    assert ("broken", "error") == (folder.trial()["verdict"], folder.trial()["outcome"])


def test_broken_interference(folder: ExperimentFolder) -> None:
    """Interference that does not start breaks its own cases alone."""
    folder.use("disturb")
    folder.test("cpu=[0, 1]")
    folder.run().assert_outcomes(passed=1, errors=1)
    assert {"shop-cpu0-200rps": "passed", "shop-cpu1-200rps": "broken"} == {
        trial["case"]: trial["verdict"] for trial in folder.report()["trials"]
    }


def test_unproven_dose_is_invalid(folder: ExperimentFolder) -> None:
    """Interference that nothing proves makes the trial invalid."""
    folder.use("no-dose")
    folder.test("cpu=1")
    folder.run().assert_outcomes(errors=1)
    assert ("invalid", "cpu: nothing proves that the dose was delivered") == (
        folder.trial()["verdict"],
        folder.trial()["reason"],
    )


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lost-stressor", "interference pod p: is taken away: PreemptionByScheduler"),
        ("lost-load", "load from the cluster: pod p is taken away: EvictionByEvictionAPI"),
    ],
)
def test_a_pod_of_ours_that_is_taken_away_is_invalid(folder: ExperimentFolder, fault: str, reason: str) -> None:
    """In a fixture or in the call: an error of the apparatus, not of the experiment."""
    folder.use(fault)
    folder.test("cpu=1")
    result = folder.run("-v")
    result.assert_outcomes(errors=1)
    trial = folder.trial()
    assert ("invalid", "error", reason) == (trial["verdict"], trial["outcome"], trial["reason"])
    assert "Traceback" not in result.stdout.str()


def test_a_bug_is_broken(folder: ExperimentFolder) -> None:
    """Whatever else escapes is broken, not a crash of the run."""
    folder.use("bug")
    folder.test()
    folder.run().assert_outcomes(errors=1)
    assert "ZeroDivisionError: a bug in the testbed" == folder.trial()["reason"]


def test_broken_in_the_call_is_the_users_line(folder: ExperimentFolder) -> None:
    """What breaks a trial in the call is told without a page of the plugin's source."""
    folder.test('script="fail.lua"')
    output = folder.run().stdout.str()
    assert "Broken: smoke requests of fail.lua" in output
    assert "pytest_aefm/" not in output
    assert "direct cause" not in output


def test_smoke_requests_that_fail_are_broken(folder: ExperimentFolder) -> None:
    """A script of which no request succeeds is broken before its load runs."""
    folder.test('script="fail.lua"')
    result = folder.run()
    result.assert_outcomes(errors=1)
    assert "smoke requests of fail.lua: none succeeded" in folder.trial()["reason"]


def test_lua_syntax_error_is_found_before_deployment(folder: ExperimentFolder) -> None:
    """A Lua error is a broken trial with file and line, and nothing was deployed for it."""
    folder.path.joinpath("bad.lua").write_text("function request(\n  return 1\nend\n")
    folder.test('script="bad.lua"')
    folder.run().assert_outcomes(errors=1)
    assert "bad.lua:2" in folder.trial()["reason"]
    assert [] == folder.asked()


def test_lua_error_in_a_request_is_found_dry(folder: ExperimentFolder) -> None:
    """An error that only a call of request() shows is found by the dry run, too."""
    folder.path.joinpath("bad.lua").write_text("function request()\n  return nothing.at_all\nend\n")
    folder.test('script="bad.lua"')
    folder.run().assert_outcomes(errors=1)
    assert "bad.lua:2" in folder.trial()["reason"]


def test_empty_series_is_no_data_and_fails(folder: ExperimentFolder) -> None:
    """A metric without samples is never a pass; a collector that was not there is the experiment's fault."""
    folder.use("collector")
    folder.test('slos=["self_time(rate, p95) < 1s"]')
    folder.run().assert_outcomes(errors=1)
    assert "collector 'failing' failed: failing: connection refused" in folder.trial()["reason"]


def test_failed_collector_is_recorded(folder: ExperimentFolder) -> None:
    """A collector that fails and that no SLO needs is recorded with its reason, and breaks nothing."""
    folder.use("collector")
    folder.test()
    folder.run().assert_outcomes(passed=1)
    state = folder.trial()["collectors"]["failing"]
    assert (False, "failing: connection refused") == (state["ok"], state["reason"])


def test_xfail_hides_violated(folder: ExperimentFolder) -> None:
    """An expected violation is xfailed."""
    folder.test('slos=["p95 < 1us"]', body="import pytest; aefm_run()")
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace("def test_it", "@pytest.mark.xfail\ndef test_it"))
    folder.run().assert_outcomes(xfailed=1)
    assert ("violated", "xfailed") == (folder.trial()["verdict"], folder.trial()["outcome"])


@pytest.mark.parametrize("fault", ["steal", "bug", "deploy"])
def test_xfail_never_hides_the_experiments_failure(folder: ExperimentFolder, fault: str) -> None:
    """Invalid and broken stay errors under xfail, in setup and in the call."""
    folder.use(fault)
    folder.test()
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace("def test_it", "@pytest.mark.xfail\ndef test_it"))
    folder.run().assert_outcomes(errors=1)


def test_x_stops_at_an_error_of_the_call(folder: ExperimentFolder) -> None:
    """-x works with broken and invalid calls."""
    folder.use("steal")
    folder.test("rate=[150, 200], order='cost'")
    result = folder.run("-x")
    result.assert_outcomes(errors=1)
    assert 1 == len(folder.report()["trials"])


def test_inconclusive_fails_by_default(folder: ExperimentFolder) -> None:
    """Statistics that cannot decide fail the test."""
    mixed = (
        'local n = 0\nfunction request() n = n + 1\n return wrk.format("GET", n % 20 == 0 and "/slow" or "/ok") end\n'
    )
    folder.path.joinpath("mixed.lua").write_text(mixed)
    folder.test('script="mixed.lua", slos=["p95 < 450ms"]')
    folder.run().assert_outcomes(failed=1)
    assert "inconclusive" == folder.trial()["verdict"]


@pytest.mark.parametrize(("choice", "outcomes"), [("warn", {"passed": 1, "warnings": 1}), ("pass", {"passed": 1})])
def test_inconclusive_by_option(folder: ExperimentFolder, choice: str, outcomes: dict[str, int]) -> None:
    """--aefm-inconclusive lets it pass, with a warning or without."""
    mixed = (
        'local n = 0\nfunction request() n = n + 1\n return wrk.format("GET", n % 20 == 0 and "/slow" or "/ok") end\n'
    )
    folder.path.joinpath("mixed.lua").write_text(mixed)
    folder.test('script="mixed.lua", slos=["p95 < 450ms"]')
    folder.run(f"--aefm-inconclusive={choice}", subprocess=True).assert_outcomes(**outcomes)
    assert "inconclusive" == folder.trial()["verdict"]


def test_observe_judges_and_fails_nothing(folder: ExperimentFolder) -> None:
    """--aefm-observe reports the violation and lets the test pass."""
    folder.test('slos=["p95 < 1us"]')
    folder.run("--aefm-observe").assert_outcomes(passed=1)
    assert ("violated", "passed") == (folder.trial()["verdict"], folder.trial()["outcome"])


def test_never_called_is_broken(folder: ExperimentFolder) -> None:
    """A test that has aefm_run and does not call it is broken."""
    folder.test(body="pass")
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the test never called aefm_run*"])
    assert "broken" == folder.trial()["verdict"]
    assert folder.trial()["started_wall_s"] > 0


def test_a_replaced_aefm_run_leaves_no_trial(folder: ExperimentFolder) -> None:
    """A fixture that replaces aefm_run altogether is the user's own: nobody waits for its trial."""
    conftest = folder.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\n@pytest.fixture\ndef aefm_run():\n    return lambda: None\n")
    folder.test()
    folder.run().assert_outcomes(passed=1)


def test_own_failure_before_the_call_is_a_failure(folder: ExperimentFolder) -> None:
    """A test that fails by itself before it calls aefm_run is a plain failure."""
    folder.test(body="assert False")
    folder.run().assert_outcomes(failed=1)


def test_second_call_is_an_error(folder: ExperimentFolder) -> None:
    """A second call is refused, naming factors and rounds."""
    folder.test(body="aefm_run(); aefm_run()")
    result = folder.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*aefm_run was called twice*factors or rounds*"])


def test_application_alone_leaves_no_trial(folder: ExperimentFolder) -> None:
    """A test with aefm_app only is legal and leaves no trial and no report."""
    folder.test(body="assert aefm_app.url")
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace("aefm_run", "aefm_app"))
    folder.run().assert_outcomes(passed=1)
    assert not (folder.path / "aefm-report.json").exists()


def test_skipped_test_runs_nothing(folder: ExperimentFolder) -> None:
    """A skipped case deploys nothing."""
    folder.test()
    path = next(folder.path.glob("test_*.py"))
    path.write_text(path.read_text().replace("def test_it", "@pytest.mark.skip\ndef test_it"))
    folder.run().assert_outcomes(skipped=1)
    assert [] == folder.asked()


def test_leftovers_are_told_and_fail_the_run(folder: ExperimentFolder) -> None:
    """What could not be removed is in the report and the summary, blames no test, and makes the exit 1."""
    folder.use("leftover")
    folder.test()
    result = folder.run()
    result.assert_outcomes(passed=1)
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*AEFM cleanup*", "process 4711 would not end"])
    assert ["process 4711 would not end"] == folder.report()["run"]["cleanup"]


def test_junit_properties(folder: ExperimentFolder) -> None:
    """JUnit XML has p50, p99, goodput and verdict as properties."""
    folder.test()
    folder.run("--junitxml=junit.xml").assert_outcomes(passed=1)
    xml = folder.path.joinpath("junit.xml").read_text()
    for name in ("p50", "p99", "goodput"):
        assert f'<property name="{name}" value="' in xml
    assert '<property name="verdict" value="passed"' in xml
