"""A Jaeger that holds many traces and gives few an answer, without saying what it left out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["FakeJaeger", "Held", "serving"]

Held = tuple[int, int, float]
"""A trace of two spans: its number, where its root starts (us since 1970), when it can first be seen (unix time)."""


@dataclass
class FakeJaeger:
    """What it holds, the most traces that it gives, how far its clock is ahead; counts its requests."""

    held: list[Held]
    at_most: int = 1500
    ahead_s: float = 0.0
    version: str = "v1"
    clock: Callable[[], float] = time.time
    url: str = ""
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def found(self, start_us: int, end_us: int, limit: int) -> list[Held]:
        """Return the traces with a span in [start, end], both ends included, as Jaeger has it."""
        now = self.clock()
        # The second span of each starts 10 us after its root.
        there = [one for one in self.held if one[2] <= now and one[1] + 10 >= start_us and one[1] <= end_us]
        return [one for one in there if start_us <= one[1] or one[1] + 10 <= end_us][: min(limit, self.at_most)]


def v1(held: Held) -> dict[str, Any]:
    """Return a trace as ``/api/traces`` has it."""
    number, start, _ = held
    trace = f"{number + 1:032x}"
    root = {"spanID": "1", "references": [], "startTime": start, "duration": 1000, "processID": "front"}
    parent = {"refType": "CHILD_OF", "traceID": trace, "spanID": "1"}
    child = {"spanID": "2", "references": [parent], "startTime": start + 10, "duration": 500, "processID": "back"}
    spans = [{"traceID": trace, "operationName": "/", "tags": [], **span} for span in (root, child)]
    return {"traceID": trace, "spans": spans, "processes": {name: {"serviceName": name} for name in ("front", "back")}}


def v3(held: Held) -> list[dict[str, Any]]:
    """Return a trace as v3 has it: OTLP."""
    number, start, _ = held
    made = []
    for span, parent, service, begin, length in (("1", "", "front", 0, 1000), ("2", "1", "back", 10, 500)):
        one = {
            "traceId": f"{number + 1:032x}",
            "spanId": span.rjust(16, "0"),
            "parentSpanId": parent and parent.rjust(16, "0"),
            "name": "/",
            "startTimeUnixNano": str((start + begin) * 1000),
            "endTimeUnixNano": str((start + begin + length) * 1000),
        }
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        made.append({"resource": resource, "scopeSpans": [{"spans": [one]}]})
    return made


@contextmanager
def serving(jaeger: FakeJaeger) -> Iterator[FakeJaeger]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            where = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(where.query).items()}
            with jaeger.lock:
                jaeger.requests += 1
            if where.path == "/api/services":
                self.answer(200, {"data": ["front"]})
            elif where.path == "/api/traces" and jaeger.version == "v1":
                found = jaeger.found(int(query["start"]), int(query["end"]), int(query["limit"]))
                self.answer(200, {"data": [v1(one) for one in found], "errors": None})
            elif where.path == "/api/v3/traces" and jaeger.version == "v3":
                ends = [_us(query[f"query.start_time_{end}"]) for end in ("min", "max")]
                found = jaeger.found(ends[0], ends[1], int(query["query.search_depth"]))
                spans = [part for one in found for part in v3(one)]
                self.answer(200 if spans else 404, {"result": {"resourceSpans": spans}})
            else:
                self.answer(404, {"error": "no such page"})

        def answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(jaeger.clock() + jaeger.ahead_s, usegmt=True)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        jaeger.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield jaeger
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def _us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return round(moment.replace(microsecond=0).timestamp()) * 10**6 + moment.microsecond
