"""A receiver of traces on one core, and exporters on the other that send it 20,000 spans a second, as they please."""

from __future__ import annotations

import http.client
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from measuring import promise
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.testbeds.local_app import free_ports

SPANS_PER_S, SECONDS, BATCH, EXPORTERS = 20_000, 20, 100, 8
LATE_S, MEMORY_MB = 0.5, 128.0


def bodies(exporter: int, count: int) -> list[bytes]:
    """Return so many exports of a service, each of :data:`BATCH` spans with the attributes that spans usually have."""
    dice, found = random.Random(exporter), []
    for _ in range(count):
        request = ExportTraceServiceRequest()
        resource = request.resource_spans.add()
        name = resource.resource.attributes.add(key="service.name")
        name.value.string_value = f"service-{exporter}"
        scope = resource.scope_spans.add()
        for _ in range(BATCH):
            begin = time.time_ns()
            span = scope.spans.add(
                trace_id=dice.randbytes(16),
                span_id=dice.randbytes(8),
                parent_span_id=dice.randbytes(8),
                name="GET /hotels",
                kind=2,
                start_time_unix_nano=begin,
                end_time_unix_nano=begin + 10**6,
            )
            for key, value in (("http.request.method", "GET"), ("url.path", "/hotels?inDate=2015-04-09")):
                attribute = span.attributes.add(key=key)
                attribute.value.string_value = value
        found.append(request.SerializeToString())
    return found


def export(port: int, texts: list[bytes], start_s: float, late: list[float], refused: list[int]) -> None:
    """Send the exports evenly over the time; note how late the last one was answered, and what was refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for number, text in enumerate(texts):
        due_s = start_s + number * SECONDS / len(texts)
        time.sleep(max(0.0, due_s - time.monotonic()))
        connection.request("POST", "/v1/traces", text, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            refused.append(answer.status)
    late.append(time.monotonic() - start_s - SECONDS)
    connection.close()


def main() -> int:
    """Measure, and say whether the promise holds."""
    (port,), each = free_ports(1), SPANS_PER_S * SECONDS // BATCH // EXPORTERS
    texts = [bodies(exporter, each) for exporter in range(EXPORTERS)]
    late: list[float] = []
    refused: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "traces.otlp"
        command = [sys.executable, "-m", "pytest_aefm.collectors.receiver", "--store", str(store), "--port", str(port)]
        receiver = subprocess.Popen(["taskset", "-c", "0", *command])
        try:
            psutil.Process().cpu_affinity([1])
            time.sleep(1.0)
            watched = psutil.Process(receiver.pid)
            start_s = time.monotonic() + 0.2
            exporters = [threading.Thread(target=export, args=(port, one, start_s, late, refused)) for one in texts]
            for one in exporters:
                one.start()
            for one in exporters:
                one.join()
            used = watched.cpu_times()
            memory_mb = watched.memory_info().rss / 1e6
        finally:
            receiver.terminate()
            receiver.wait()
        spans, _ = decode_store(store)
    sent = each * EXPORTERS * BATCH
    cores = (used.user + used.system) / SECONDS
    text = f"of {sent:,} spans in {SECONDS} s {len(spans):,} are stored, {len(refused)} exports were refused"
    more = f"{cores:.2f} of a core, {memory_mb:.0f} MB, the last one answered {max(late):.2f} s after its time"
    whole = len(spans) == sent and not refused and len(late) == EXPORTERS
    return not promise(f"{text}; {more}", whole and max(late) < LATE_S and memory_mb < MEMORY_MB)


if __name__ == "__main__":
    sys.exit(main())
