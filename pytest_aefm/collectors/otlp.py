"""OTLP traces: one export, protobuf or JSON, decoded into span columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package apart
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.receiver import CONTENT_TYPES
from pytest_aefm.collectors.spans import LAST_NS, Spans, words_of
from pytest_aefm.errors import CollectorError

__all__ = ["decode", "decode_result"]

_PROTOBUF, _JSON = CONTENT_TYPES
_NAMELESS = "unknown_service"
_POD_KEYS = ("k8s.pod.name", "host.name")  # the first that is there names the pod
_ERROR = 2  # STATUS_CODE_ERROR
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_NO_PARENT = bytes(8)


class _Value(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815  # OTLP's names, here and below


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: _Value | None = None


class _Resource(msgspec.Struct, gc=False):
    attributes: list[_Attribute] | None = None


class _Status(msgspec.Struct, gc=False):
    code: int | str = 0


class _Span(msgspec.Struct, gc=False):
    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = None
    kind: int | str | None = 0
    startTimeUnixNano: int | str = 0  # noqa: N815
    endTimeUnixNano: int | str = 0  # noqa: N815
    status: _Status | None = None


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: list[_Span] | None = None


class _ResourceSpans(msgspec.Struct, gc=False):
    resource: _Resource | None = None
    scopeSpans: list[_ScopeSpans] | None = None  # noqa: N815


class _Request(msgspec.Struct, gc=False):
    resourceSpans: list[_ResourceSpans] | None = None  # noqa: N815


class _Result(msgspec.Struct, gc=False):
    result: _Request | None = None


_REQUEST, _RESULT = msgspec.json.Decoder(_Request), msgspec.json.Decoder(_Result)


@dataclass
class _Columns:
    """Collects the spans of one resource after the other."""

    spans: list[Any] = field(default_factory=list)
    service: list[int] = field(default_factory=list)
    pod: list[int] = field(default_factory=list)
    services: dict[str, int] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)

    def add(self, attributes: Mapping[str, str | None], spans: Sequence[Any]) -> None:
        """Take the spans of a resource with these attributes."""
        service = attributes.get("service.name") or _NAMELESS
        pod = next((str(attributes[key]) for key in _POD_KEYS if attributes.get(key)), "")
        self.service += [self.services.setdefault(service, len(self.services))] * len(spans)
        self.pod += [self.pods.setdefault(pod, len(self.pods))] * len(spans)
        self.spans += spans

    def build(
        self,
        ids: tuple[list[bytes], list[bytes], list[bytes]],
        names: Sequence[str],
        kinds: Sequence[int],
        times: tuple[list[int], list[int]],
        errors: Sequence[bool],
    ) -> Spans:
        """Return the columns; ``ids`` are those of traces, spans and parents, ``times`` start and end."""
        trace, span, parent = _words(*ids)
        operations: dict[str, int] = {}
        numbers = [operations.setdefault(name, len(operations)) for name in names]
        start, end = (np.minimum(np.array(column, np.uint64), LAST_NS).astype(np.int64) for column in times)
        return Spans(
            trace[:, 0],
            trace[:, 1],
            span[:, 0],
            parent[:, 0],
            np.array(self.service, np.int32),
            np.array(numbers, np.int32),
            np.array(self.pod, np.int32),
            np.array([kind if 0 <= kind < len(_KINDS) else 0 for kind in kinds], np.int8),
            start,
            end,
            np.array(errors, np.bool_),
            tuple(self.services),
            tuple(operations),
            tuple(self.pods),
        )


def decode(body: bytes, content_type: str) -> Spans:
    """Decode one ExportTraceServiceRequest, ``application/x-protobuf`` or ``application/json``.

    Raises:
        CollectorError: the body is malformed, or of another type.
    """
    if content_type == _PROTOBUF:
        return _decode_protobuf(body)
    if content_type == _JSON:
        return _json_spans(body, _REQUEST.decode)
    raise CollectorError("OTLP body", f"content type {content_type!r}", f"{_PROTOBUF} or {_JSON}")


def decode_result(body: bytes) -> Spans:
    """Decode an answer of Jaeger's query API v3: OTLP's JSON under ``result``.

    Raises:
        CollectorError: the body is malformed.
    """
    return _json_spans(body, lambda text: _RESULT.decode(text).result or _Request())


def _json_spans(body: bytes, read: Callable[[bytes], _Request]) -> Spans:
    try:
        return _decode_json(read(body))
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise CollectorError("OTLP body", f"malformed JSON of traces: {error}") from error


def _decode_protobuf(body: bytes) -> Spans:
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise CollectorError("OTLP body", f"malformed protobuf: {error}") from error
    columns = _Columns()
    for resource in request.resource_spans:
        attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
        columns.add(attributes, [span for scope in resource.scope_spans for span in scope.spans])
    spans = columns.spans
    return columns.build(
        (
            [span.trace_id for span in spans],
            [span.span_id for span in spans],
            [span.parent_span_id or _NO_PARENT for span in spans],
        ),
        [span.name for span in spans],
        [span.kind for span in spans],
        ([span.start_time_unix_nano for span in spans], [span.end_time_unix_nano for span in spans]),
        [span.status.code == _ERROR for span in spans],
    )


def _decode_json(request: _Request) -> Spans:
    """Decode OTLP's JSON mapping: hexadecimal ids, 64-bit integers as strings or numbers, unknown keys ignored."""
    columns = _Columns()
    for resource in request.resourceSpans or ():
        listed = (resource.resource.attributes if resource.resource else None) or ()
        attributes = {one.key: one.value.stringValue for one in listed if one.value}
        columns.add(attributes, [span for scope in resource.scopeSpans or () for span in scope.spans or ()])
    spans, unhex = columns.spans, bytes.fromhex
    return columns.build(
        (
            [unhex(span.traceId or "") for span in spans],
            [unhex(span.spanId or "") for span in spans],
            [unhex(span.parentSpanId) if span.parentSpanId else _NO_PARENT for span in spans],
        ),
        [span.name or "" for span in spans],
        [_kind(span.kind) for span in spans],
        ([_unsigned(span.startTimeUnixNano) for span in spans], [_unsigned(span.endTimeUnixNano) for span in spans]),
        [span.status is not None and span.status.code in (_ERROR, "STATUS_CODE_ERROR") for span in spans],
    )


def _kind(kind: int | str | None) -> int:
    return _KINDS.index(kind.removeprefix("SPAN_KIND_")) if isinstance(kind, str) else kind or 0


def _unsigned(value: int | str) -> int:
    """Return a fixed64 of the JSON mapping."""
    number = int(value)
    if number < 0:
        raise ValueError(f"time {value!r}")
    return number


def _words(traces: list[bytes], spans: list[bytes], parents: list[bytes]) -> tuple[Any, Any, Any]:
    """Return ids of 16, 8 and 8 bytes as rows of 64-bit words."""
    for ids, size, what in ((traces, 16, "trace"), (spans, 8, "span"), (parents, 8, "parent")):
        for one in ids:
            if len(one) != size:
                expected = "16 for a trace, 8 for a span, 8 or none for its parent"
                raise CollectorError("OTLP body", f"a {what} id of {len(one)} bytes", expected)
    return words_of(b"".join(traces), 2), words_of(b"".join(spans), 1), words_of(b"".join(parents), 1)
