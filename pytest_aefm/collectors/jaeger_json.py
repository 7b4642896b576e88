"""Jaeger's JSON of traces, as its query API and its pages' download give it, decoded into span columns.

A typed decoder reads what is used and skips the rest. Times are microseconds there, so a span may seem to end 1 us
after its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.jaeger_ids import id_words, parent_ids
from pytest_aefm.collectors.jaeger_tags import Tag, error_flags, pod_of, span_kinds
from pytest_aefm.collectors.raw_texts import RawTexts
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.errors import CollectorError

__all__ = ["Trace", "jaeger_spans", "parse_jaeger"]

_NOTHING = msgspec.Raw(b"null")
_LAST_US = (2**63 - 1) // 1000


class _Span(msgspec.Struct, gc=False):
    spanID: str  # noqa: N815  # Jaeger's names, here and below
    startTime: int  # noqa: N815
    duration: int
    operationName: str = ""  # noqa: N815
    processID: str = ""  # noqa: N815
    parentSpanID: str = ""  # noqa: N815
    references: msgspec.Raw = _NOTHING
    tags: msgspec.Raw = _NOTHING


class _Process(msgspec.Struct, gc=False):
    serviceName: str = ""  # noqa: N815
    tags: list[Tag] | None = None


class Trace(msgspec.Struct, gc=False):
    """A trace as Jaeger has it."""

    traceID: str  # noqa: N815
    spans: list[_Span] | None = None
    processes: msgspec.Raw = _NOTHING


class _Answer(msgspec.Struct, gc=False):
    data: list[Trace] | None
    errors: Any = None


_ANSWER, _PROCESSES = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(dict[str, _Process] | None)


def parse_jaeger(body: bytes) -> list[Trace]:
    """Read one answer of ``/api/traces``, or a trace as Jaeger's pages save it; tags are read when columns are made.

    Raises:
        CollectorError: the text is no such JSON, or Jaeger says that it failed.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CollectorError("Jaeger JSON", f"malformed: {error}", "what /api/traces answers") from error
    if answer.errors:
        raise CollectorError("Jaeger JSON", f"it says: {msgspec.json.encode(answer.errors).decode()[:300]}")
    return answer.data or []


def jaeger_spans(traces: Sequence[Trace]) -> Spans:
    """Return the spans of traces that were read, of one answer or of many.

    Raises:
        CollectorError: an id, a time or a process means nothing.
    """
    try:
        return _columns(traces)
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise CollectorError("Jaeger JSON", f"malformed: {error}", "what /api/traces answers") from error


def _columns(traces: Sequence[Trace]) -> Spans:
    spans = [span for trace in traces for span in trace.spans or ()]
    names = [span.operationName for span in spans]
    operations = {name: number for number, name in enumerate(dict.fromkeys(names))}
    counts = [len(trace.spans or ()) for trace in traces]
    trace, trace_ids = np.repeat(np.arange(len(traces)), counts), [trace.traceID for trace in traces]
    words = id_words(trace_ids, 2)[trace]
    start = np.array([span.startTime for span in spans], np.int64)
    end = start + np.array([span.duration for span in spans], np.int64)
    if len(spans) and not (0 <= start.min() and end.max() <= _LAST_US):
        raise ValueError("a time before 1970 or after 2262")
    service, pod, services, pods = _processes(traces)
    tags, references = RawTexts([span.tags for span in spans]), RawTexts([span.references for span in spans])
    return Spans(
        words[:, 0],
        words[:, 1],
        id_words([span.spanID for span in spans], 1)[:, 0],
        parent_ids(references, trace_ids, trace, [span.parentSpanID for span in spans]),
        service,
        np.array([operations[name] for name in names], np.int32),
        pod,
        span_kinds(tags),
        start * 1000,
        end * 1000,
        error_flags(tags),
        services,
        tuple(operations),
        pods,
    )


Numbers = NDArray[np.int32]


def _processes(traces: Sequence[Trace]) -> tuple[Numbers, Numbers, tuple[str, ...], tuple[str, ...]]:
    """Return for each span the numbers of its service and its pod, and the names of both; equal texts are read once."""
    pairs, read, number = dict[tuple[str, str], int](), dict[bytes, dict[str, int]](), list[int]()
    for trace in traces:
        text = bytes(trace.processes)
        if text not in read:
            named = ((key, (one.serviceName, pod_of(one.tags or ()))) for key, one in _described(text).items())
            read[text] = {key: pairs.setdefault(pair, len(pairs)) for key, pair in named}
        known = read[text]
        try:
            number += [known[span.processID] for span in trace.spans or ()]
        except KeyError as error:
            raise ValueError(f"trace {trace.traceID}: process {error} is not described") from None
    services, pods = dict[str, int](), dict[str, int]()
    service = [services.setdefault(name or "unknown_service", len(services)) for name, _ in pairs]
    pod = [pods.setdefault(name, len(pods)) for _, name in pairs]
    of_span = np.array(number, np.intp)
    return np.array(service, np.int32)[of_span], np.array(pod, np.int32)[of_span], tuple(services), tuple(pods)


def _described(text: bytes) -> dict[str, _Process]:
    return _PROCESSES.decode(text) or {}
