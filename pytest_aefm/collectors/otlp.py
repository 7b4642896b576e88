"""OTLP traces: bodies read back from a receiver's store, decoded from protobuf or JSON into span columns."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # its stubs are a package apart
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.receiver import CONTENT_TYPES, ENCODINGS, RECORD
from pytest_aefm.collectors.spans import SpanRows, Spans
from pytest_aefm.errors import CollectorError

__all__ = ["StoredBody", "decode", "decode_store", "read_store"]

_PROTOBUF, _JSON = CONTENT_TYPES
_MAX_DECOMPRESSED = 512 * 2**20
_NAMELESS = "unknown_service"
_POD_KEYS = ("k8s.pod.name", "host.name")  # the first that is there names the pod
_ERROR = 2  # STATUS_CODE_ERROR
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


@dataclass(frozen=True)
class StoredBody:
    """An export as it was received, decompressed; ``end`` is the store's offset after it."""

    content_type: str
    data: bytes
    end: int


def read_store(path: Path, offset: int = 0) -> Iterator[StoredBody]:
    """Yield the bodies of a receiver's store from ``offset`` (bytes, the ``end`` of an earlier body) on.

    A record that is still being written is left for the next time.

    Raises:
        CollectorError: the store cannot be read, is no store at this offset, or a body cannot be decompressed.
    """
    try:
        with path.open("rb") as store:
            store.seek(offset)
            while len(head := store.read(RECORD.size)) == RECORD.size:
                length, content_type, encoding = RECORD.unpack(head)
                if content_type >= len(CONTENT_TYPES) or encoding >= len(ENCODINGS):
                    raise CollectorError(f"{path}, byte {offset}", "no record of a receiver starts here")
                body = store.read(length)
                if len(body) < length:
                    return
                where = f"{path}, byte {offset}"
                offset += RECORD.size + length
                data = _decompressed(body, where) if ENCODINGS[encoding] == "gzip" else body
                yield StoredBody(CONTENT_TYPES[content_type], data, offset)
    except OSError as error:
        raise CollectorError(str(path), f"cannot be read: {error.strerror}") from error


def decode_store(path: Path, offset: int = 0) -> tuple[Spans, int]:
    """Return all spans of a store from ``offset`` on, and the offset to go on from.

    Raises:
        CollectorError: the store cannot be read, or a body in it is malformed.
    """
    parts = []
    for body in read_store(path, offset):
        parts.append(decode(body.data, body.content_type))
        offset = body.end
    return Spans.concatenate(parts), offset


def decode(body: bytes, content_type: str) -> Spans:
    """Decode one ExportTraceServiceRequest, ``application/x-protobuf`` or ``application/json``.

    Raises:
        CollectorError: the body is malformed, or of another type.
    """
    if content_type == _PROTOBUF:
        return _decode_protobuf(body)
    if content_type == _JSON:
        try:
            return _decode_json(json.loads(body))
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            raise CollectorError("OTLP body", f"malformed JSON of traces: {error!r}") from error
    raise CollectorError("OTLP body", f"content type {content_type!r}", f"{_PROTOBUF} or {_JSON}")


def _decode_protobuf(body: bytes) -> Spans:
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise CollectorError("OTLP body", f"malformed protobuf: {error}") from error
    rows = SpanRows()
    number = int.from_bytes
    for resource_spans in request.resource_spans:
        named = {one.key: one.value.string_value for one in resource_spans.resource.attributes}
        service, pod = _names(named)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
                _check_ids(len(trace_id), len(span_id), len(parent_id))
                rows.add(
                    number(trace_id, "big"),
                    number(span_id, "big"),
                    number(parent_id, "big"),
                    service,
                    span.name,
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == _ERROR,
                    pod,
                )
    return rows.build()


def _decode_json(request: dict[str, Any]) -> Spans:
    """Decode OTLP's JSON mapping: hexadecimal ids, 64-bit integers as strings or numbers, unknown keys ignored."""
    rows = SpanRows()
    for resource_spans in request.get("resourceSpans") or ():
        attributes = (resource_spans.get("resource") or {}).get("attributes") or ()
        service, pod = _names({one.get("key"): (one.get("value") or {}).get("stringValue") for one in attributes})
        for scope_spans in resource_spans.get("scopeSpans") or ():
            for span in scope_spans.get("spans") or ():
                _add_json(rows, service, pod, span)
    return rows.build()


def _add_json(rows: SpanRows, service: str, pod: str, span: dict[str, Any]) -> None:
    trace_id, span_id = span.get("traceId") or "", span.get("spanId") or ""
    parent_id = span.get("parentSpanId") or ""
    _check_ids(len(trace_id) / 2, len(span_id) / 2, len(parent_id) / 2)
    code = (span.get("status") or {}).get("code", 0)
    rows.add(
        int.from_bytes(bytes.fromhex(trace_id), "big"),
        int.from_bytes(bytes.fromhex(span_id), "big"),
        int.from_bytes(bytes.fromhex(parent_id), "big"),
        service,
        str(span.get("name") or ""),
        _kind(span.get("kind", 0)),
        _unsigned(span.get("startTimeUnixNano", 0)),
        _unsigned(span.get("endTimeUnixNano", 0)),
        code in (_ERROR, "STATUS_CODE_ERROR"),
        pod,
    )


def _names(attributes: Mapping[Any, str | None]) -> tuple[str, str]:
    """Return the service and the pod that a resource speaks of."""
    pod = next((str(attributes[key]) for key in _POD_KEYS if attributes.get(key)), "")
    return str(attributes.get("service.name") or _NAMELESS), pod


def _kind(kind: object) -> int:
    if isinstance(kind, str):
        return _KINDS.index(kind.removeprefix("SPAN_KIND_"))
    if not isinstance(kind, int):
        raise TypeError(f"span kind {kind!r}")
    return kind


def _unsigned(value: object) -> int:
    """Return a fixed64 of the JSON mapping."""
    if isinstance(value, bool) or not isinstance(value, int | str) or int(value) < 0:
        raise ValueError(f"time {value!r}")
    return int(value)


def _check_ids(trace: float, span: float, parent: float) -> None:
    if trace != 16 or span != 8 or parent not in (0, 8):
        what = f"ids of {trace:g}, {span:g} and {parent:g} bytes"
        raise CollectorError("OTLP body", what, "16 for a trace, 8 for a span, 8 or none for its parent")


def _decompressed(body: bytes, where: str) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        data = inflate.decompress(body, _MAX_DECOMPRESSED)
    except zlib.error as error:
        raise CollectorError(where, f"a body is not gzip: {error}") from error
    if not inflate.eof:
        what = f"over {_MAX_DECOMPRESSED} bytes when decompressed" if inflate.unconsumed_tail else "truncated"
        raise CollectorError(where, f"a gzip body is {what}")
    return data
