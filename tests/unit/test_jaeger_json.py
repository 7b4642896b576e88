"""Jaeger's JSON: spans are decoded whole, whatever the version leaves out; what is malformed is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.collectors.jaeger_json import jaeger_spans, parse_jaeger
from pytest_aefm.collectors.spans import CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER, UNSPECIFIED, Spans
from pytest_aefm.errors import CollectorError

TRACE, SPAN, PARENT = "0102030405060708090a0b0c0d0e0f10", "00000000000000ff", "8000000000000001"
SEPARATORS = [(",", ":"), (", ", ": "), (" ,\n ", " :\t")]
KIND = {"key": "span.kind", "type": "string", "value": "server"}


def reference(**changes: Any) -> dict[str, Any]:
    """Return a reference to the parent."""
    return {"refType": "CHILD_OF", "traceID": TRACE, "spanID": PARENT, **changes}


def span_of(**changes: Any) -> dict[str, Any]:
    """Return a span of the trace."""
    return {
        "traceID": TRACE,
        "spanID": SPAN,
        "flags": 1,
        "operationName": "/nearby",
        "references": [reference()],
        "startTime": 1_700_000_000_000_001,
        "duration": 900,
        "tags": [{"key": "http.url", "type": "string", "value": 'http://{x}/"error"'}, KIND],
        "logs": [{"timestamp": 1, "fields": []}],
        "processID": "p1",
        "warnings": None,
        **changes,
    }


def answer(*, processes: Any = None, trace: str = TRACE, **changes: Any) -> bytes:
    """Return an answer with one trace of one span of service ``geo``."""
    tags = [{"key": "hostname", "type": "string", "value": "geo-7b9c"}]
    made = processes if processes is not None else {"p1": {"serviceName": "geo", "tags": tags}}
    traces = [{"traceID": trace, "spans": [span_of(traceID=trace, **changes)], "processes": made, "warnings": None}]
    return json.dumps({"data": traces, "total": 0, "limit": 0, "offset": 0, "errors": None}).encode()


def decoded(body: bytes) -> Spans:
    """Return the spans of an answer."""
    return jaeger_spans(parse_jaeger(body))


def test_a_span_is_decoded_whole() -> None:
    """Ids are big-endian integers, times nanoseconds."""
    spans = decoded(answer())
    assert (0x0102030405060708, 0x090A0B0C0D0E0F10) == (spans.trace_high[0], spans.trace_low[0])
    assert (0xFF, 0x8000000000000001) == (spans.span_id[0], spans.parent_id[0])
    assert (1_700_000_000_000_001_000, 1_700_000_000_000_901_000) == (spans.start_ns[0], spans.end_ns[0])
    assert (("geo",), ("/nearby",), ("geo-7b9c",)) == (spans.services, spans.operations, spans.pods)
    assert (SERVER, False) == (spans.kind[0], bool(spans.error[0]))


def test_ids_without_their_leading_zeros_are_read() -> None:
    """Jaeger before 1.16 leaves them out, and has traces of 64 bits."""
    spans = decoded(answer(spanID="ff", trace="abc", references=[reference(traceID="abc", spanID="1")]))
    assert (0, 0xABC, 0xFF, 1) == (spans.trace_high[0], spans.trace_low[0], spans.span_id[0], spans.parent_id[0])


@pytest.mark.parametrize(
    ("references", "parent"),
    [
        ([], 0),
        (None, 0),
        ([reference(spanID="2", refType="FOLLOWS_FROM"), reference(spanID="3")], 3),
        ([reference(spanID="2", refType="FOLLOWS_FROM")], 2),
        ([reference(spanID="2", traceID="f" * 32), reference(spanID="3")], 3),
        ([reference(spanID="2", traceID="f" * 32)], 0),
    ],
)
def test_the_parent_is_the_first_reference_as_child_within_the_trace(references: Any, parent: int) -> None:
    """A link to another trace is no parent; one that follows from another has it as parent where there is no better."""
    assert parent == decoded(answer(references=references)).parent_id[0]


@pytest.mark.parametrize(
    ("tags", "error"),
    [
        ([{"key": "error", "type": "bool", "value": True}], True),
        ([{"key": "error", "type": "string", "value": "true"}], True),
        ([{"key": "error", "type": "string", "value": "refused"}], True),
        ([{"key": "error", "type": "bool", "value": False}], False),
        ([{"key": "error", "type": "string", "value": "false"}], False),
        ([{"key": "log", "type": "string", "value": "error"}], False),
        ([], False),
        (None, False),
    ],
)
def test_an_error_is_a_tag_that_says_so(tags: Any, error: bool) -> None:
    """A value that happens to read error is none."""
    assert error == bool(decoded(answer(tags=tags)).error[0])


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ([KIND], SERVER),
        ([{"value": "client", "type": "string", "key": "span.kind"}], CLIENT),
        ([{"key": "note", "value": "span.kind"}, {"key": "span.kind", "value": "client"}], CLIENT),
        ([{"key": "note", "value": '{"key":"span.kind","value":"client"}'}], UNSPECIFIED),
        ([{"key": "note", "value": "}{"}, {"key": "span.kind", "value": "client", "more": {"a": "{"}}], CLIENT),
        ([{"key": "span.kind", "value": "new"}], UNSPECIFIED),
        ([], UNSPECIFIED),
    ],
)
def test_the_kind_is_what_the_tag_says(tags: Any, kind: int) -> None:
    """Whatever the other tags look like."""
    assert kind == decoded(answer(tags=tags)).kind[0]


@pytest.mark.parametrize("separators", SEPARATORS)
def test_tags_of_many_spans_are_told_apart(separators: tuple[str, str]) -> None:
    """However the JSON is spaced, each span has the kind and the error of its own tags, and the pod of its process."""
    names = ["server", "client", "producer", "consumer", "internal", "Server", "other"]
    failed = {"key": "error", "type": "bool", "value": True}
    tags = [[{"key": "span.kind", "type": "string", "value": name}, *[failed] * (name == "client")] for name in names]
    spans = [span_of(spanID=f"{n + 1:x}", tags=[*found, KIND], processID=f"p{n % 2}") for n, found in enumerate(tags)]
    processes = {
        f"p{n}": {
            "serviceName": "geo",
            "tags": [{"key": "ip", "value": "1"}, {"key": "host.name", "value": f"geo-{n}"}],
        }
        for n in (0, 1)
    }
    traces = [{"traceID": TRACE, "spans": spans, "processes": processes}] * 2
    found = decoded(json.dumps({"data": traces}, separators=separators).encode())
    assert [SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL, SERVER, UNSPECIFIED] * 2 == found.kind.tolist()
    assert [name == "client" for name in names] * 2 == found.error.tolist()
    assert (("geo",), [f"geo-{n % 2}" for n in range(7)] * 2) == (found.services, [found.pods[n] for n in found.pod])


@pytest.mark.parametrize("separators", SEPARATORS)
@pytest.mark.parametrize("trace", [TRACE, TRACE.lstrip("0")])
def test_parents_of_many_spans_are_told_apart(separators: tuple[str, str], trace: str) -> None:
    """However a reference is written, each span has the parent that its own says, within its own trace."""
    other = "f" * len(trace)
    listed: list[tuple[Any, int]] = [
        ([], 0),
        (None, 0),
        ([reference(traceID=trace)], int(PARENT, 16)),
        ([reference(traceID=other)], 0),
        ([reference(traceID=trace, refType="FOLLOWS_FROM")], int(PARENT, 16)),
        ([reference(traceID=trace, spanID="2")], 2),
        ([{"spanID": "3", "traceID": trace, "refType": "CHILD_OF"}], 3),
        ([reference(traceID=other), reference(traceID=trace, spanID="4")], 4),
    ]
    traces = []
    for one in (trace, other):
        spans = [span_of(spanID=f"{n + 1:x}", references=made) for n, (made, _) in enumerate(listed)]
        traces.append({"traceID": one, "spans": spans, "processes": {"p1": {"serviceName": "geo"}}})
    found = decoded(json.dumps({"data": traces}, separators=separators).encode()).parent_id.tolist()
    assert [parent for _, parent in listed] == found[: len(listed)]
    assert [0, 0, 0, int(PARENT, 16), 0, 0, 0, int(PARENT, 16)] == found[len(listed) :]


@pytest.mark.parametrize(
    "changes",
    [
        {"spanID": "zz"},
        {"spanID": ""},
        {"spanID": "1" * 17},
        {"spanID": 7},
        {"startTime": -1},
        {"startTime": 2**62},
        {"startTime": "1"},
        {"duration": 1.5},
        {"processID": "p9"},
        {"references": [{"refType": "CHILD_OF"}]},
        {"processes": []},
        {"trace": "0" * 33},
    ],
)
def test_what_is_malformed_is_refused(changes: dict[str, Any]) -> None:
    """A value that means nothing is an error of the answer, never a guess."""
    with pytest.raises(CollectorError, match="Jaeger JSON: malformed"):
        decoded(answer(**changes))


def test_what_jaeger_says_of_a_failure_is_told() -> None:
    """An answer with errors is no answer."""
    body = json.dumps({"data": None, "errors": [{"code": 500, "msg": "storage is away"}]}).encode()
    with pytest.raises(CollectorError, match="storage is away"):
        parse_jaeger(body)


def test_an_empty_answer_has_no_spans() -> None:
    """Nothing was found."""
    assert (0, 0) == (len(decoded(b'{"data":[]}')), len(decoded(b'{"data":null}')))


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """No input crashes the decoder."""
    with contextlib.suppress(CollectorError):
        decoded(data)
