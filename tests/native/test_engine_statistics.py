"""How far the engine's own figures can be trusted, and how it says so: lower bounds, limits, series, self-checks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Make = Callable[..., Any]


def _percentile(report: dict[str, Any], percent: float) -> dict[str, Any]:
    return next(value for value in report["percentiles"]["values"] if value["percentile"] == percent)


def test_a_stall_to_the_end_makes_percentiles_intervals(serve: Make, wrk: Make) -> None:
    """Requests that never were answered or sent are lower bounds: p50 is known, the tail has no upper end."""
    server = serve(lambda exchange: exchange.answer() if exchange.number < 140 else exchange.wait(30))
    report = wrk("-t1", "-c4", "-R100", "-d2s", "--timeout", "300ms", server.url).report
    percentiles = report["percentiles"]
    assert 200 == percentiles["n"] == percentiles["recorded"]
    assert 60 == percentiles["lower_bounds"] == report["outcomes"]["timeout"] + report["outcomes"]["unsent"]
    assert _percentile(report, 50)["value_us"] == _percentile(report, 50)["value_high_us"]
    tail = _percentile(report, 95)
    assert (None, None) == (tail["value_high_us"], tail["high_us"])
    assert tail["value_us"] > 200_000


def test_limits_count_exceedances_and_their_worth(serve: Make, wrk: Make) -> None:
    """Every tenth answer is slow: so many are above the limit in between, all above the first, none above the last."""
    server = serve(lambda exchange: (exchange.wait(0.0 if exchange.number % 10 else 0.5), exchange.answer()))
    report = wrk("-t1", "-c20", "-R50", "-d2s", "--limits", "1us,450ms,20s", server.url).report
    first, middle, last = report["limits"]
    assert [(1, 100), (450_000, 10), (20_000_000, 0)] == [(one["limit_us"], one["above"]) for one in report["limits"]]
    assert [100.0, 100.0] == [first["n_eff"], last["n_eff"]]
    assert 1 <= middle["n_eff"] <= 100 == middle["n"]


def test_tags_have_percentiles_and_limits_of_their_own(serve: Make, wrk: Make, script: Make) -> None:
    """Each endpoint's requests are a sample of their own."""
    path = script(
        "local n = 0\nfunction request()\n  n = n + 1\n  local slow = n % 2 == 0\n"
        "  wrk.tag(slow and 'slow' or 'fast')\n  return wrk.format('GET', slow and '/slow' or '/fast')\nend\n"
    )
    server = serve(lambda exchange: (exchange.wait(0.4 if "/slow" in exchange.line else 0), exchange.answer()))
    report = wrk("-t2", "-c20", "-R40", "-d1s", "--limits", "390ms", "-s", path, server.url).report
    tags = report["tags"]
    assert {"slow": 20, "fast": 0} == {name: tag["limits"][0]["above"] for name, tag in tags.items()}
    assert _percentile(tags["slow"], 50)["value_us"] >= 400_000


def test_the_series_adds_up(serve: Make, wrk: Make) -> None:
    """Rows of requests by the second in which they were due, responses by the second in which they came."""
    server = serve(lambda exchange: (exchange.wait(1.2 if exchange.number == 20 else 0), exchange.answer(404)))
    report = wrk("-t1", "-c4", "-R40", "-d2500ms", server.url).report
    seconds = report["series"]["seconds"]
    assert [40, 40, 20] == [second["offered"] for second in seconds] == [second["sent"] for second in seconds]
    assert [{"4xx": 40}, {"4xx": 40}, {"4xx": 20}] == [second["outcomes"] for second in seconds]
    assert 39 == seconds[0]["completed"]
    assert 100 == sum(second["completed"] for second in seconds)
    assert [None] * 3 == [second["p50_us"] for second in seconds]
    assert all(second["lag_max_us"] >= second["lag_p99_us"] >= 0 for second in seconds)


def test_a_growing_queue_is_overload_and_not_the_generators_fault(serve: Make, wrk: Make) -> None:
    """Connections that never become free are the target's doing."""
    server = serve(lambda exchange: (exchange.wait(0.1), exchange.answer()))
    report = wrk("-t1", "-c2", "-R60", "-d2s", server.url).report
    assert report["overloaded"]
    assert all(check["ok"] for check in report["self_check"]["checks"] if check["name"] in ("connections", "arrivals"))
    quiet = wrk("-t1", "-c2", "-R10", "-d1s", server.url).report
    assert not quiet["overloaded"]


def test_a_generator_without_its_connections_is_not_to_be_trusted(serve: Make, engine: Path, tmp_path: Path) -> None:
    """The exit status is 5, the reason is said, and the results are there all the same."""
    result = tmp_path / "result.json"
    limited = ["sh", "-c", 'ulimit -n 20 && exec "$@"', "sh", str(engine)]
    command = [*limited, "-t1", "-c40", "-R50", "-d1s", "--json", str(result), serve().url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert 5 == done.returncode
    assert "of 40 connections were open" in done.stderr
    assert result.stat().st_size > 0


def test_the_drain_has_a_limit(serve: Make, wrk: Make) -> None:
    """What is in flight then is unanswered, not waited for until its timeout."""
    server = serve(lambda exchange: exchange.wait(30) if exchange.number == 9 else exchange.answer())
    report = wrk("-t1", "-c2", "-R10", "-d1s", "--drain", "100ms", "--timeout", "20s", server.url).report
    assert {"success": 9, "unanswered": 1} == report["outcomes"]
    assert 100_000_000 <= report["drain_ns"] < 5_000_000_000
    assert not report["interrupted"]


def test_a_trend_that_was_asked_for_is_none(serve: Make, wrk: Make) -> None:
    """A ramp is not judged as steady; a constant rate is."""
    ramp = wrk("-t1", "-c4", "--schedule", "100..500:1s", serve().url).report
    assert ramp["trend"]["stationary"] is None
    steady = wrk("-t1", "-c4", "-R300", "-d1s", serve().url).report
    assert steady["trend"]["stationary"] in (True, False)
    assert 10 == len(steady["trend"]["medians_us"])
