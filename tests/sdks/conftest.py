"""An endpoint as a run has it, to which OpenTelemetry's SDKs export (`make test-sdks`)."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.collectors.trace_statistics import audit, edge_rows, service_rows
from pytest_aefm.collectors.traces import analyse

TRACES = 2000
"""How many traces an SDK exports: what ``export.mjs`` makes, of three spans each, one in ten of which has an error."""


@dataclass(frozen=True)
class Endpoint:
    """A receiver that runs: where traces are exported to, and what it stored."""

    url: str
    store: Path

    def check(self) -> None:
        """Check that all of the traces are there, once each, and what the analysis says of them."""
        analysis = analyse(decode_store(self.store)[0])
        seen = {name: figure for name, figure in audit(analysis).items() if figure}
        assert {"traces": TRACES, "spans": 3 * TRACES} == seen
        names = ("service", "requests", "error_share", "duration_p50_ms", "self_p50_ms")
        rows = sorted(tuple(row[name] for name in names) for row in service_rows(analysis))
        assert [("back", TRACES, 0.1, 30, 30), ("front", TRACES, 0, 100, 50)] == rows
        (edge,) = edge_rows(analysis)
        names = ("caller", "callee", "calls", "latency_p50_ms", "transit_p50_ms")
        assert ("front", "back", TRACES, 50, 20) == tuple(edge[name] for name in names)
        spans = analysis.forest.spans
        assert ({"front-1", "back-1"}, {"/buy", "GET", "/count"}) == (set(spans.pods), set(spans.operations))


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """Start a receiver, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    store, url = tmp_path / "traces.otlp", f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "pytest_aefm.collectors.receiver", "--store", str(store), "--port", port]
    with subprocess.Popen(command) as process:
        try:
            _wait(f"{url}/-/ready")
            yield Endpoint(f"{url}/v1/traces", store)
        finally:
            process.terminate()


def _wait(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            assert requests.get(url, timeout=5).ok
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")
