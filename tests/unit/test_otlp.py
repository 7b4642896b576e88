"""OTLP bodies: protobuf and JSON give the same columns; what is malformed is refused; a store is read in parts."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.otlp import decode
from pytest_aefm.collectors.otlp_store import decode_store, read_store
from pytest_aefm.collectors.receiver import RECORD
from pytest_aefm.collectors.spans import CLIENT, SERVER
from pytest_aefm.errors import CollectorError

PROTOBUF, JSON = "application/x-protobuf", "application/json"
TRACE, SPAN, PARENT = "0102030405060708090a0b0c0d0e0f10", "00000000000000ff", "8000000000000001"


def body(**changes: Any) -> dict[str, Any]:
    """Return OTLP/JSON of one span of service ``geo``."""
    span = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "name": "GET /nearby",
        "kind": 2,
        "startTimeUnixNano": "1700000000000000001",
        "endTimeUnixNano": "1700000000000000901",
        "status": {"code": 2, "message": "no"},
        "unknownKey": [1],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "geo"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [{**span, **changes}]}]}]}


def protobuf() -> bytes:
    """Return the same span as protobuf."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    attribute = resource_spans.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "geo"
    span = resource_spans.scope_spans.add().spans.add()
    span.trace_id, span.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    span.parent_span_id = bytes.fromhex(PARENT)
    span.name, span.kind, span.status.code = "GET /nearby", 2, 2
    span.start_time_unix_nano, span.end_time_unix_nano = 1700000000000000001, 1700000000000000901
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(("data", "content_type"), [(json.dumps(body()).encode(), JSON), (protobuf(), PROTOBUF)])
def test_a_span_is_decoded_whole(data: bytes, content_type: str) -> None:
    """Ids are big-endian integers, times nanoseconds, exactly."""
    spans = decode(data, content_type)
    assert (0x0102030405060708, 0x090A0B0C0D0E0F10) == (spans.trace_high[0], spans.trace_low[0])
    assert (0xFF, 0x8000000000000001) == (spans.span_id[0], spans.parent_id[0])
    assert (1700000000000000001, 1700000000000000901) == (spans.start_ns[0], spans.end_ns[0])
    assert (("geo",), ("GET /nearby",), SERVER, True) == (
        spans.services,
        spans.operations,
        spans.kind[0],
        bool(spans.error[0]),
    )


@pytest.mark.parametrize(
    "changes", [{"kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": 5}, {"kind": 3, "parentSpanId": "", "status": None}]
)
def test_json_of_other_exporters_is_read(changes: dict[str, Any]) -> None:
    """Names for enumerations, numbers for 64-bit integers and absent values are what some exporters send."""
    assert CLIENT == decode(json.dumps(body(**changes)).encode(), JSON).kind[0]


def test_a_resource_without_name_is_an_unknown_service() -> None:
    """The semantic conventions' own fallback."""
    request = body()
    del request["resourceSpans"][0]["resource"]
    assert ("unknown_service",) == decode(json.dumps(request).encode(), JSON).services


@pytest.mark.parametrize(
    ("known", "pod"), [(("host.name",), "node-1"), (("host.name", "k8s.pod.name"), "geo-0"), ((), "")]
)
def test_the_pod_is_named_by_kubernetes_or_the_host(known: tuple[str, ...], pod: str) -> None:
    """A resource that names neither is of no known pod."""
    values = {"host.name": "node-1", "k8s.pod.name": "geo-0"}
    request = body()
    attributes = request["resourceSpans"][0]["resource"]["attributes"]
    attributes += [{"key": key, "value": {"stringValue": values[key]}} for key in known]
    spans = decode(json.dumps(request).encode(), JSON)
    assert pod == spans.pods[spans.pod[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"traceId": TRACE[2:]},
        {"spanId": "zz" * 8},
        {"spanId": ""},
        {"parentSpanId": "00"},
        {"startTimeUnixNano": "-1"},
        {"startTimeUnixNano": 1.5},
        {"kind": "SPAN_KIND_NEW"},
        {"kind": [2]},
        {"status": 2},
        {"traceId": 7},
    ],
)
def test_malformed_json_is_refused(changes: dict[str, Any]) -> None:
    """A value that means nothing is an error of the body, never a guess."""
    with pytest.raises(CollectorError, match="OTLP body"):
        decode(json.dumps(body(**changes)).encode(), JSON)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """No input crashes a decoder."""
    for content_type in (PROTOBUF, JSON):
        with contextlib.suppress(CollectorError):
            decode(data, content_type)


def test_another_content_type_is_refused() -> None:
    """The message names what is expected."""
    with pytest.raises(CollectorError, match="expected application/x-protobuf or application/json"):
        decode(b"", "text/plain")


def record(data: bytes, content_type: int = 0, encoding: int = 0) -> bytes:
    """Return a record of a store."""
    return RECORD.pack(len(data), content_type, encoding) + data


def test_a_store_is_read_on_from_where_it_ended(tmp_path: Path) -> None:
    """A record that is still being written is left for the next time."""
    store = tmp_path / "store"
    whole = record(protobuf()) + record(gzip.compress(json.dumps(body()).encode()), 1, 1)
    store.write_bytes(whole[:-3])
    first, offset = decode_store(store)
    store.write_bytes(whole)
    second, end = decode_store(store, offset)
    assert (1, 1, len(whole)) == (len(first), len(second), end)
    assert (0, len(whole)) == (len(decode_store(store, end)[0]), decode_store(store, end)[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0" * 4 + b"\x09" * 4, "byte 0: no record of a receiver starts here"),
        (record(b"no gzip", 1, 1), "a body is not gzip"),
        (record(gzip.compress(b"0" * 999, mtime=0)[:-4], 1, 1), "a gzip body is truncated"),
    ],
)
def test_a_broken_store_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and the byte."""
    store = tmp_path / "store"
    store.write_bytes(content)
    with pytest.raises(CollectorError, match=message):
        list(read_store(store))


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decompression stops at a limit."""
    monkeypatch.setattr("pytest_aefm.collectors.otlp_store._MAX_DECOMPRESSED", 1000)
    store = tmp_path / "store"
    store.write_bytes(record(gzip.compress(b"0" * 100_000), 1, 1))
    with pytest.raises(CollectorError, match="over 1000 bytes when decompressed"):
        list(read_store(store))


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    """The message gives the reason."""
    with pytest.raises(CollectorError, match="cannot be read: No such file"):
        list(read_store(tmp_path / "none"))
