"""The receiver: stores what is right, refuses what is not, holds little."""

from __future__ import annotations

import asyncio
import gzip
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from io import FileIO
from pathlib import Path

import pytest

from pytest_aefm.collectors import receiver as module
from pytest_aefm.collectors.otlp_store import read_store
from pytest_aefm.collectors.receiver import Receiver

PROTOBUF, JSON = "application/x-protobuf", "application/json"
LIMIT, STORE_LIMIT = 1000, 5000


@dataclass
class Running:
    """A receiver in a thread, its port and its store."""

    port: int
    store: Path

    def post(self, body: bytes, content_type: str = PROTOBUF, **headers: str) -> tuple[int, str | None, bytes]:
        """Return status, content type and body of the answer to an export."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/v1/traces", body, {"Content-Type": content_type, **names})
        answer = connection.getresponse()
        with closing(connection):
            return answer.status, answer.getheader("Content-Type"), answer.read()

    def raw(self, text: bytes) -> bytes:
        """Return all that is answered to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(text)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    def bodies(self) -> list[bytes]:
        """Return what the store holds, decompressed."""
        return [body.data for body in read_store(self.store)]

    def stat(self) -> dict[str, int]:
        """Return the receiver's own count."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/-/stat")
        with closing(connection):
            return dict(json.loads(connection.getresponse().read()))


async def serve(store: FileIO, started: queue.Queue[tuple[int, Callable[[], object]]]) -> None:
    """Serve on a free port until told to stop; tell the port, and how."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    receiver = Receiver(store, LIMIT, STORE_LIMIT)
    server = await asyncio.start_server(receiver.connected, "127.0.0.1", 0, limit=16 * 1024)
    started.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stop.set)))
    await stop.wait()
    server.close()
    await server.wait_closed()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A receiver with small limits."""
    started: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()
    path = tmp_path / "store"
    with FileIO(path, "ab") as store:
        thread = threading.Thread(target=lambda: asyncio.run(serve(store, started)))
        thread.start()
        port, stop = started.get(timeout=10)
        yield Running(port, path)
        stop()
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("content_type", "answer"), [(PROTOBUF, b""), (JSON, b"{}"), (JSON + "; charset=utf-8", b"{}")]
)
def test_an_export_is_stored_and_answered_in_kind(running: Running, content_type: str, answer: bytes) -> None:
    """The answer is an empty ExportTraceServiceResponse of the request's type."""
    assert (200, content_type.partition(";")[0], answer) == running.post(b"spans", content_type)
    assert [b"spans"] == running.bodies()


def test_gzip_is_stored_as_it_came_and_read_back(running: Running) -> None:
    """Decompression is left for later."""
    assert 200 == running.post(gzip.compress(b"0" * 100_000), Content_Encoding="gzip")[0]
    assert [b"0" * 100_000] == running.bodies()
    assert running.stat()["bytes"] < 1000


def test_chunks_are_joined(running: Running) -> None:
    """Exporters that stream send no length."""
    head = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert running.raw(head + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    assert [b"abc0123456789"] == running.bodies()


def test_a_connection_carries_many_exports(running: Running) -> None:
    """Keep-alive, also when requests are sent ahead of their answers."""
    one = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 2\r\n\r\nab".encode()
    assert 3 == running.raw(one * 3).count(b"200 OK")
    assert {"bytes": running.store.stat().st_size, "requests": 3, "refused": 0} == running.stat()


def test_an_over_large_body_is_refused(running: Running) -> None:
    """413 in the request's type, and nothing is stored."""
    status, content_type, body = running.post(b"0" * (LIMIT + 1))
    assert (413, PROTOBUF) == (status, content_type)
    assert b"body over 1000 bytes" in body
    assert [] == running.bodies()


def test_over_large_chunks_are_refused(running: Running) -> None:
    """The limit holds for the sum."""
    head = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    piece = b"1f4\r\n" + b"0" * 500 + b"\r\n"
    assert b"413" in running.raw(head + piece * 3)[:20]


def test_a_full_store_is_said(running: Running) -> None:
    """507, and what was stored stays whole."""
    statuses = [running.post(b"0" * LIMIT)[0] for _ in range(6)]
    assert [200] * 4 + [507] * 2 == statuses
    assert [b"0" * LIMIT] * 4 == running.bodies()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\n\r\n", b"411"),
        (b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1x\r\n\r\n", b"400"),
        (b"POST /v1/traces HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST /v1/traces HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\na", b"415"),
        (
            b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Encoding: br\r\n"
            b"Content-Length: 1\r\n\r\na",
            b"415",
        ),
        (
            b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"400",
        ),
        (b"GET /v1/traces HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /none HTTP/1.1\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
    ],
)
def test_a_malformed_request_is_refused(running: Running, request_text: bytes, status: bytes) -> None:
    """Each with its status; nothing is stored, and the receiver goes on."""
    assert status == running.raw(request_text)[9:12]
    assert [] == running.bodies()
    assert 200 == running.post(b"spans")[0]


def test_a_truncated_body_is_not_stored(running: Running) -> None:
    """The sender went away in the middle."""
    head = f"POST /v1/traces HTTP/1.1\r\nContent-Type: {PROTOBUF}\r\nContent-Length: 100\r\n\r\n".encode()
    assert b"" == running.raw(head + b"half")
    assert [] == running.bodies()


def test_a_slow_drip_is_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request must arrive whole within its time."""
    monkeypatch.setattr(module, "_REQUEST_S", 0.2)
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\n")
        assert b"408" == connection.recv(4096)[9:12]


def test_the_program_receives_and_ends(tmp_path: Path) -> None:
    """Ready on its port, stores, and ends with status 0 on SIGTERM with a connection open, without a word."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "pytest_aefm.collectors.receiver", "--store", str(tmp_path / "store")]
    process = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=5)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with connection:
            connection.sendall(b"GET /-/ready HTTP/1.1\r\n\r\n")
            assert b"200" == connection.recv(4096)[9:12]
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=5)
        assert (0, b"") == (process.returncode, errors)
    finally:
        process.kill()
        process.wait(5)


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Status 1 and the reason."""
    store = tmp_path / "none" / "store"
    command = [sys.executable, "-m", "pytest_aefm.collectors.receiver", "--store", str(store), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (1, True) == (done.returncode, f"receiver: {store}, port 0: No such file" in done.stderr)
