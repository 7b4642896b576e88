"""One trial: converge, drive, collect, judge. Knows no pytest; returns a Trial whatever happens to the experiment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pytest_aefm.assessment import assess
from pytest_aefm.collectors import Collector
from pytest_aefm.collectors.running import Bounds, Collect, run_collectors
from pytest_aefm.collectors.tables import tables_of
from pytest_aefm.errors import AefmError, DeploymentError, LoadError
from pytest_aefm.judgement import start_check, verdict_of_error
from pytest_aefm.load import Driver, LoadRun
from pytest_aefm.model import Case, Finding, LoadResult, LoadSpec, Trial, Verdict
from pytest_aefm.testbeds import Deployment, Testbed

__all__ = ["Changes", "Events", "Smoked", "run_trial"]

_DEPLOYMENTS = 3  # that a case may take until one is quiet
_RESULT_DEADLINE_S = 15.0

Smoked = set[tuple[str, int, Path]]
"""Scripts that have answered: (application, generation of its deployment, script)."""

Changes = dict[tuple[str, int], int]
"""How many loads have changed the data of a deployment, by (application, generation)."""


class Events(Protocol):
    """What a trial tells while it goes on."""

    def phase(self, case: Case, name: str, expected_s: float) -> None:
        """Tell that a phase begins, and about how long it will take (0: unknown)."""
        ...

    def environment(self, case: Case, deployment: Deployment) -> None:
        """Tell which deployment the trial has: at first, and where another has taken its place."""
        ...


class _Silent:
    def phase(self, case: Case, name: str, expected_s: float) -> None:
        """Tell nobody."""

    def environment(self, case: Case, deployment: Deployment) -> None:
        """Tell nobody."""


class _Phases:
    """Measures phases, tells of them, and remembers the running one."""

    def __init__(self, case: Case, events: Events, spent: Mapping[str, float]) -> None:
        self._case, self._events = case, events
        self.current, self.seconds = "start", dict(spent)

    @contextmanager
    def __call__(self, name: str, expected_s: float = 0.0) -> Iterator[None]:
        self.current = name
        self._events.phase(self._case, name, expected_s)
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 4)


def run_trial(
    case: Case,
    *,
    testbed: Testbed,
    driver: Driver,
    script: Path,
    artifacts: Path,
    collectors: Sequence[Collector] | None = None,
    events: Events | None = None,
    smoked: Smoked | None = None,
    changes: Changes | None = None,
    spent: Mapping[str, float] | None = None,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
    attempt: int = 1,
) -> Trial:
    """Run one case once and judge it.

    ``artifacts`` is a folder for the trial's files; ``collectors`` default to the testbed's own. The caller keeps
    ``smoked`` and ``changes`` from trial to trial, so that each script is tried once per deployment, and the trial can
    say what its data had been through. ``spent`` is what the caller has already spent on converging, in seconds by
    phase; ``confidence`` 0 judges percentiles by their point value; ``bounds`` are those of all collectors together.
    What fails of the experiment makes the trial broken, what fails of the apparatus invalid, with ``trial.error`` set;
    no AefmError escapes.
    """
    started, events = time.time(), events or _Silent()
    phases = _Phases(case, events, spent or {})
    trial = Trial(case=case, verdict=Verdict.BROKEN, attempt=attempt, started_wall_s=started)
    artifacts.mkdir(parents=True, exist_ok=True)
    load = case.load
    try:
        with phases("check"):
            testbed.check(case)
            driver.check_script(script)
        with phases("application"):
            deployment = testbed.ensure_app(case.app)
            events.environment(case, deployment)
        with phases("interference"):
            testbed.ensure_interference(case.interference)
        with phases("settle"):
            answered = smoked if smoked is not None else set()
            smoke = partial(_smoke, testbed, driver, load, script, artifacts, smoked=answered)
            deployment = _settle(testbed, case, deployment, events, smoke)
        with phases("load", load.warmup_s + load.duration_s):
            run = testbed.start_load(driver, load, script, artifacts)
            data = _data(load, deployment, changes if changes is not None else {})
            before, after, result = _drive(run, testbed, load)
        trial = replace(trial, load=result, window=result.window)
        with phases("collect"):
            chosen = testbed.collectors(case) if collectors is None else collectors
            tasks: dict[str, Collect] = {"testbed": partial(testbed.observe, before, after)}
            tasks |= {one.name: one.collect for one in chosen}
            seen, states = run_collectors(tasks, result.window, bounds or Bounds(), once="testbed")
        with phases("judge"):
            trial = replace(trial, checks=(start_check(run.window, result.window),))
            trial = assess(trial, result, seen, states, chosen, confidence)
        files = tuple(f"{artifacts.parent.name}/{artifacts.name}/{path.name}" for path in sorted(artifacts.glob("*.*")))
        return replace(
            trial,
            phases=phases.seconds,
            environment={**_environment(deployment), "data": data},
            tables=tables_of(result, seen),
            artifacts=(*trial.artifacts, *files),
        )
    except AefmError as error:
        verdict = verdict_of_error(error)
        finding = Finding(verdict, phases.current, str(error))
        return replace(trial, verdict=verdict, findings=(finding,), phases=phases.seconds, error=error)


def _settle(
    testbed: Testbed, case: Case, deployment: Deployment, events: Events, smoke: Callable[[Deployment], None]
) -> Deployment:
    """Return the deployment once it has answered and is quiet, which may have taken another: that is told.

    Raises:
        DeploymentError: none of some deployments lived until it was quiet.
    """
    for _ in range(_DEPLOYMENTS):
        smoke(deployment)
        testbed.settle()
        settled = testbed.ensure_app(case.app)
        if settled.generation == deployment.generation:
            return settled
        deployment = settled
        events.environment(case, deployment)
    raise DeploymentError(f"app {case.app.name!r}", f"deployed anew {_DEPLOYMENTS} times while it settled")


def _smoke(
    testbed: Testbed,
    driver: Driver,
    load: LoadSpec,
    script: Path,
    artifacts: Path,
    deployment: Deployment,
    *,
    smoked: Smoked,
) -> None:
    """Send a script's first requests alone, once per deployment: one of them must succeed."""
    key = (deployment.app, deployment.generation, script)
    if key in smoked:
        return
    little = replace(
        load,
        rate_rps=10,
        duration_s=0.3,
        warmup_s=0,
        timeout_s=max(5.0, load.timeout_s),
        connections=2,
        threads=1,
        requests=False,
        precision=None,
        abort=None,
        max_connections=None,
    )
    folder = artifacts / "smoke"
    folder.mkdir(exist_ok=True)
    run = testbed.start_load(driver, little, script, folder)
    try:
        result = run.result(little.timeout_s + _RESULT_DEADLINE_S)
    finally:
        run.stop()
    if not result.successes:
        seen = ", ".join(f"{count} x {name}" for name, count in result.outcomes.items() if count)
        raise LoadError(
            f"smoke requests of {script.name}", f"none succeeded at {deployment.url} ({seen})", "2xx or 3xx"
        )
    smoked.add(key)


def _drive(run: LoadRun, testbed: Testbed, load: LoadSpec) -> tuple[Any, Any, LoadResult]:
    """Wait for the window's edges, reading the testbed's counters at both, then for the result."""
    try:
        _wait_until(run.window.start_mono_s, run)
        before = testbed.mark()
        # Counters that are read after an early end cover what came after it, too.
        _wait_until(run.window.end_mono_s, run, 0.02 if load.precision or load.abort else 0.1)
        after = testbed.mark()
        result = run.result(load.timeout_s + _RESULT_DEADLINE_S)
    except BaseException:
        with contextlib.suppress(Exception):  # why it is stopped is what counts; the testbed ends what will not
            run.stop()
        raise
    run.stop()
    return before, after, result


def _wait_until(mono_s: float, run: LoadRun, step_s: float = 0.1) -> None:
    while (left := mono_s - time.monotonic()) > 0 and not run.ended():
        time.sleep(min(left, step_s))


def _data(load: LoadSpec, deployment: Deployment, changes: Changes) -> dict[str, Any]:
    """Return whether this load changes the application's data, and how many did before; count it."""
    key = (deployment.app, deployment.generation)
    before = changes.get(key, 0)
    changes[key] = before + load.mutates
    return {"mutates": load.mutates, "loads_before": before}


def _environment(deployment: Deployment) -> dict[str, Any]:
    return {
        "app": deployment.app,
        "description": deployment.description,
        "generation": deployment.generation,
        "services": {name: dict(facts) for name, facts in deployment.services.items()},
        **deployment.details,
    }
