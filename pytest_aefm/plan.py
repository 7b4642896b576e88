"""What will run, in which order, and how long it takes: running order, estimates, the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from pytest_aefm.cases import with_cases
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import Case
from pytest_aefm.progress import duration_text

__all__ = ["NOTES", "estimates", "plan_lines", "running_order"]

NOTES = pytest.StashKey[dict[str, tuple[str, ...]]]()
"""What the collection has to say of each test's experiment, in the config's stash."""

_ESTIMATES = pytest.StashKey[dict[str, float]]()

# What converging costs, in seconds, where it is needed: a guess that only the plan and the progress use.
_DEPLOY_S, _DISTURB_S, _CASE_S = 4.0, 1.0, 1.0


def running_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return our items in running order: test functions as first met, each one's cases by their position.

    A test that is parametrized further, or repeated, has variants: each of them keeps the places that pytest gave it.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_function(item), []).append(item)
    return [item for group in groups.values() for item in _by_position(group)]


def _by_position(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    variants: dict[tuple[Any, ...], list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: _case(item).position, reverse=True):
        variants.setdefault(_variant(item), []).append(item)
    return (variants[_variant(item)].pop() for item in items)


def _variant(item: pytest.Item) -> tuple[Any, ...]:
    """Return which values a test has of parameters that are not ours."""
    indices = item.callspec.indices  # type: ignore[attr-defined] # only parametrized items come here
    return tuple(sorted((name, index) for name, index in indices.items() if name != "aefm_case"))


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["aefm_case"]  # type: ignore[attr-defined] # only parametrized items come here
    return case


def estimates(item: pytest.Item) -> tuple[float, Mapping[str, float]]:
    """Return how many seconds a case will take, and that of every case of the session by node id.

    Raises:
        ConfigurationError: the hook of a case's cost fails, or gives no number.
    """
    session = item.session
    if _ESTIMATES not in session.stash:
        found: dict[str, float] = {}
        before: Case | None = None
        for each, case in with_cases(session.items):
            found[each.nodeid] = _cost_s(each.config, before, case)
            before = case
        session.stash[_ESTIMATES] = found
    known = session.stash[_ESTIMATES]
    return known.get(item.nodeid, 0.0), known


def _cost_s(config: pytest.Config, before: Case | None, case: Case) -> float:
    try:
        cost = config.hook.pytest_aefm_case_cost(config=config, case=case, previous=before)
        seconds = _estimate_s(before, case) if cost is None else float(cost)
        if not 0 <= seconds < math.inf:
            raise ValueError(f"got {cost!r}")
    except Exception as error:
        what = f"{type(error).__name__} for {case.id}: {error}"
        raise ConfigurationError("pytest_aefm_case_cost", what, "a number of seconds, or None") from None
    return seconds


def _estimate_s(before: Case | None, case: Case) -> float:
    seconds = case.load.warmup_s + case.load.duration_s + _CASE_S + _filling_s(before, case)
    if before is None or before.app != case.app or before.testbed != case.testbed:
        return seconds + _DEPLOY_S + (_DISTURB_S if case.interference else 0)
    return seconds + (_DISTURB_S if before.interference != case.interference else 0)


def _filling_s(before: Case | None, case: Case) -> float:
    """Return how long memory doses take to fill that the case before did not have."""
    kept = before.interference if before is not None and before.testbed == case.testbed else ()
    fresh = [spec for spec in case.interference if spec not in kept and spec.kind.startswith("mem_")]
    if not fresh:
        return 0.0
    if case.testbed == "local":
        from pytest_aefm.testbeds import local_doses

        return local_doses.filling_s(fresh)
    from pytest_aefm.interference import filling_s

    return filling_s(fresh, sum(spec.count for spec in fresh))


def plan_lines(items: Sequence[pytest.Item]) -> Iterator[str]:
    """Yield the plan: every case in running order, what changes before it, the time it needs; then the sum."""
    ours = list(with_cases(items))
    if not ours:
        yield "no cases to run"
        return
    rows, before, total = [], None, 0.0
    for number, (item, case) in enumerate(ours, 1):
        seconds, _ = estimates(item)
        total += seconds
        filling = _filling_s(before, case)
        changes = _changes(before, case) + (f", memory filled in {filling:.1f} s" if filling >= 0.1 else "")
        rows.append((str(number), item.name, changes, duration_text(seconds)))
        before = case
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([row[0].rjust(widths[0]), *cells[1:3], row[3].rjust(widths[3])])
    planned = {_function(item) for item, _ in ours}
    for where, notes in ours[0][0].config.stash.get(NOTES, {}).items():
        yield from (f"note: {where}: {note}" for note in notes if where in planned)
    yield f"{len(ours)} case{'s' if len(ours) > 1 else ''}, about {duration_text(total)}; nothing was run"


def _changes(before: Case | None, case: Case) -> str:
    """Say what changes from one case to the next: factors, and the script between tests of one experiment."""
    if before is None:
        return "deploy " + case.app.name
    if (before.experiment, before.origin) != (case.experiment, case.origin):
        return f"experiment {case.experiment}" + ("" if before.app == case.app else f", deploy {case.app.name}")
    changed = [f"script {case.load.script}"] if before.load.script != case.load.script else []
    changed += [
        f"{name} {before.factors.get(name, '-')} -> {value}"
        for name, value in case.factors.items()
        if before.factors.get(name) != value
    ]
    return ", ".join(changed) or "nothing"
