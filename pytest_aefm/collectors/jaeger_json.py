"""Jaeger's JSON of traces, as its query API and its pages' download give it, decoded into span columns.

A typed decoder reads what is used and skips the rest; of a span's tags, which are most of the text, only those two
that say something here are looked at. Times are microseconds there, so a span may seem to end 1 us after its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.spans import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, UNSPECIFIED, Spans, words_of
from pytest_aefm.errors import CollectorError

__all__ = ["Trace", "jaeger_spans", "parse_jaeger"]

_KINDS = {"server": SERVER, "client": CLIENT, "producer": PRODUCER, "consumer": CONSUMER, "internal": INTERNAL}
_POD_KEYS = ("k8s.pod.name", "host.name", "hostname")  # the first that is there names the pod
_NO_TAGS = msgspec.Raw(b"[]")
_NO_ID = "0" * 16
_LAST_US = (2**63 - 1) // 1000


class _Tag(msgspec.Struct, gc=False):
    key: str
    value: Any = None


class _Reference(msgspec.Struct, gc=False):
    spanID: str  # noqa: N815  # Jaeger's names, here and below
    traceID: str = ""  # noqa: N815
    refType: str = "CHILD_OF"  # noqa: N815


class _Span(msgspec.Struct, gc=False):
    spanID: str  # noqa: N815
    startTime: int  # noqa: N815
    duration: int
    traceID: str = ""  # noqa: N815
    operationName: str = ""  # noqa: N815
    processID: str = ""  # noqa: N815
    parentSpanID: str = ""  # noqa: N815
    references: list[_Reference] | None = None
    tags: msgspec.Raw = _NO_TAGS


class _Process(msgspec.Struct, gc=False):
    serviceName: str = ""  # noqa: N815
    tags: msgspec.Raw = _NO_TAGS


class Trace(msgspec.Struct, gc=False):
    """A trace as Jaeger has it."""

    traceID: str  # noqa: N815
    spans: list[_Span] | None = None
    processes: dict[str, _Process] | None = None


class _Answer(msgspec.Struct, gc=False):
    data: list[Trace] | None
    errors: Any = None


_ANSWER, _TAGS = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(list[_Tag] | None)
_ONE_TAG = msgspec.json.Decoder(_Tag)


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
    services, pods, process = _processes(traces)
    numbers: dict[str, int] = {}
    operation = [numbers.setdefault(span.operationName, len(numbers)) for span in spans]
    counts = [len(trace.spans or ()) for trace in traces]
    trace_ids = _ids([trace.traceID.rjust(32, "0") for trace in traces], 2).repeat(counts, axis=0)
    start = np.array([span.startTime for span in spans], np.int64)
    end = start + np.array([span.duration for span in spans], np.int64)
    if len(spans) and not (0 <= start.min() and end.max() <= _LAST_US):
        raise ValueError("a time before 1970 or after 2262")
    tags = [bytes(span.tags) for span in spans]
    return Spans(
        trace_ids[:, 0],
        trace_ids[:, 1],
        _ids([span.spanID for span in spans], 1)[:, 0],
        _ids([_parent(span) for span in spans], 1)[:, 0],
        process[:, 0],
        np.array(operation, np.int32),
        process[:, 1],
        _kinds(tags),
        start * 1000,
        end * 1000,
        _errors(tags),
        tuple(services),
        tuple(numbers),
        tuple(pods),
    )


def _processes(traces: Sequence[Trace]) -> tuple[dict[str, int], dict[str, int], NDArray[np.int32]]:
    """Number services and pods; return both and, for each span, its two numbers. Equal texts are decoded once."""
    services: dict[str, int] = {}
    pods: dict[str, int] = {}
    seen: dict[tuple[str, bytes], tuple[int, int]] = {}
    process: list[tuple[int, int]] = []
    for trace in traces:
        known = {}
        for key, one in (trace.processes or {}).items():
            text = (one.serviceName, bytes(one.tags))
            if text not in seen:
                service = services.setdefault(one.serviceName or "unknown_service", len(services))
                seen[text] = service, pods.setdefault(_pod(text[1]), len(pods))
            known[key] = seen[text]
        try:
            process += [known[span.processID] for span in trace.spans or ()]
        except KeyError as error:
            raise ValueError(f"trace {trace.traceID}: process {error} is not described") from None
    return services, pods, np.array(process, np.int32).reshape(-1, 2)


def _pod(text: bytes) -> str:
    values = {tag.key: str(tag.value) for tag in _TAGS.decode(text) or () if tag.value}
    return next((values[key] for key in _POD_KEYS if key in values), "")


def _parent(span: _Span) -> str:
    """Return the id of the parent within the trace: of the first reference as child, else of the first of any kind."""
    references = span.references
    if not references:
        return span.parentSpanID or _NO_ID
    first = references[0]
    if first.refType == "CHILD_OF" and first.traceID == span.traceID:
        return first.spanID
    within = [one for one in references if one.traceID in ("", span.traceID)]
    children = [one for one in within if one.refType == "CHILD_OF"]
    return (children or within)[0].spanID if within else _NO_ID


def _ids(texts: list[str], words: int) -> NDArray[np.uint64]:
    """Return hexadecimal ids as rows of 64-bit words; old versions of Jaeger leave out leading zeros."""
    digits = 16 * words
    if any(len(text) != digits for text in texts):
        if any(not 0 < len(text) <= digits for text in texts):
            raise ValueError(f"an id that has not 1 to {digits} hexadecimal digits")
        texts = [text.rjust(digits, "0") for text in texts]
    data = bytes.fromhex("".join(texts))
    if len(data) != 8 * words * len(texts):
        raise ValueError("an id with blanks in it")
    return words_of(data, words)


def _kinds(tags: Sequence[bytes]) -> NDArray[np.int8]:
    """Return the kind that each span's tags name; equal tags are decoded once."""
    known: dict[bytes, int | None] = {}
    kinds = []
    for text in tags:
        at = text.find(b'"span.kind"')
        if at < 0:
            kinds.append(UNSPECIFIED)
            continue
        tag = text[text.rfind(b"{", 0, at) : text.find(b"}", at) + 1]
        if tag not in known:
            known[tag] = _kind_of_tag(tag)
        kind = known[tag]
        kinds.append(_kind_of_tags(text) if kind is None else kind)
    return np.array(kinds, np.int8)


def _kind_of_tag(text: bytes) -> int | None:
    """Return the kind that a text names which looks like one tag, None if it is another or only a part of one."""
    try:
        tag = _ONE_TAG.decode(text)
    except msgspec.DecodeError:
        return None
    return _KINDS.get(str(tag.value).lower(), UNSPECIFIED) if tag.key == "span.kind" else None


def _kind_of_tags(text: bytes) -> int:
    values = (str(tag.value).lower() for tag in _TAGS.decode(text) or () if tag.key == "span.kind")
    return _KINDS.get(next(values, ""), UNSPECIFIED)


def _errors(tags: Sequence[bytes]) -> NDArray[np.bool_]:
    """Mark spans with a tag ``error`` that is true, or says what failed; few have one, and only those are decoded."""
    return np.array([b'"error"' in text and _says_error(text) for text in tags], np.bool_)


def _says_error(text: bytes) -> bool:
    values = [tag.value for tag in _TAGS.decode(text) or () if tag.key == "error"]
    return any(value and str(value).lower() not in ("false", "0") for value in values)
