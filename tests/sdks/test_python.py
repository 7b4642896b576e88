"""The OpenTelemetry SDK for Python exports to our endpoint."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest

from tests.sdks.conftest import TRACES, Endpoint

pytest.importorskip("opentelemetry.sdk", reason="no OpenTelemetry SDK here: make test-sdks installs it")

MS = 10**6


def providers(url: str, form: str) -> list[Any]:
    """Return a provider of tracers for each of the two services."""
    # Their types are known only where they are installed, so they are looked up by name.
    exporter = importlib.import_module(f"opentelemetry.exporter.otlp.{form}.http.trace_exporter")
    resources = importlib.import_module("opentelemetry.sdk.resources")
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    batches = importlib.import_module("opentelemetry.sdk.trace.export")
    made = []
    for service in ("front", "back"):
        resource = resources.Resource.create({"service.name": service, "k8s.pod.name": f"{service}-1"})
        made.append(sdk.TracerProvider(resource=resource))
        out = exporter.OTLPSpanExporter(endpoint=url)
        made[-1].add_span_processor(batches.BatchSpanProcessor(out, max_queue_size=10**6))
    return made


@pytest.mark.parametrize(("form", "compression"), [("proto", "none"), ("proto", "gzip"), ("json", "gzip")])
def test_all_that_is_exported_is_analysed(
    endpoint: Endpoint, form: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In protobuf and JSON, compressed or not: times, kinds, errors, services, pods and who called whom."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    trace = importlib.import_module("opentelemetry.trace")
    made = providers(endpoint.url, form)
    front, back = (provider.get_tracer("test") for provider in made)
    now = time.time_ns() // 10**9 * 10**9

    def begin(tracer: Any, name: str, kind: str, after_ms: int, above: Any = None) -> tuple[Any, Any]:
        kind_of = getattr(trace.SpanKind, kind)
        span = tracer.start_span(name, context=above, kind=kind_of, start_time=now + after_ms * MS)
        return span, trace.set_span_in_context(span, above)

    for number in range(TRACES):
        entry, within = begin(front, "/buy", "SERVER", 0)
        call, beyond = begin(front, "GET", "CLIENT", 10, within)
        answer, _ = begin(back, "/count", "SERVER", 20, beyond)
        if number % 10 == 0:
            answer.set_status(trace.StatusCode.ERROR, "sold out")
        for span, end_ms in ((answer, 50), (call, 60), (entry, 100)):
            span.end(now + end_ms * MS)
    for provider in made:
        provider.shutdown()
    endpoint.check()
