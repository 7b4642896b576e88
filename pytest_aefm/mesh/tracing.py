"""Spans of one service: made cheaply while load runs, exported when asked (or when half the queue is full).

W3C trace context in and out, the OpenTelemetry SDK's batch processor and OTLP/HTTP exporter behind.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import time_ns

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from pytest_aefm.mesh.resolved import ServiceConfig

__all__ = ["FlushResult", "Tracer", "configured", "parse_traceparent", "traceparent"]

_QUEUE_SPANS = 32_768  # about 25 MB when full
_DAY_MS = 86_400_000
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_OK = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope("pytest_aefm.mesh")

Attributes = dict[str, str | int]


@dataclass(frozen=True)
class FlushResult:
    """Counts since the service started; ``complete`` if every span ended before the flush was exported or dropped."""

    spans_exported: int
    spans_dropped: int
    complete: bool


def parse_traceparent(header: str) -> SpanContext | None:
    """Read a W3C ``traceparent``; None where it is malformed or all zero, as the recommendation asks."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    trace, span = int(trace_id, 16), int(span_id, 16)
    if version == "ff" or (version == "00" and rest) or not trace or not span:
        return None
    return SpanContext(trace, span, True, _SAMPLED if int(flags, 16) & 1 else _NOT_SAMPLED)


class _CountingExporter(SpanExporter):
    """Counts what the real exporter delivered and what it gave up."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.exported = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Tracer:
    """Makes spans of one service.

    Finished spans are built as the SDK's ``ReadableSpan`` and handed to its batch processor: a fifth of the cost of
    ``start_span``, whose locks and limits a span that never changes does not need. Ids come from the system's
    randomness, not from the run's seed, so that two runs never share a trace.
    """

    def __init__(self, service: str, labels: dict[str, str], endpoint: str, sample_ratio: float) -> None:
        # The SDK warns once per span when its queue is full; the count in flush() says it better.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        # Not Resource.create(): it looks for detectors on disk, for 50 ms.
        self._resource = Resource({"service.name": service, **labels})
        self._exporter = _CountingExporter(OTLPSpanExporter(endpoint=endpoint, timeout=5))
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_QUEUE_SPANS,
            max_export_batch_size=_QUEUE_SPANS // 2,
            schedule_delay_millis=_DAY_MS,
        )
        self._bits = random.Random().getrandbits
        self._bound = round(sample_ratio * 2**64)
        self._ended = self._dropped = 0
        self._flushing = threading.Lock()

    def server_context(self, parent: SpanContext | None) -> SpanContext:
        """Return the context of a new server span: of the parent's trace, or the root of a new one."""
        if parent is not None:
            return SpanContext(parent.trace_id, self._bits(64) or 1, False, parent.trace_flags)
        trace_id = self._bits(128) or 1
        sampled = trace_id & (2**64 - 1) < self._bound
        return SpanContext(trace_id, self._bits(64) or 1, False, _SAMPLED if sampled else _NOT_SAMPLED)

    def child_context(self, parent: SpanContext) -> SpanContext:
        """Return the context of a new client span."""
        return SpanContext(parent.trace_id, self._bits(64) or 1, False, parent.trace_flags)

    def end(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        start_ns: int,
        attributes: Attributes,
        failure: str | None = None,
    ) -> None:
        """Record a span that started at ``start_ns`` (wall clock) and ends now; ``failure`` makes it an error."""
        if not context.trace_flags & 1:
            return
        self._ended += 1
        status = _OK if failure is None else Status(StatusCode.ERROR, failure)
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                attributes,
                kind=kind,
                status=status,
                start_time=start_ns,
                end_time=time_ns(),
                instrumentation_scope=_SCOPE,
            )
        )

    def flush(self) -> FlushResult:
        """Export every span ended so far; blocks until it is delivered or given up (5 s per batch)."""
        with self._flushing:
            ended = self._ended
            failed = self._exporter.failed
            self._processor.force_flush()
            taken = self._exporter.exported + self._exporter.failed
            # What ended and never reached the exporter was pushed out of the full queue.
            self._dropped = max(self._dropped, ended - taken)
            dropped = self._dropped + self._exporter.failed
            return FlushResult(self._exporter.exported, dropped, self._exporter.failed == failed)


def traceparent(context: SpanContext) -> str:
    """Return the W3C header of a context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def configured(config: ServiceConfig) -> Tracer | None:
    """Return the tracer of a resolved service, None where it exports nothing."""
    endpoint = config["otlp_endpoint"]
    if endpoint is None:
        return None
    labels = {"service.namespace": config["app"], **config["labels"]}
    return Tracer(config["service"], labels, endpoint, config["sample_ratio"])
