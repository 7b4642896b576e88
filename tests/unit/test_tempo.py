"""Tempo is searched completely, and its traces are fetched whole."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.fetching import Limits
from pytest_aefm.collectors.tempo import TempoCollector
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

COUNT, AT_MOST = 400, 60
QUICK = Limits(traces=100, quiet_s=0.0)


def trace(number: int, start_ns: int) -> bytes:
    """Return a trace of two spans as Tempo gives it: protobuf, whose first field is that of an export."""
    request = ExportTraceServiceRequest()
    for service, span_id, parent in (("front", 1, 0), ("back", 2, 1)):
        resource = request.resource_spans.add()
        attribute = resource.resource.attributes.add()
        attribute.key, attribute.value.string_value = "service.name", service
        span = resource.scope_spans.add().spans.add()
        span.trace_id, span.span_id = number.to_bytes(16, "big"), span_id.to_bytes(8, "big")
        span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
        span.start_time_unix_nano, span.end_time_unix_nano = start_ns + span_id, start_ns + 10**6 - span_id
    return bytes(request.SerializeToString())


@pytest.fixture
def window() -> Window:
    """A window of 20 s that ended half a minute ago."""
    return Window(float(int(time.time()) - 50), time.monotonic() - 50, 20.0)


@pytest.fixture
def tempo(window: Window) -> Iterator[str]:
    """Serve 400 traces, at most 60 an answer; return the URL."""
    start_ns = round(window.start_wall_s * 1e9)
    held = {f"{number:x}": start_ns + number * 20 * 10**9 // (COUNT + 1) for number in range(1, COUNT + 1)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(where.query).items()}
            name = where.path.rpartition("/")[2]
            if where.path == "/api/search" and query["q"] == '{resource.service.name="front"}':
                low, high = int(query["start"]) * 10**9, int(query["end"]) * 10**9
                found = [{"traceID": key} for key, at in held.items() if low <= at < high]
                self.answer(200, json.dumps({"traces": found[: min(AT_MOST, int(query["limit"]))]}).encode())
            elif where.path.startswith("/api/traces/") and self.headers["Accept"] == "application/x-protobuf":
                self.answer(200, trace(int(name, 16), held[name]))
            else:
                self.answer(404 if where.path == "/api/echo" else 500, b"no such page")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_all_traces_are_fetched_once_each(tempo: str, window: Window) -> None:
    """400 of which search gives at most 60 an answer, without saying so."""
    seen = TempoCollector(tempo, "front", QUICK).collect(window)
    assert seen.traces is not None
    assert (COUNT, 2 * COUNT, 0) == (seen.details["traces"], seen.details["spans"], seen.details["duplicates"])
    assert {"self_time(front)", "self_time(back)"} == set(seen.metrics)


def test_a_tempo_that_fails_is_the_collectors_failure(tempo: str, window: Window) -> None:
    """With what it said."""
    with pytest.raises(CollectorError, match="/api/search: status 500: no such page"):
        TempoCollector(tempo, "other", QUICK).collect(window)
