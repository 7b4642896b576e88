"""Cases against each other: whose self times grew under interference."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.comparison import growth_lines, with_growth


def entry(
    cpu: int = 0, *, verdict: str = "passed", rate: int = 100, number: int = 1, **p95_ms: float
) -> dict[str, Any]:
    """Return a report's entry of a case with these self times."""
    return {
        "case": f"hotel-cpu{cpu}-{rate}rps-r{number}",
        "experiment": "hotel",
        "app": "hotel",
        "testbed": "local",
        "verdict": verdict,
        "factors": {"cpu": cpu, "rate": rate, "round": number},
        "interference": [{"kind": "cpu", "count": cpu}] if cpu else [],
        "metrics": {f"self_time({name}, p95)": value for name, value in p95_ms.items()} | {"p99": 5.0},
    }


def test_what_grew_is_told_the_most_first() -> None:
    """By how many milliseconds the 95th percentile grew; what did not grow by a fifth is noise."""
    _, disturbed = with_growth([entry(rate=100, a=1.0, b=1.0, c=1.0), entry(2, a=2.0, b=9.0, c=1.1)])
    expected = [{"service": "b", "before_ms": 1.0, "now_ms": 9.0}, {"service": "a", "before_ms": 1.0, "now_ms": 2.0}]
    assert {"against": "hotel-cpu0-100rps-r1", "services": expected} == disturbed["grew"]
    head = "hotel-cpu2-100rps-r1: self times that grew against hotel-cpu0-100rps-r1:"
    assert [head, "  b: p95 1 -> 9 ms (9.0x)", "  a: p95 1 -> 2 ms (2.0x)"] == growth_lines(disturbed)


def test_the_same_round_is_compared_with() -> None:
    """Rounds are far apart; the first one stands in where there is none."""
    trials = [entry(number=1, a=1.0), entry(number=2, a=5.0), entry(2, number=2, a=9.0), entry(2, number=3, a=9.0)]
    told = with_growth(trials)
    assert ["hotel-cpu0-100rps-r2", "hotel-cpu0-100rps-r1"] == [one["grew"]["against"] for one in told[2:]]


@pytest.mark.parametrize(
    "other",
    [entry(rate=200, a=1.0), entry(verdict="invalid", a=1.0), entry(1, a=1.0), entry(b=1.0), entry(a=8.9)],
    ids=["another rate", "invalid", "disturbed, too", "another service", "hardly less"],
)
def test_nothing_to_compare_with_is_nothing(other: dict[str, Any]) -> None:
    """Only the same case without interference counts."""
    assert with_growth([other, entry(2, a=9.0)])[1]["grew"] is None


def test_an_undisturbed_trial_is_compared_with_none() -> None:
    """Nor is one that is broken."""
    assert [None, None] == [one["grew"] for one in with_growth([entry(a=1.0), entry(2, verdict="broken", a=9.0)])]
    assert [] == growth_lines(entry())
