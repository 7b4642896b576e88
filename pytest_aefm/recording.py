"""From a test to messages, in the process that runs the test.

A Trial becomes a message on a test report of ``when="aefm"``, sent while the test still runs; pytest (and xdist)
carry it to the controller, which keeps the journal and the report (``controller.py``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aefm.settings import settings_of

if TYPE_CHECKING:
    from pytest_aefm.model import Case, Trial
    from pytest_aefm.testbeds import Testbed

__all__ = [
    "CLEANUP",
    "KEPT",
    "MESSAGE",
    "STATE",
    "ItemState",
    "broken_trial",
    "record",
    "record_tables",
    "tell",
    "told",
]

MESSAGE: Any = "aefm"
"""A phase of our own beside setup, call and teardown: the one channel that is live under xdist, too."""

CLEANUP = pytest.StashKey[list[str]]()
"""What could not be removed at the end, in the process that failed to."""

KEPT = pytest.StashKey[list[str]]()
"""What was left on purpose, and how to remove it."""


@dataclass
class ItemState:
    """What one attempt of one test has done; fresh at each setup."""

    case: Case
    attempt: int
    estimate_s: float = 0.0
    total: int = 1
    total_s: float = 0.0
    calls: int = 0
    trials: list[Trial] = field(default_factory=list)
    uses_run: bool = False
    phase: str = "setup"
    started_wall_s: float = field(default_factory=time.time)
    spent: dict[str, float] = field(default_factory=dict)


STATE = pytest.StashKey[ItemState]()
_ATTEMPTS = pytest.StashKey[int]()
_DESCRIBED = pytest.StashKey[bool]()
_PROPERTIES = ("p50", "p99", "goodput")


def new_state(item: pytest.Item, case: Case, **facts: Any) -> ItemState:
    """Begin an attempt of a test, numbering it (plugins that rerun keep the item)."""
    attempt = item.stash.get(_ATTEMPTS, 0) + 1
    item.stash[_ATTEMPTS] = attempt
    item.user_properties[:] = [own for own in item.user_properties if own[0] not in (*_PROPERTIES, "verdict")]
    item.stash[STATE] = ItemState(case, attempt, **facts)
    return item.stash[STATE]


def tell(item: pytest.Item, *messages: dict[str, Any]) -> None:
    """Send messages to the controller now, in the middle of the test."""
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="passed",
        longrepr=None,
        when=MESSAGE,
        aefm=json.dumps(messages, allow_nan=False),
    )
    item.ihook.pytest_runtest_logreport(report=report)


def tell_start(item: pytest.Item) -> None:
    """Tell that a test begins that is to leave a trial, and what its entry is should this process die."""
    from pytest_aefm.report import trial_entry

    state = item.stash[STATE]
    state.uses_run = True
    lost = trial_entry(broken_trial(state, ""), nodeid=item.nodeid, worker=settings_of(item.config).worker)
    tell_phase(item, state.phase, 0.0, entry=lost)


def tell_testbed(item: pytest.Item, testbed: Testbed) -> None:
    """Tell once in this process what the testbed knows of itself."""
    if item.config.stash.get(_DESCRIBED, False):
        return
    from pytest_aefm.model import as_json
    from pytest_aefm.redaction import redact

    item.config.stash[_DESCRIBED] = True
    state, facts = item.stash[STATE], redact(as_json(testbed.describe()))
    tell(item, {"kind": "testbed", "nodeid": item.nodeid, "attempt": state.attempt, "testbed": facts})


def tell_phase(item: pytest.Item, name: str, expected_s: float, **more: Any) -> None:
    """Tell that a phase of the test's trial begins."""
    state = item.stash[STATE]
    state.phase = name
    message = {
        "kind": "phase",
        "nodeid": item.nodeid,
        "case": state.case.id,
        "experiment": state.case.experiment,
        "app": state.case.app.name,
        "testbed": state.case.testbed,
        "factors": dict(state.case.factors),
        "worker": settings_of(item.config).worker,
        "attempt": state.attempt,
        "phase": name,
        "expected_s": expected_s,
        "warmup_s": state.case.load.warmup_s,
        "estimate_s": state.estimate_s,
        "total": state.total,
        "total_s": state.total_s,
        "at": time.time(),
        **more,
    }
    tell(item, message)


def broken_trial(
    state: ItemState,
    reason: str,
    *,
    subject: str = "",
    seen: Trial | None = None,
    error: BaseException | None = None,
) -> Trial:
    """Return the trial of an attempt that an error ended, in its phase or where ``subject`` says.

    ``seen`` came of it before.
    """
    from dataclasses import replace

    from pytest_aefm.judgement import verdict_of_error
    from pytest_aefm.model import Finding, Trial

    verdict = verdict_of_error(error)
    finding = Finding(verdict, subject or state.phase, reason)
    if seen is not None:
        return replace(seen, verdict=verdict, findings=(finding, *seen.findings), error=error)
    started, attempt = state.started_wall_s, state.attempt
    return Trial(state.case, verdict, (finding,), attempt=attempt, started_wall_s=started, error=error)


def record(item: pytest.Item, trial: Trial) -> Trial:
    """Send a finished trial to the controller and give JUnit its properties; one that cannot be sent is broken."""
    from pytest_aefm.report import trial_entry

    state, worker = item.stash[STATE], settings_of(item.config).worker
    entry = trial_entry(trial, nodeid=item.nodeid, worker=worker)
    try:
        json.dumps(entry, allow_nan=False)
    except (TypeError, ValueError) as error:  # of a driver or a testbed that replaces ours
        trial = broken_trial(state, f"what came of it is no JSON: {error}", subject="report")
        entry = trial_entry(trial, nodeid=item.nodeid, worker=worker)
    state.trials.append(replace(trial, tables={}))  # the item outlives what may be large
    for name in _PROPERTIES:
        if name in entry["metrics"]:
            item.user_properties.append((name, entry["metrics"][name]))
    item.user_properties.append(("verdict", entry["verdict"]))
    tell(item, {"kind": "trial", "trial": entry})
    return trial


def record_tables(item: pytest.Item, trial: Trial, folder: Path) -> None:
    """Write a trial's tables, where they are wanted, and tell the controller where they are."""
    settings = settings_of(item.config)
    if settings.data is None or not trial.tables:
        return
    from pytest_aefm.datafiles import write_tables
    from pytest_aefm.errors import ReportError

    message: dict[str, Any] = {"kind": "tables", "nodeid": item.nodeid, "attempt": trial.attempt}
    message["experiment"] = trial.case.experiment
    try:
        message["files"] = write_tables(trial, folder / "tables", settings.data_format, settings.run_id)
    except ReportError as error:
        message["problem"] = str(error)
    tell(item, message)


def told(error: BaseException) -> str:
    """Return what an exception says, for those who do not see its traceback."""
    return f"{type(error).__name__}: {error}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Mark what is the experiment's failure: it is an error, and xfail does not hide it."""
    report = yield
    state = item.stash.get(STATE, None)
    if state is None or call.excinfo is None or call.when == "teardown":
        return report
    from pytest_aefm.errors import AefmError, Broken, DisruptionError, InvalidMeasurement, VerdictError

    error = call.excinfo.value
    if isinstance(error, AefmError | VerdictError):
        _shorten(report, type(error))
    ours = isinstance(error, AefmError | Broken | InvalidMeasurement)
    # pytest.fail() ends tests for others, such as pytest-timeout; a skip is no failure.
    failed = isinstance(error, Exception | pytest.fail.Exception) if call.when == "setup" else ours and not state.calls
    lost = state.uses_run and not state.trials and failed
    if lost:
        record(item, broken_trial(state, str(error) or type(error).__name__, error=error))
    if not ours and not lost:
        return report
    if hasattr(report, "wasxfail"):
        del report.wasxfail
    report.outcome = "failed"
    report.aefm_verdict = "invalid" if isinstance(error, InvalidMeasurement | DisruptionError) else "broken"
    if ours and call.when == "setup":  # raised in our own fixtures: the message says all
        report.longrepr = f"{type(error).__name__}: {error}"
    elif not isinstance(error, VerdictError) and report.longrepr is None:
        report.longrepr = str(error)
    return report


def _shorten(report: pytest.TestReport, kind: type[BaseException]) -> None:
    """Leave the module out of what the short summary says: in 80 columns the reason would have no room behind it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = crash.message.removeprefix(f"{kind.__module__}.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Break a test that has aefm_run among its fixtures and ended well without calling it."""
    result = yield
    state = item.stash.get(STATE, None)
    if state is not None and state.uses_run and state.calls == 0:
        from pytest_aefm.errors import Broken

        reason = f"{item.name}: the test never called aefm_run; expected exactly one call; call aefm_run()"
        raise Broken(reason, record(item, broken_trial(state, reason, subject="test")))
    return result


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count messages as nothing, and broken and invalid calls as errors."""
    if report.when == MESSAGE:
        return "", "", ""
    verdict = getattr(report, "aefm_verdict", None)
    if verdict and report.failed and report.when == "call":
        return "error", "E", verdict.upper()
    return None


def end_worker(config: pytest.Config) -> None:
    """Hand what a worker could not remove to the controller."""
    workeroutput = getattr(config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput["aefm_cleanup"] = list(config.stash.get(CLEANUP, ()))
        workeroutput["aefm_kept"] = list(config.stash.get(KEPT, ()))
