"""Spans as columns: what decoders make and what the analysis of traces reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIENT", "CONSUMER", "INTERNAL", "PRODUCER", "SERVER", "UNSPECIFIED", "SpanRows", "Spans"]

# OTLP's numbers of span kinds.
UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)

_LAST_NS = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Spans:
    """Spans, one per row of every column.

    Ids are the big-endian integers of OTLP's bytes (a trace id is ``trace_high``, ``trace_low``), ``parent_id`` 0 for
    none; ``service`` and ``operation`` index into ``services`` and ``operations``; times are wall-clock
    nanoseconds since 1970; ``error`` is true where the span's status is an error.
    """

    trace_high: NDArray[np.uint64]
    trace_low: NDArray[np.uint64]
    span_id: NDArray[np.uint64]
    parent_id: NDArray[np.uint64]
    service: NDArray[np.int32]
    operation: NDArray[np.int32]
    kind: NDArray[np.int8]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    error: NDArray[np.bool_]
    services: tuple[str, ...]
    operations: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.span_id)

    @classmethod
    def concatenate(cls, parts: Sequence[Spans]) -> Spans:
        """Return the rows of all parts in order, their names numbered anew."""
        rows = SpanRows()
        if not parts:
            return rows.build()
        services, service = _renumbered([(part.services, part.service) for part in parts])
        operations, operation = _renumbered([(part.operations, part.operation) for part in parts])
        return cls(
            np.concatenate([part.trace_high for part in parts]),
            np.concatenate([part.trace_low for part in parts]),
            np.concatenate([part.span_id for part in parts]),
            np.concatenate([part.parent_id for part in parts]),
            service,
            operation,
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.start_ns for part in parts]),
            np.concatenate([part.end_ns for part in parts]),
            np.concatenate([part.error for part in parts]),
            services,
            operations,
        )

    def take(self, rows: NDArray[np.intp]) -> Spans:
        """Return the rows of these indices, in their order."""
        return Spans(
            self.trace_high[rows],
            self.trace_low[rows],
            self.span_id[rows],
            self.parent_id[rows],
            self.service[rows],
            self.operation[rows],
            self.kind[rows],
            self.start_ns[rows],
            self.end_ns[rows],
            self.error[rows],
            self.services,
            self.operations,
        )


@dataclass
class SpanRows:
    """Collects rows one by one, for decoders and tests; ``build`` makes the columns."""

    rows: list[tuple[int, int, int, int, int, int, int, int, int, bool]] = field(default_factory=list)
    services: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)

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
                kind if UNSPECIFIED <= kind <= CONSUMER else UNSPECIFIED,
                min(start_ns, _LAST_NS),
                min(end_ns, _LAST_NS),
                error,
            )
        )

    def build(self) -> Spans:
        """Return the rows as columns."""
        columns = list(zip(*self.rows, strict=True)) or [()] * 10
        high, low, span, parent, service, operation, kind, start, end, error = columns
        return Spans(
            np.array(high, np.uint64),
            np.array(low, np.uint64),
            np.array(span, np.uint64),
            np.array(parent, np.uint64),
            np.array(service, np.int32),
            np.array(operation, np.int32),
            np.array(kind, np.int8),
            np.array(start, np.int64),
            np.array(end, np.int64),
            np.array(error, np.bool_),
            tuple(self.services),
            tuple(self.operations),
        )


def _renumbered(
    parts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]],
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    numbers: dict[str, int] = {}
    columns = []
    for names, column in parts:
        mapping = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)
        columns.append(mapping[column])
    return tuple(numbers), np.concatenate(columns)
