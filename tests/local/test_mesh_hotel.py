"""The hotel as real processes on free ports: its answers, its traces, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from pytest_aefm.apps import find_app
from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.collectors.spans import CLIENT, SERVER, Spans
from pytest_aefm.collectors.traces import analyse
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.scripts import bundled_folder
from pytest_aefm.mesh.model import Endpoint
from pytest_aefm.mesh.program import find_mesh
from pytest_aefm.mesh.resolved import ServiceConfig
from pytest_aefm.mesh.topology import Topology, load_topology

SEARCH = "/hotels?inDate=2015-04-09&outDate=2015-04-10&lat=38.0235&lon=-122.095"
ALWAYS = (0, 2**62)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody has."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def request(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Return status and body of one request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until ``/-/ready`` answers, at most 60 s."""
    deadline = time.monotonic() + 60
    while True:
        try:
            assert 200 == request(port, "/-/ready")[0]
            return
        except OSError:
            assert process.poll() is None, "the process has ended"
            assert time.monotonic() < deadline, "not ready within 60 s"
            time.sleep(0.02)


@dataclass
class Mesh:
    """A running application: ports and processes by service, the receiver's store."""

    topology: Topology
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    configs: dict[str, ServiceConfig]
    store: Path
    offset: int = 0

    @property
    def entry(self) -> int:
        """The entry service's port."""
        return self.ports[self.topology.entry]

    def start(self, name: str, folder: Path) -> None:
        """Start a service, under a proxy that it must not use."""
        path = folder / f"{name}.json"
        path.write_text(json.dumps(self.configs[name]))
        self.processes[name] = subprocess.Popen(
            [find_mesh().path, "--config", str(path)],
            env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        )

    def flush(self) -> Spans:
        """Return the spans of all services since the last call."""
        for name, port in self.ports.items():
            status, body = request(port, "/-/flush", "POST")
            assert (200, 0) == (status, json.loads(body)["spans_dropped"]), name
        spans, self.offset = decode_store(self.store, self.offset)
        return spans

    def served(self) -> dict[str, int]:
        """Return how many requests each service has served since its start, by its own metrics."""
        count = re.compile(r"^http_server_request_duration_seconds_count\{.*\} (\d+)", re.MULTILINE)
        texts = {name: request(port, "/metrics")[1].decode() for name, port in self.ports.items()}
        return {name: sum(map(int, count.findall(text))) for name, text in texts.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where configurations and the store lie."""
    return tmp_path_factory.mktemp("hotel")


@pytest.fixture(scope="module")
def hotel(folder: Path) -> Iterator[Mesh]:
    """The whole hotel with a receiver, ended afterwards."""
    topology = load_topology(find_app("hotel").topology_path)
    *service_ports, receiver_port = free_ports(len(topology.services) + 1)
    ports = dict(zip(topology.services, service_ports, strict=True))
    configs = topology.resolve(
        ports,
        iterations_per_us=5.0,
        otlp_endpoint=f"http://127.0.0.1:{receiver_port}/v1/traces",
        labels={"aefm.run": "test"},
    )
    store = folder / "store"
    command = ["-m", "pytest_aefm.collectors.receiver", "--store", str(store), "--port", str(receiver_port)]
    receiver = subprocess.Popen([sys.executable, *command])
    mesh = Mesh(topology, ports, {}, configs, store)
    try:
        for name in ports:
            mesh.start(name, folder)
        wait_ready(receiver_port, receiver)
        for name, port in ports.items():
            wait_ready(port, mesh.processes[name])
        yield mesh
    finally:
        for process in [*mesh.processes.values(), receiver]:
            process.terminate()
        for process in [*mesh.processes.values(), receiver]:
            process.wait(5)


@pytest.fixture
def quiet(hotel: Mesh) -> Mesh:
    """The hotel with nothing to flush."""
    hotel.flush()
    return hotel


def test_the_smoke_requests_succeed(quiet: Mesh) -> None:
    """Every request that the topology promises answers as promised."""
    for smoke in quiet.topology.smoke:
        assert smoke.expect == request(quiet.entry, smoke.path, smoke.method)[0], smoke.path


SERVED = {
    "search": {"GET /hotels"},
    "recommendation": {"GET /recommendations"},
    "login": {"POST /user"},
    "reserve": {"POST /reservation"},
    "mixed-workload_type_1": {"GET /hotels", "GET /recommendations", "POST /user", "POST /reservation"},
}
"""The entry's endpoints that each script of the hotel asks."""


@pytest.mark.parametrize("script", sorted((bundled_folder() / "hotel").glob("*.lua")), ids=lambda path: path.stem)
def test_every_script_is_served(quiet: Mesh, script: Path) -> None:
    """All requests of a script succeed, at its own endpoints, with a span for each served and for each call."""
    before = quiet.served()
    rate, seconds = (100, 4) if "mixed" in script.stem else (40, 1)
    options = f"-t1 -c200 -R{rate} -d{seconds}s --timeout 20s --seed 1 --json -".split()
    command: list[str | Path] = [AefmWrk.find().program, *options, "-s", script, f"http://127.0.0.1:{quiet.entry}"]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode in (0, 5), done.stderr  # 5: a busy machine made requests leave late
    assert {"success": rate * seconds} == json.loads(done.stdout)["outcomes"]
    spans, after = quiet.flush(), quiet.served()
    frontend, served = spans.services.index("frontend"), Counter[str]()
    for row in np.flatnonzero((spans.service == frontend) & (spans.kind == SERVER)):
        served[spans.operations[spans.operation[row]]] += 1
    assert served.keys() == SERVED[script.stem]
    assert rate * seconds == served.total() == after["frontend"] - before["frontend"]
    assert 2 * (sum(after.values()) - sum(before.values())) - served.total() == len(spans)


def test_an_answer_has_the_size_of_the_file(quiet: Mesh) -> None:
    """response_bytes, as valid JSON."""
    body = request(quiet.entry, SEARCH)[1]
    assert 2000 == len(body)
    assert 1998 == len(json.loads(body))


def test_every_request_is_one_trace(quiet: Mesh) -> None:
    """Nothing is lost, nothing is there twice: a server span per request served, a client span per call."""
    requests, before = 40, quiet.served()
    for _ in range(requests):
        assert 200 == request(quiet.entry, SEARCH)[0]
    spans, after = quiet.flush(), quiet.served()
    analysis = analyse(spans, *ALWAYS)
    assert (requests, 0, 0, 0) == (
        analysis.traces,
        analysis.orphans,
        analysis.duplicates,
        analysis.rootless,
    )
    served = {name: after[name] - before[name] for name in after if after[name] > before[name]}
    assert served == {name: service.count for name, service in analysis.services.items()}
    assert 2 * sum(served.values()) - requests == len(spans)
    assert (
        dict.fromkeys(("frontend", "search", "geo", "rate", "reservation", "profile"), requests).items()
        <= served.items()
    )


Edge = tuple[tuple[str, str, int], tuple[str, str, int]]


def call_graph(topology: Topology, service: str, endpoint: Endpoint, always: bool = False) -> Iterator[Edge]:
    """Yield who is whose parent below a request: (service, operation, kind); ``always``: in every such request."""
    for often, call in endpoint.calls():
        if always and often < 1:
            continue
        target = topology.target(call)
        sent = (service, f"{call.method} {call.endpoint}", CLIENT)
        yield (service, endpoint.name, SERVER), sent
        yield sent, (call.service, target.name, SERVER)
        yield from call_graph(topology, call.service, target, always)


def test_parents_are_those_of_the_call_graph(quiet: Mesh) -> None:
    """Each server span hangs on the client span of its caller, each client span on its own server span."""
    request(quiet.entry, SEARCH)
    spans = quiet.flush()
    row = {int(span): number for number, span in enumerate(spans.span_id)}

    def named(number: int) -> tuple[str, str, int]:
        return (
            spans.services[spans.service[number]],
            spans.operations[spans.operation[number]],
            int(spans.kind[number]),
        )

    edges = Counter((named(row[int(parent)]), named(number)) for number, parent in enumerate(spans.parent_id) if parent)
    hotels = quiet.topology.services["frontend"].find("GET", "/hotels")
    assert hotels is not None
    certain = Counter(call_graph(quiet.topology, "frontend", hotels, always=True))
    possible = Counter(call_graph(quiet.topology, "frontend", hotels))
    assert certain <= edges <= possible


def test_children_lie_within_their_parents(quiet: Mesh) -> None:
    """On one machine no span is outside its parent, and self times add up to no more than the whole."""
    for _ in range(10):
        request(quiet.entry, SEARCH)
    analysis = analyse(quiet.flush(), *ALWAYS)
    assert 0 == analysis.skewed
    assert sum(s.self_time_us.sum() for s in analysis.services.values()) <= analysis.end_to_end_us.sum()


def test_an_incoming_trace_context_is_continued(quiet: Mesh) -> None:
    """W3C trace context: the caller's trace, the caller's span as parent, its decision on sampling."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    request(quiet.entry, "/user?username=a&password=b", headers={"traceparent": f"00-{trace}-00000000000000aa-01"})
    request(quiet.entry, "/user?username=a&password=b", headers={"traceparent": f"00-{trace}-00000000000000bb-00"})
    spans = quiet.flush()
    assert [int(trace[16:], 16)] * 3 == spans.trace_low.tolist()
    assert 0xAA in spans.parent_id.tolist()
    assert 0xBB not in spans.parent_id.tolist()


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/hotels?inDate=1&outDate=2&lat=3", 400, "GET /hotels requires lon"),
        ("GET", "/none", 404, "no endpoint GET /none"),
        ("POST", "/hotels", 405, "no endpoint POST /hotels"),
        ("GET", "/-/none", 404, "no /-/none"),
        ("GET", "/-/flush", 405, "flush with POST"),
    ],
)
def test_a_wrong_request_is_refused(quiet: Mesh, method: str, path: str, status: int, message: str) -> None:
    """The answer says what is wrong."""
    answered, body = request(quiet.entry, path, method)
    assert (status, message) == (answered, json.loads(body)["error"])


def test_metrics_count_requests_by_endpoint_and_status(quiet: Mesh) -> None:
    """Prometheus text with the request histogram, the gauge, and the process's CPU and memory."""
    request(quiet.entry, SEARCH)
    text = request(quiet.entry, "/metrics")[1].decode()
    assert 'http_server_request_duration_seconds_count{endpoint="GET /hotels",status="200"}' in text
    assert "http_server_active_requests 0.0" in text
    assert "process_cpu_seconds_total" in text
    assert "process_resident_memory_bytes" in text


def test_nothing_is_in_flight_when_nothing_is_sent(quiet: Mesh) -> None:
    """The question itself does not count."""
    assert {"in_flight": 0} == json.loads(request(quiet.entry, "/-/inflight")[1])


def test_a_killed_peer_is_a_bad_gateway(quiet: Mesh, folder: Path) -> None:
    """502 names the peer, the spans on the way are errors, and a new process at the port heals it."""
    quiet.processes["rate"].kill()
    quiet.processes["rate"].wait(5)
    status, body = request(quiet.entry, SEARCH)
    try:
        assert 502 == status
        assert "call of search failed: GET /nearby: status 502" == json.loads(body)["error"]
        inner = json.loads(request(quiet.ports["search"], "/nearby")[1])["error"]
        assert inner.startswith("call of rate failed: GET /rates: ")
    finally:
        quiet.start("rate", folder)
        wait_ready(quiet.ports["rate"], quiet.processes["rate"])
    spans = quiet.flush()
    failed = Counter(spans.services[service] for service in spans.service[spans.error])
    assert {"frontend": 2, "search": 4} == failed
    assert 200 == request(quiet.entry, SEARCH)[0]


def test_sigterm_ends_a_service_within_two_seconds(hotel: Mesh, folder: Path) -> None:
    """With status 0, even while a caller keeps its connection open."""
    (port,) = free_ports(1)
    config = {**hotel.configs["geo"], "port": port}
    path = folder / "alone.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen([find_mesh().path, "--config", str(path)])
    try:
        wait_ready(port, process)
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(signal.SIGTERM)
            assert 0 == process.wait(2)
    finally:
        process.kill()
        process.wait(5)


def test_a_taken_port_is_said(hotel: Mesh, folder: Path) -> None:
    """The service ends with status 1 and names the port."""
    path = folder / "geo.json"
    done = subprocess.run(
        [find_mesh().path, "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 1 == done.returncode
    assert f"geo: cannot listen on 127.0.0.1:{hotel.ports['geo']}: " in done.stderr


def test_flush_says_when_the_receiver_is_gone(hotel: Mesh, folder: Path) -> None:
    """503, and the spans are counted as dropped: a loss is never silent."""
    port, nobody = free_ports(2)
    config = {**hotel.configs["geo"], "port": port, "otlp_endpoint": f"http://127.0.0.1:{nobody}/v1/traces"}
    path = folder / "alone.json"
    path.write_text(json.dumps(config))
    process = subprocess.Popen([find_mesh().path, "--config", str(path)])
    try:
        wait_ready(port, process)
        assert 200 == request(port, "/nearby")[0]
        status, body = request(port, "/-/flush", "POST")
        assert (503, {"spans_exported": 0, "spans_dropped": 1, "complete": False}) == (status, json.loads(body))
    finally:
        process.kill()
        process.wait(5)
