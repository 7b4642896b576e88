"""Collectors run side by side and within bounds: what fails or takes too much is recorded, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.running import Bounds, Collect, run_collectors
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

WINDOW = Window(0.0, 0.0, 1.0)
SEEN = Observations(metrics={"x": 1.0})
MIB = 2**20


def run(tasks: Mapping[str, Collect], bounds: Bounds = Bounds()) -> dict[str, dict[str, Any]]:  # noqa: B008  # frozen
    """Return how each collector fared; ``own`` is asked once."""
    seen, states = run_collectors(tasks, WINDOW, bounds, once="own")
    assert set(seen) == {name for name, state in states.items() if state["ok"]}
    assert list(tasks) == list(states)
    return states


def failing(times: int, error: Exception, asked: list[Window]) -> Collect:
    """Return a collector whose source fails so many times."""

    def collect(window: Window) -> Observations:
        asked.append(window)
        if len(asked) <= times:
            raise error
        return SEEN

    return collect


def ended(name: str) -> bool:
    """Return whether a collector's thread ends soon."""
    for thread in threading.enumerate():
        if thread.name == f"aefm-{name}":
            thread.join(10)
            return not thread.is_alive()
    return True


@pytest.mark.parametrize(("times", "asked", "ok"), [(0, 1, True), (1, 2, True), (2, 2, False)])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(CollectorError("x", "refused"), "x: refused"), (ConnectionError("refused"), "ConnectionError: refused")],
)
def test_one_that_fails_is_asked_once_more(times: int, asked: int, ok: bool, error: Exception, reason: str) -> None:
    """Whatever it raises; what fails twice is recorded with its reason, and stops no other."""
    calls: list[Window] = []
    states = run({"own": lambda window: SEEN, "x": failing(times, error, calls)})
    assert ([WINDOW] * asked, ok, True) == (calls, states["x"]["ok"], states["own"]["ok"])
    assert ok or reason == states["x"]["reason"]


def test_what_is_read_for_good_is_read_once() -> None:
    """The testbed's counters were read at the window's edges, and are not there twice."""
    calls: list[Window] = []
    assert not run({"own": failing(1, CollectorError("own", "gone"), calls)})["own"]["ok"]
    assert [WINDOW] == calls


def test_one_that_takes_too_long_is_given_up() -> None:
    """Its reason says how long was waited; its thread ends as soon as it can."""

    def endless(window: Window) -> Observations:
        while True:
            time.sleep(0.01)

    state = run({"endless": endless}, Bounds(time_s=0.3))["endless"]
    assert {"ok": False, "reason": "no answer within 0.3 s (--aefm-collect-timeout)"} == state
    assert ended("endless")


def test_one_that_heeds_nothing_keeps_nobody_waiting() -> None:
    """A source that never answers is left waiting in its thread, which ends with the process at the latest."""
    release = threading.Event()

    def deaf(window: Window) -> Observations:
        release.wait()
        return SEEN

    try:
        assert not run({"deaf": deaf}, Bounds(time_s=0.2))["deaf"]["ok"]
    finally:
        release.set()
    assert ended("deaf")


def test_one_that_takes_too_much_memory_is_given_up() -> None:
    """It catches whatever a source may raise, and is ended all the same; what it held is free again."""
    held: list[bytes] = []

    def greedy(window: Window) -> Observations:
        try:
            while len(held) < 4096:
                try:
                    held.append(b"x" * MIB)
                    time.sleep(0.001)
                except Exception:  # as a careless one would
                    continue
            return SEEN
        finally:
            held.clear()

    state = run({"greedy": greedy}, Bounds(memory_bytes=64 * MIB))["greedy"]
    assert not state["ok"]
    assert "given up: this process had grown by" in state["reason"]
    assert "more than 64 MiB (--aefm-collect-memory)" in state["reason"]
    assert ended("greedy")
    assert [] == held
