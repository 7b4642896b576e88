"""Spans worked by hand, and a slow, obvious reference: one object per span, one set of nanoseconds per interval."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from pytest_aefm.collectors.spans import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, SpanRows, Spans

ALWAYS = (0, 2**62)
EXAMPLES = int(os.environ.get("AEFM_TRACE_EXAMPLES", "300"))
"""How many random trees are tried; ``make bars`` tries 10,000."""


@dataclass(frozen=True)
class Row:
    """A span; ids and times are small integers."""

    trace: int
    span: int
    parent: int
    service: str
    kind: int
    start: int
    end: int
    error: bool = False

    def times(self, factor: int) -> Row:
        """Return the same span on a clock that ticks so much faster."""
        return replace(self, start=self.start * factor, end=self.end * factor)


def columns(*rows: Row) -> Spans:
    """Return rows as columns."""
    made = SpanRows()
    for row in rows:
        made.add(
            row.trace, row.span, row.parent, row.service, f"op {row.kind}", row.kind, row.start, row.end, row.error
        )
    return made.build()


def server(span: int, parent: int, service: str, start: int, end: int) -> Row:
    """Return a server span of trace 1."""
    return Row(1, span, parent, service, SERVER, start, end)


def client(span: int, parent: int, service: str, start: int, end: int) -> Row:
    """Return a client span of trace 1."""
    return Row(1, span, parent, service, CLIENT, start, end)


rows = st.builds(
    Row,
    trace=st.integers(1, 3),
    span=st.integers(1, 9),
    parent=st.integers(0, 9),
    service=st.sampled_from("abc"),
    kind=st.sampled_from([INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER]),
    start=st.integers(0, 30),
    end=st.integers(0, 30),
    error=st.booleans(),
)


def ticks(row: Row) -> set[int]:
    """Return every nanosecond of a span."""
    return set(range(row.start, row.end))


class Reference:
    """The definitions of the module, span by span."""

    def __init__(self, given_rows: list[Row], window: tuple[int, int]) -> None:
        self.all: dict[tuple[int, int], Row] = {}
        for row in given_rows:
            self.all.setdefault((row.trace, row.span), row)
        starts = {trace: self.root(trace) for trace in {row.trace for row in given_rows}}
        self.roots = [row for row in starts.values() if row and window[0] <= row.start < window[1]]
        self.rootless = sum(row is None for row in starts.values())
        chosen = {row.trace for row in self.roots}
        self.rows = [row for row in self.all.values() if row.trace in chosen]
        self.duplicates = sum(row.trace in chosen for row in given_rows) - len(self.rows)

    def root(self, trace: int) -> Row | None:
        """Return the root of a trace that starts first."""
        found = [row for row in self.all.values() if row.trace == trace and row.parent == 0]
        return min(found, key=lambda row: row.start, default=None)

    def parent(self, row: Row) -> Row | None:
        """Return the parent, where there is one."""
        return self.all.get((row.trace, row.parent)) if row.parent else None

    def cyclic(self, row: Row) -> bool:
        """Return whether the chain of parents never ends."""
        seen: list[Row] = []
        above: Row | None = row
        while above is not None and above not in seen:
            seen.append(above)
            above = self.parent(above)
        return above is not None

    def entry(self, row: Row) -> bool:
        """Return whether the span is a request at its service."""
        parent = self.parent(row)
        return parent is None or parent.service != row.service or row.kind in (SERVER, CONSUMER)

    def remote(self, row: Row) -> set[int]:
        """Return the nanoseconds beneath a span that other services, or calls to them, fill."""
        covered: set[int] = set()
        for child in self.all.values():
            if child is not row and self.parent(child) is row and not self.cyclic(child):
                if self.entry(child) or child.kind in (CLIENT, PRODUCER):
                    covered |= ticks(child)
                else:
                    covered |= self.remote(child)
        return covered

    def requests(self, service: str) -> list[tuple[int, int]]:
        """Return (duration, self time) of each request at a service, sorted."""
        own = [r for r in self.rows if r.service == service and not self.cyclic(r) and self.entry(r)]
        return sorted((len(ticks(row)), len(ticks(row) - self.remote(row))) for row in own)

    def clipped(self, row: Row) -> tuple[int, int]:
        """Return start and end of a span within all spans above it."""
        start, end, above = row.start, max(row.start, row.end), self.parent(row)
        if above is None:
            return start, end
        low, high = self.clipped(above)
        return max(start, low), min(end, high)

    def path(self, row: Row) -> dict[Row, int]:
        """Return the spans on the critical path through a span with their own nanoseconds there."""
        begin, now = self.clipped(row)
        own, beneath = now - begin, dict[Row, int]()
        children = [c for c in self.all.values() if c is not row and self.parent(c) is row and not self.cyclic(c)]
        intervals = {child: self.clipped(child) for child in children}
        while True:
            ended = [c for c, (start, end) in intervals.items() if start < end <= now]
            if not ended:
                return {row: own, **beneath}
            # The one that ended last; of several the one that began first.
            last = max(ended, key=lambda child: (intervals[child][1], -intervals[child][0]))
            beneath |= self.path(last)
            own -= intervals[last][1] - intervals[last][0]
            now = intervals[last][0]
