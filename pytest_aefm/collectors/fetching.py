"""Fetches all traces of a window from a source that bounds its answers, and does not say what it left out.

The window is halved until an answer is below the limit, several requests in flight; then it is fetched again until
nothing has been new for as long as exporters hold spans back. All of it is bounded, and what was not had is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_aefm.collectors.clocks import Clock
from pytest_aefm.collectors.forest import trace_numbers
from pytest_aefm.collectors.spans import Spans

__all__ = ["Fetched", "Limits", "fetch_all", "fetch_settled", "joined", "told"]

Ask = Callable[[int, int, int], Spans]
"""Returns traces with a span in [start, end), at most as many as the limit; times in the source's unit since 1970."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is asked for at once, and how long: ``traces`` an answer, ``in_flight`` requests.

    Fetching ends once nothing was new for ``quiet_s`` (exporters of the OpenTelemetry SDK hold spans back for 5 s), at
    the latest after ``patience_s``.
    """

    traces: int = 1000
    in_flight: int = 4
    quiet_s: float = 5.5
    patience_s: float = 20.0
    look_s: float = 1.0


@dataclass(frozen=True, eq=False)
class Fetched:
    """All spans that were had, each trace once; in how many ``requests``.

    ``truncated`` counts moments, units of the source's time, that hold more traces than an answer takes. ``settled``
    tells whether nothing was new in the end, after ``waited_s`` seconds.
    """

    spans: Spans
    requests: int
    truncated: int
    settled: bool = True
    waited_s: float = 0.0


def fetch_settled(ask: Ask, start: int, end: int, limits: Limits, since_mono_s: float) -> Fetched:
    """Fetch a window again and again until late spans have arrived; ``since_mono_s`` is when it ended.

    Raises:
        CollectorError: whatever ``ask`` raises.
    """
    requests, seen, changed = 0, -1, since_mono_s
    while True:
        found = fetch_all(ask, start, end, limits)
        now, requests = time.monotonic(), requests + found.requests
        if len(found.spans) != seen:
            seen, changed = len(found.spans), now if seen >= 0 else since_mono_s
        quiet = seen > 0 and now - changed >= limits.quiet_s
        if quiet or now - since_mono_s >= limits.patience_s:
            return Fetched(found.spans, requests, found.truncated, quiet, round(now - since_mono_s, 3))
        time.sleep(limits.look_s)


def fetch_all(ask: Ask, start: int, end: int, limits: Limits) -> Fetched:
    """Fetch a window once, completely.

    The first answer is compared with those of its halves, however few traces it has: a source may have a limit of its
    own below ours, and would not say so.

    Raises:
        CollectorError: whatever ``ask`` raises.
    """
    whole = ask(start, end, limits.traces)
    if not len(whole) or end - start < 2:
        return Fetched(whole, 1, int(_count(whole) >= limits.traces))
    parts, requests, truncated = [whole], 1, 0
    limit, middle = limits.traces, (start + end) // 2
    with ThreadPoolExecutor(limits.in_flight) as pool:
        flight: dict[Future[Spans], tuple[int, int]] = {}

        def send(low: int, high: int) -> None:
            flight[pool.submit(ask, low, high, limits.traces)] = (low, high)

        halves = [pool.submit(ask, *half, limits.traces) for half in ((start, middle), (middle, end))]
        answers = [((start, middle), halves[0].result()), ((middle, end), halves[1].result())]
        requests += 2
        if _count(joined([whole, *(answer for _, answer in answers)])) > _count(whole):
            limit = min(limit, _count(whole))
        while answers or flight:
            for (low, high), answer in answers:
                parts.append(answer)
                if _count(answer) >= limit:
                    if high - low < 2:
                        truncated += 1
                    else:
                        send(low, (low + high) // 2)
                        send((low + high) // 2, high)
                        requests += 2
            done, _ = wait(flight, return_when=FIRST_COMPLETED) if flight else (set(), None)
            answers = [(flight.pop(future), future.result()) for future in done]
    return Fetched(joined(parts), requests, truncated)


def joined(parts: Sequence[Spans]) -> Spans:
    """Return each trace once: as the part has it that knows most of its spans, of equal ones the last."""
    spans = Spans.concatenate(parts)
    if not len(spans):
        return spans
    trace, traces = trace_numbers(spans)
    part = np.repeat(np.arange(len(parts)), [len(one) for one in parts])
    pairs, counts = np.unique(trace * len(parts) + part, return_counts=True)
    order = np.lexsort((pairs % len(parts), counts, pairs // len(parts)))
    best = np.zeros(traces, np.int64)
    best[pairs[order] // len(parts)] = pairs[order] % len(parts)  # the last of each trace stays
    return spans.take(part == best[trace])


def told(clock: Clock, fetched: Fetched) -> dict[str, Any]:
    """Return what a report says of a fetch, and of the clock by which it was made."""
    return {
        "clock_offset_s": round(clock.offset_s, 4),
        "clock_uncertainty_s": round(clock.uncertainty_s, 4),
        "fetch_requests": fetched.requests,
        "fetch_truncated": fetched.truncated,
        "fetch_settled": fetched.settled,
        "fetch_waited_s": fetched.waited_s,
    }


def _count(spans: Spans) -> int:
    return trace_numbers(spans)[1] if len(spans) else 0
