"""Spans as columns: what decoders make and what the analysis of traces reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLIENT",
    "CONSUMER",
    "INTERNAL",
    "LAST_NS",
    "PRODUCER",
    "SERVER",
    "UNSPECIFIED",
    "SpanRows",
    "Spans",
    "hexadecimal",
    "words_of",
]

# OTLP's numbers of span kinds.
UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)

LAST_NS = 2**63 - 1
_PLAIN = ("trace_high", "trace_low", "span_id", "parent_id", "kind", "start_ns", "end_ns", "error")
_NAMED = (("service", "services"), ("operation", "operations"), ("pod", "pods"))


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans, one per row of every column.

    Ids are the big-endian integers of OTLP's bytes (a trace id is ``trace_high``, ``trace_low``), ``parent_id`` 0 for
    none; ``service``, ``operation`` and ``pod`` index into ``services``, ``operations`` and ``pods``, a pod being
    named "" where it is not known; times are wall-clock nanoseconds since 1970; ``error`` is true where the span's
    status is an error.
    """

    trace_high: NDArray[np.uint64]
    trace_low: NDArray[np.uint64]
    span_id: NDArray[np.uint64]
    parent_id: NDArray[np.uint64]
    service: NDArray[np.int32]
    operation: NDArray[np.int32]
    pod: NDArray[np.int32]
    kind: NDArray[np.int8]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    error: NDArray[np.bool_]
    services: tuple[str, ...]
    operations: tuple[str, ...]
    pods: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.span_id)

    @classmethod
    def concatenate(cls, parts: Sequence[Spans]) -> Spans:
        """Return the rows of all parts in order, their names numbered anew."""
        if not parts:
            return SpanRows().build()
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN}
        for column, names in _NAMED:
            numbered = [(getattr(part, names), getattr(part, column)) for part in parts]
            joined[names], joined[column] = _renumbered(numbered)
        return cls(**joined)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Spans:
        """Return the rows of these indices in their order, or those that a mask marks."""
        columns = {name: getattr(self, name)[rows] for name in (*_PLAIN, *(column for column, _ in _NAMED))}
        return replace(self, **columns)

    def shifted(self, by_ns: int) -> Spans:
        """Return the same spans with all times ``by_ns`` later: those of a clock that is behind."""
        return replace(self, start_ns=self.start_ns + by_ns, end_ns=self.end_ns + by_ns) if by_ns else self

    def trace_ids(self) -> list[str]:
        """Return the trace id of each row as 32 hexadecimal digits."""
        return _hexadecimal(np.column_stack([self.trace_high, self.trace_low]))


@dataclass
class SpanRows:
    """Collects rows one by one, for decoders and tests; ``build`` makes the columns."""

    rows: list[tuple[int, int, int, int, int, int, int, int, int, int, bool]] = field(default_factory=list)
    services: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        trace_id: int,
        span_id: int,
        parent_id: int,
        service: str,
        operation: str,
        kind: int,
        start_ns: int,
        end_ns: int,
        error: bool = False,
        pod: str = "",
    ) -> None:
        """Add a span; ids as big-endian integers, times in nanoseconds (those after 2262 are cut off there)."""
        self.rows.append(
            (
                trace_id >> 64,
                trace_id & (2**64 - 1),
                span_id,
                parent_id,
                self.services.setdefault(service, len(self.services)),
                self.operations.setdefault(operation, len(self.operations)),
                self.pods.setdefault(pod, len(self.pods)),
                kind if UNSPECIFIED <= kind <= CONSUMER else UNSPECIFIED,
                min(start_ns, LAST_NS),
                min(end_ns, LAST_NS),
                error,
            )
        )

    def build(self) -> Spans:
        """Return the rows as columns."""
        columns = list(zip(*self.rows, strict=True)) or [()] * 11
        high, low, span, parent, service, operation, pod, kind, start, end, error = columns
        return Spans(
            np.array(high, np.uint64),
            np.array(low, np.uint64),
            np.array(span, np.uint64),
            np.array(parent, np.uint64),
            np.array(service, np.int32),
            np.array(operation, np.int32),
            np.array(pod, np.int32),
            np.array(kind, np.int8),
            np.array(start, np.int64),
            np.array(end, np.int64),
            np.array(error, np.bool_),
            tuple(self.services),
            tuple(self.operations),
            tuple(self.pods),
        )


def hexadecimal(ids: NDArray[np.uint64]) -> list[str]:
    """Return each id as 16 hexadecimal digits."""
    return _hexadecimal(ids[:, None])


def words_of(data: bytes, words: int) -> NDArray[np.uint64]:
    """Return big-endian bytes as rows of 64-bit words."""
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, words)


def _hexadecimal(words: NDArray[np.uint64]) -> list[str]:
    """Return each row of words as text, 16 digits a word."""
    digits, width = words.astype(">u8").tobytes().hex(), 16 * words.shape[1]
    return [digits[start : start + width] for start in range(0, len(digits), width)]


def _renumbered(
    parts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]],
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    numbers: dict[str, int] = {}
    columns = []
    for names, column in parts:
        mapping = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)
        columns.append(mapping[column] if len(names) else column)
    return tuple(numbers), np.concatenate(columns)
