"""A real Jaeger gives all that it holds: filled by OTLP and by its agent's UDP port, asked in both of its versions."""

from __future__ import annotations

import random
import socket
import time

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pytest_aefm.collectors.jaeger import JaegerCollector
from pytest_aefm.model import Window
from pytest_aefm.testbeds.kubernetes.connection import Connection
from tests.cluster.jaeger_agent import AgentSpan, batch
from tests.cluster.project import wait_for

EACH = 10_000
LENGTH_S = 40.0
SPANS = ("front", 1, 0, 0, 1000), ("back", 2, 1, 10, 500)
"""Of each trace: service, span id, parent's id, start after the root's and duration in us."""


@pytest.fixture
def jaeger(connection: Connection, namespace: str) -> str:
    """Start a Jaeger; return its address."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "jaeger",
        "image": "jaegertracing/all-in-one:1.61.0",
        "imagePullPolicy": "IfNotPresent",
        "args": ["--memory.max-traces=50000", "--collector.queue-size=100000"],
        "securityContext": security,
        "readinessProbe": {"httpGet": {"path": "/", "port": 14269}, "periodSeconds": 1},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "jaeger", "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    connection.create(path, pod)

    def ready() -> bool:
        conditions = connection.get(f"{path}/jaeger")["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    wait_for("Jaeger is ready", ready, 90)
    return str(connection.get(f"{path}/jaeger")["status"]["podIP"])


def export(address: str, numbers: list[int], starts: list[int]) -> None:
    """Send traces by OTLP, 1,000 a request."""
    for first in range(0, len(numbers), 1000):
        request = ExportTraceServiceRequest()
        for service, span_id, parent, after, duration in SPANS:
            resource = request.resource_spans.add()
            attribute = resource.resource.attributes.add()
            attribute.key, attribute.value.string_value = "service.name", service
            spans = resource.scope_spans.add().spans
            for number, start in zip(numbers[first : first + 1000], starts[first : first + 1000], strict=True):
                span = spans.add()
                span.trace_id, span.span_id = number.to_bytes(16, "big"), span_id.to_bytes(8, "big")
                span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
                span.name = "/"
                span.start_time_unix_nano = (start + after) * 1000
                span.end_time_unix_nano = (start + after + duration) * 1000
        headers = {"Content-Type": "application/x-protobuf"}
        answer = requests.post(
            f"http://{address}:4318/v1/traces", request.SerializeToString(), headers=headers, timeout=30
        )
        assert answer.status_code == 200, answer.text


def emit(address: str, numbers: list[int], starts: list[int]) -> None:
    """Send traces by UDP, 100 a datagram, not faster than the agent reads them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for first in range(0, len(numbers), 100):
            some = list(zip(numbers[first : first + 100], starts[first : first + 100], strict=True))
            for service, span, parent, after, duration in SPANS:
                spans = [AgentSpan(number, span, parent, "/", start + after, duration) for number, start in some]
                out.sendto(batch(service, spans), (address, 6831))
                time.sleep(0.02)


def test_all_traces_of_a_real_jaeger_are_fetched(jaeger: str) -> None:
    """20,000, half of them by each way in, once each; both versions of its API say the same."""
    window = Window(float(int(time.time()) - 60), time.monotonic() - 60, LENGTH_S)
    dice = random.Random(7)
    starts = [round(window.start_wall_s * 1e6) + dice.randrange(round(LENGTH_S * 1e6)) for _ in range(2 * EACH)]
    numbers = list(range(1, 2 * EACH + 1))
    export(jaeger, numbers[:EACH], starts[:EACH])
    emit(jaeger, numbers[EACH:], starts[EACH:])
    found = {}
    for version in ("v1", "v3"):
        recent = Window(window.start_wall_s, time.monotonic() - LENGTH_S, LENGTH_S)
        seen = JaegerCollector(f"http://{jaeger}:16686", "front", version=version).collect(recent)
        assert seen.traces is not None
        found[version] = seen.details["services"]
        figures = {name: seen.details[name] for name in ("traces", "spans", "orphans", "duplicates", "fetch_truncated")}
        assert {"traces": 20_000, "spans": 40_000, "orphans": 0, "duplicates": 0, "fetch_truncated": 0} == figures
        assert 2 * EACH == len(set(seen.traces.forest.spans.trace_ids()))
        print(version, {name: value for name, value in seen.details.items() if name.startswith(("fetch", "clock"))})
    assert found["v1"] == found["v3"]
