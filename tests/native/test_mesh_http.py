"""aefm-mesh and what clients may do to it: pieces, floods, lies, silence, and leaving too early."""

from __future__ import annotations

import json
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.native.conftest import eventually, mesh_service

Make = Callable[..., Any]
GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b'"xxxxxxxx"'


def read_all(sock: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received


def read_answers(sock: socket.socket, count: int) -> bytes:
    """Return what comes until so many answers of /x are complete."""
    received = b""
    while received.count(ANSWER) < count:
        piece = sock.recv(65536)
        assert piece, received
        received += piece
    return received


def test_requests_in_one_packet_are_all_answered(mesh: Make) -> None:
    """A client may send the next request before the answer, even where answers take time."""
    server = mesh(mesh_service({"wait": {"constant_ms": 1}}))
    with server.connect() as sock:
        sock.sendall(GET * 20)
        assert 20 == read_answers(sock, 20).count(b"HTTP/1.1 200 OK")


def test_a_request_may_come_byte_by_byte(mesh: Make) -> None:
    """Head and chunked body in the smallest pieces; the connection serves on."""
    post = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    server = mesh(mesh_service())
    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post:
            sock.send(bytes((byte,)))
        read_answers(sock, 1)
        sock.sendall(GET)
        read_answers(sock, 1)


def test_a_client_that_sends_no_more_is_answered(mesh: Make) -> None:
    """A half-closed connection gets its answer, and is closed then."""
    server = mesh(mesh_service({"wait": {"constant_ms": 20}}))
    with server.connect() as sock:
        sock.sendall(GET)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(ANSWER)


def test_a_client_that_leaves_harms_nobody(mesh: Make) -> None:
    """Its request is worked on to the end, and nothing stays in flight."""
    server = mesh(mesh_service({"wait": {"constant_ms": 20}}))
    for _ in range(50):
        with server.connect() as sock:
            sock.sendall(GET)
    count = 'http_server_request_duration_seconds_count{endpoint="GET /x",status="200"}'
    eventually(lambda: server.metric(count) == 50)
    assert 0 == server.metric("http_server_active_requests")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /x\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\nHost: x\n\n" + b" " * 70000, b"431"),
        (b"GET /x HTTP/1.1\r\nA: " + b"a" * 70000, b"431"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_refused(mesh: Make, data: bytes, status: bytes) -> None:
    """The answer says so, the connection is closed, and others are served."""
    server = mesh(mesh_service())
    with server.connect() as sock:
        sock.sendall(data)
        received = sock.recv(65536)
        assert received.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in received
    assert 200 == server.request()[0]


@pytest.mark.parametrize("request_line", [b"GET /x HTTP/1.0", b"GET /x HTTP/1.1\r\nConnection: close"])
def test_a_connection_is_closed_where_asked_for(mesh: Make, request_line: bytes) -> None:
    """HTTP/1.0 and Connection: close end after one answer, which says so."""
    server = mesh(mesh_service())
    with server.connect() as sock:
        sock.sendall(request_line + b"\r\n\r\n")
        assert b"Connection: close" in read_all(sock)


def test_an_absolute_target_is_served(mesh: Make) -> None:
    """As proxies send it; RFC 9112 wants servers to take it."""
    server = mesh(mesh_service())
    with server.connect() as sock:
        sock.sendall(b"GET http://front:80/x?a=1 HTTP/1.1\r\nHost: front\r\n\r\n")
        read_answers(sock, 1)


def test_a_body_that_waits_for_leave_gets_it(mesh: Make) -> None:
    """Expect: 100-continue."""
    server = mesh(mesh_service())
    with server.connect() as sock:
        sock.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
        sock.sendall(b"ab")
        read_answers(sock, 1)


def test_clients_that_dawdle_hold_nobody_up(mesh: Make) -> None:
    """Slow loris: many heads that never end, and others are served at once."""
    server = mesh(mesh_service())
    slow = [server.connect() for _ in range(200)]
    for sock in slow:
        sock.sendall(GET[:-2])
    assert 200 == server.request()[0]
    assert server.metric("http_server_connections") >= 201
    for sock in slow:
        sock.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process hold 10,000 connections, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip(f"at most {hard} descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_are_held(mesh: Make, many_descriptors: None) -> None:
    """They are accepted and kept, for less than 1 KiB each, and requests are answered."""
    server = mesh(mesh_service())
    before = server.metric("process_resident_memory_bytes")
    idle = [server.connect() for _ in range(10_000)]
    assert 200 == server.request()[0]
    assert server.metric("http_server_connections") >= 10_001
    assert server.metric("process_resident_memory_bytes") - before < 10_000 * 1024
    for sock in idle:
        sock.close()


def test_sigterm_lets_what_is_in_flight_end(mesh: Make) -> None:
    """A request that was there before is answered, then the process ends with status 0."""
    server = mesh(mesh_service({"wait": {"constant_ms": 10}}))
    with server.connect() as sock:
        sock.sendall(GET)
        read_answers(sock, 1)
        server.process.send_signal(signal.SIGSTOP)
        sock.sendall(GET)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        read_answers(sock, 1)
        assert 0 == server.process.wait(5)


def test_services_may_share_a_process(mesh: Make, tmp_path: Any) -> None:
    """A group listens at all its ports; each service has its own metrics and name."""
    server = mesh(mesh_service(), mesh_service(service="back"))
    with socket.create_connection(("127.0.0.1", server.ports[1])) as sock:
        sock.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
        answer = json.loads(read_all(sock).partition(b"\r\n\r\n")[2])
    assert {"service": "back", "pid": server.process.pid} == answer
