"""From a test to messages, in the process that runs the test.

A Trial becomes a message on a test report of ``when="aefm"``, sent while the test still runs; pytest (and xdist)
carry it to the controller, which keeps the journal and the report (``controller.py``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aefm.settings import settings_of

if TYPE_CHECKING:
    from pytest_aefm.model import Case, Trial

__all__ = ["CLEANUP", "KEPT", "MESSAGE", "STATE", "ItemState", "record", "tell"]

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
    spent: dict[str, float] = field(default_factory=dict)


STATE = pytest.StashKey[ItemState]()
_ATTEMPTS = pytest.StashKey[int]()
_PROPERTIES = ("p50", "p99", "goodput")
_EXPERIMENTS: pytest.StashKey[dict[str, Case | None]] = pytest.StashKey()


def new_state(item: pytest.Item, case: Case, **facts: Any) -> ItemState:
    """Begin an attempt of a test, numbering it (plugins that rerun keep the item)."""
    attempt = item.stash.get(_ATTEMPTS, 0) + 1
    item.stash[_ATTEMPTS] = attempt
    item.user_properties[:] = [own for own in item.user_properties if own[0] not in (*_PROPERTIES, "verdict")]
    item.stash[STATE] = ItemState(case, attempt, **facts)
    return item.stash[STATE]


def tell_experiment(item: pytest.Item, case: Case) -> None:
    """Call the hook of an experiment's start before its first case in this process."""
    started = item.config.stash.setdefault(_EXPERIMENTS, {})
    if case.experiment not in started:
        started[case.experiment] = None
        item.ihook.pytest_aefm_experiment_start(item=item, experiment=case.experiment)


def tell_factors(item: pytest.Item, case: Case) -> None:
    """Call the hook of changed factors for each that differs from this process's case before."""
    started = item.config.stash.setdefault(_EXPERIMENTS, {})
    before = started.get(case.experiment)
    started[case.experiment] = case
    for factor, new in case.factors.items():
        old = before.factors.get(factor) if before is not None else None
        if before is None or old != new:
            item.ihook.pytest_aefm_factor_changed(item=item, case=case, factor=factor, old=old, new=new)


def end_experiments(config: pytest.Config) -> None:
    """Call the hook of an experiment's end for each of this process; what it raises is told, and stops nothing."""
    for name in config.stash.get(_EXPERIMENTS, {}):
        try:
            config.hook.pytest_aefm_experiment_finish(config=config, experiment=name)
        except Exception as error:
            config.stash.setdefault(CLEANUP, []).append(f"pytest_aefm_experiment_finish of {name}: {error!r}")


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


def tell_phase(item: pytest.Item, name: str, expected_s: float) -> None:
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
    }
    tell(item, message)


def record(item: pytest.Item, trial: Trial) -> None:
    """Send a finished trial to the controller and give JUnit its properties."""
    from pytest_aefm.report import trial_entry

    item.stash[STATE].trials.append(trial)
    entry = trial_entry(trial, nodeid=item.nodeid, worker=settings_of(item.config).worker)
    for name in _PROPERTIES:
        if name in entry["metrics"]:
            item.user_properties.append((name, entry["metrics"][name]))
    item.user_properties.append(("verdict", entry["verdict"]))
    tell(item, {"kind": "trial", "trial": entry})


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Mark what is the experiment's failure: it is an error, and xfail does not hide it."""
    report = yield
    state = item.stash.get(STATE, None)
    if state is None or call.excinfo is None or call.when == "teardown":
        return report
    from pytest_aefm.errors import AefmError, Broken, InvalidMeasurement, VerdictError

    error = call.excinfo.value
    if isinstance(error, AefmError | VerdictError):
        _shorten(report, type(error))
    ours = isinstance(error, AefmError | Broken | InvalidMeasurement)
    # pytest.fail() ends tests for others, such as pytest-timeout; a skip is no failure.
    failed = isinstance(error, Exception | pytest.fail.Exception) if call.when == "setup" else ours and not state.calls
    lost = state.uses_run and not state.trials and failed
    if lost:
        _record_failure(item, state, error)
    if not ours and not lost:
        return report
    if hasattr(report, "wasxfail"):
        del report.wasxfail
    report.outcome = "failed"
    report.aefm_verdict = "invalid" if isinstance(error, InvalidMeasurement) else "broken"
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


def _record_failure(item: pytest.Item, state: ItemState, error: BaseException) -> None:
    """Record a broken trial for a test that failed before it could run its load."""
    from pytest_aefm.model import Finding, Trial, Verdict

    reason = str(error) or type(error).__name__
    finding = Finding(Verdict.BROKEN, state.phase, reason)
    trial = Trial(state.case, Verdict.BROKEN, (finding,), attempt=state.attempt, started_wall_s=time.time())
    record(item, trial)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Break a test that has aefm_run among its fixtures and ended well without calling it."""
    result = yield
    state = item.stash.get(STATE, None)
    if state is not None and state.uses_run and state.calls == 0:
        from pytest_aefm.errors import Broken
        from pytest_aefm.model import Finding, Trial, Verdict

        reason = f"{item.name}: the test never called aefm_run; expected exactly one call; call aefm_run()"
        trial = Trial(state.case, Verdict.BROKEN, (Finding(Verdict.BROKEN, "test", reason),), attempt=state.attempt)
        record(item, trial)
        raise Broken(reason, trial)
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
