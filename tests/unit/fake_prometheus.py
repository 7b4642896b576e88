"""A server that answers as a Prometheus does, with samples, warnings and a clock that tests set."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Series = list[tuple[dict[str, str], list[tuple[float, float]]]]


@dataclass
class FakePrometheus:
    """``series`` are answered where the query holds their metric's name, ``answers`` to the query as it is."""

    url: str = ""
    series: dict[str, Series] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, str] | None = field(default_factory=dict)
    configuration: str | None = None
    warnings: list[str] = field(default_factory=list)
    skew_s: float = 0.0
    raw: tuple[int, bytes] | None = None
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def sampled(self, metric: str, values: list[tuple[float, float]], **labels: str) -> None:
        """Add a series of samples."""
        self.series.setdefault(metric, []).append(({"job": "aefm", **labels}, values))

    def answer(self, path: str, params: dict[str, list[str]]) -> tuple[int, bytes]:
        """Return the status and body of an answer."""
        if self.raw is not None:
            return self.raw
        if path.endswith("/targets") and self.intervals is not None:
            targets = [{"labels": {"job": job}, "scrapeInterval": text} for job, text in self.intervals.items()]
            return _success({"activeTargets": targets})
        if path.endswith("/config") and self.configuration is not None:
            return _success({"yaml": self.configuration})
        if not path.endswith("/query"):
            return 404, b"not found"
        self.asked.append(params)
        return _success(self._result(params["query"][0]), self.warnings)

    def _result(self, query: str) -> Any:
        if query == "time()":
            return {"resultType": "scalar", "result": [0, str(time.time() + self.skew_s)]}
        if query in self.answers:
            return {"resultType": "vector", "result": self.answers[query]}
        found = re.match(r"\w+", query)
        rows = [
            {"metric": labels, "values": [[at, str(value)] for at, value in values]}
            for labels, values in self.series.get(found[0] if found else "", [])
        ]
        return {"resultType": "matrix", "result": rows}


def _success(data: Any, warnings: list[str] | None = None) -> tuple[int, bytes]:
    more = {"warnings": warnings} if warnings else {}
    return 200, json.dumps({"status": "success", "data": data, **more}).encode()


@contextmanager
def serving() -> Iterator[FakePrometheus]:
    """Serve a FakePrometheus."""
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            parts = urlsplit(self.path)
            status, body = fake.answer(parts.path, parse_qs(parts.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
