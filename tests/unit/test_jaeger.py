"""Jaeger is fetched completely, whatever an answer leaves out, however late spans come, however wrong its clock."""

from __future__ import annotations

import random
import time
from http.server import BaseHTTPRequestHandler

import pytest

from pytest_aefm.collectors.clocks import http_clock
from pytest_aefm.collectors.fetching import Limits
from pytest_aefm.collectors.jaeger import JaegerCollector
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window
from tests.unit.jaeger_server import FakeJaeger, Held, serving

QUICK = Limits(quiet_s=0.0, look_s=0.05)
LENGTH_S = 40.0


@pytest.fixture
def window() -> Window:
    """A window of 40 s that ended ten seconds ago."""
    return Window(float(int(time.time()) - 50), time.monotonic() - 50, LENGTH_S)


def traces(window: Window, count: int, seed: int = 1) -> list[Held]:
    """Return traces whose roots start in the window, one of them right at its start."""
    start_us, dice = round(window.start_wall_s * 1e6), random.Random(seed)
    return [(number, start_us + (dice.randrange(round(LENGTH_S * 1e6)) if number else 0), 0) for number in range(count)]


@pytest.mark.parametrize("version", ["v1", "v3"])
@pytest.mark.parametrize("at_most", [1500, 300])
def test_all_traces_are_fetched_once_each(window: Window, version: str, at_most: int) -> None:
    """20,000 of which the server gives at most 1,500 an answer, and then at most 300, which is below what is asked."""
    count = 20_000 if at_most == 1500 and version == "v1" else 3000
    with serving(FakeJaeger(traces(window, count), at_most, version=version)) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", QUICK).collect(window)
    assert seen.traces is not None
    assert (count, 2 * count) == (seen.details["traces"], seen.details["spans"])
    assert (0, 0, 0) == (seen.details["duplicates"], seen.details["orphans"], seen.details["fetch_truncated"])
    assert count == len(set(seen.traces.forest.spans.trace_ids()))


def test_traces_belong_to_the_window_by_their_roots_start(window: Window) -> None:
    """What began before it or after it is fetched where it reaches in, and left out."""
    start_us = round(window.start_wall_s * 1e6)
    held = [(1, start_us - 5, 0.0), (2, start_us, 0.0), (3, start_us + 40_000_000, 0.0)]
    with serving(FakeJaeger(held)) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", QUICK).collect(window)
    assert seen.traces is not None
    assert ["0" * 31 + "3"] == [seen.traces.forest.spans.trace_ids()[row] for row in seen.traces.roots]


def test_late_spans_are_waited_for(window: Window) -> None:
    """Until nothing was new for as long as exporters hold spans back."""
    late = time.time() + 1.0
    held = [(number, start, late if number % 2 else 0) for number, start, _ in traces(window, 40)]
    limits = Limits(quiet_s=3.0, look_s=0.2, patience_s=60.0)
    recent = Window(window.start_wall_s, time.monotonic() - LENGTH_S, LENGTH_S)
    with serving(FakeJaeger(held)) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", limits).collect(recent)
    assert (40, True) == (seen.details["traces"], seen.details["fetch_settled"])


def test_waiting_ends(window: Window) -> None:
    """A Jaeger without a trace of the window is asked for so long, and it is said that nothing settled."""
    with serving(FakeJaeger([])) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", Limits(patience_s=10.2, look_s=0.05)).collect(window)
    assert (0, False, {}) == (seen.details["traces"], seen.details["fetch_settled"], dict(seen.metrics))


def test_more_traces_in_a_moment_than_an_answer_takes_are_told(window: Window) -> None:
    """They cannot be told apart by time."""
    at = round(window.start_wall_s * 1e6) + 1000
    with serving(FakeJaeger([(number, at, 0) for number in range(30)], at_most=20)) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", Limits(20, quiet_s=0.0)).collect(window)
    assert seen.details["fetch_truncated"] > 0


def test_a_clock_that_is_ahead_is_measured_and_its_times_are_shifted(window: Window) -> None:
    """By 100 s: the window lies elsewhere on it, and all of its traces are found."""
    held = [(number, start + 100_000_000, 0.0) for number, start, _ in traces(window, 50) if start % 10**6 > 10**5]
    held = [one for one in held if one[1] % 10**6 < 9 * 10**5]
    with serving(FakeJaeger(held, ahead_s=100.0)) as jaeger:
        seen = JaegerCollector(jaeger.url, "front", QUICK).collect(window)
    assert pytest.approx(100.0, abs=0.5) == seen.details["clock_offset_s"]
    assert len(held) >= seen.details["traces"] >= len(held) - 2


def test_a_clock_that_agrees_is_left_alone() -> None:
    """A header of whole seconds is no reason to shift anything."""
    assert 0.0 == http_clock(lambda: BaseHTTPRequestHandler.date_time_string(None)).offset_s  # type: ignore[arg-type]  # it uses no self


def test_a_source_without_a_date_is_taken_as_ours() -> None:
    """Nothing is known of it."""
    assert (0.0, 0.0) == (http_clock(lambda: None).offset_s, http_clock(lambda: "noon").uncertainty_s)


def test_a_jaeger_that_is_away_is_the_collectors_failure(window: Window) -> None:
    """With its address and the reason."""
    with pytest.raises(CollectorError, match=r"Jaeger: http://127.0.0.1:9: ConnectionError"):
        JaegerCollector("http://127.0.0.1:9", "front", QUICK).collect(window)
