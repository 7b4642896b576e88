"""The table of cases at the end: what it shows, and that it fits where it is shown."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.table import table_lines, warning_lines


def entry(case: str, verdict: str = "passed") -> dict[str, Any]:
    """Return as much of a report's entry as the table shows."""
    return {
        "id": f"test_it.py::test_search[hotel-{case}-r1]",
        "metrics": {"p50": 15.4, "p99": 21.4, "goodput": 1.0},
        "load": {"rate_rps": 40.0},
        "interference": [{"kind": "cpu", "count": 2}],
        "verdict": verdict,
    }


def shown(width: int | None) -> list[str]:
    """Return the lines of a table of two cases."""
    return [line for line, _ in table_lines([entry("cpu2-40rps"), entry("cpu10-40rps", "violated")], False, width)]


def test_everything_where_there_is_room() -> None:
    """A file, and a wide terminal, get all columns."""
    head = "case                               rate  interference      p50      p99  goodput  verdict"
    first = "test_search[hotel-cpu2-40rps-r1]   40/s  cpu=2         15.4 ms  21.4 ms    100 %  passed"
    assert [head, first] == shown(None)[:2] == shown(200)[:2]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "test_search[hotel-cpu10-40rps-r1]  40/s  15.4 ms  21.4 ms    100 %  violated"),
        (75, "test_search[hotel-cpu10-40rps-r1]  15.4 ms  21.4 ms    100 %  violated"),
        (60, "test_se...u10-40rps-r1]  15.4 ms  21.4 ms    100 %  violated"),
    ],
)
def test_what_ids_say_goes_first(width: int, line: str) -> None:
    """On a narrow terminal columns go that ids hold anyway; then ids are cut in their middle; figures stay."""
    lines = shown(width)
    assert line == lines[-1]
    assert max(map(len, lines)) <= width


def test_what_does_not_pass_is_always_shown() -> None:
    """Of many cases that pass 40 are shown, all with -v, and every other case."""
    trials = [entry(f"cpu0-{rate}rps", "violated" if rate % 10 == 0 else "passed") for rate in range(1, 101)]
    lines = [line for line, _ in table_lines(trials, verbose=False)]
    assert 1 + 10 + 40 + 1 == len(lines)
    assert "... and 50 more that passed (-v shows them)" == lines[-1]
    assert 101 == len(table_lines(trials, verbose=True))


def test_a_test_that_failed_by_itself_is_no_pass() -> None:
    """A case whose verdict is passed and whose test is not is shown like all that did not pass, and not in green."""
    trials = [{**entry(f"cpu0-{rate}rps"), "outcome": "passed"} for rate in range(1, 50)]
    trials.append({**entry("cpu1-40rps"), "outcome": "failed"})
    text, colour = table_lines(trials, verbose=False)[-2]
    assert text.endswith("passed (failed)")
    assert {"red": True} == colour


def test_warnings_are_told_once_for_each_kind() -> None:
    """Of each self-check that only warns: in how many trials it did not hold, and its first message."""
    steal = {"name": "steal", "ok": False, "warning": True, "message": "a hypervisor took 4%"}
    cores = {"name": "cores of its own", "ok": False, "warning": True, "message": "one core"}
    quiet, grave = {**steal, "ok": True}, {**steal, "warning": False}
    trials = [{"checks": checks} for checks in ([steal, cores], [{**steal, "message": "5%"}], [quiet], [grave])]
    lines = warning_lines(trials)
    assert ["steal, 2 of 4 trials: a hypervisor took 4%", "cores of its own, 1 of 4 trials: one core"] == lines
