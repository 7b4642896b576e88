"""Real servers in threads with scripted behaviour, and a runner for the engine under test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "aefm-wrk.schema.json").read_text())


@dataclass
class Exchange:
    """One request that a server received, and the socket to answer on."""

    number: int  # from 0, in order of arrival over all connections
    arrived_ns: int  # CLOCK_MONOTONIC
    head: str
    body: bytes
    sock: socket.socket
    ended: threading.Event  # set when the server is closing: long waits end with it

    @property
    def line(self) -> str:
        """Return the request line."""
        return self.head.split("\r\n", 1)[0]

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.sock.sendall(data)

    def answer(self, status: int = 200, body: bytes = b"ok", headers: str = "") -> None:
        """Send a response with Content-Length."""
        self.send(f"HTTP/1.1 {status} S\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the server's end."""
        self.ended.wait(seconds)

    def close(self) -> None:
        """Close the connection in good order."""
        self.sock.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.sock.detach())  # sock.close() would leave it open to the stream that reads from it


Behaviour = Callable[[Exchange], None]


def _ok(exchange: Exchange) -> None:
    exchange.answer()


@dataclass
class Server:
    """A threaded HTTP server on a loopback port; `behave` answers each request as it likes."""

    behave: Behaviour = _ok
    family: socket.AddressFamily = socket.AF_INET
    path: Path | None = None  # of a Unix socket
    tls: ssl.SSLContext | None = None
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    resumed: list[bool] = field(default_factory=list)  # of each TLS handshake: whether it took up a session again

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        if self.path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.path))
            self._listener.listen(256)
        else:
            host = "::1" if self.family == socket.AF_INET6 else "127.0.0.1"
            self._listener = socket.create_server((host, 0), family=self.family, backlog=256)
        self.port: int = 0 if self.path else self._listener.getsockname()[1]
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        """Return the base URL without a path."""
        host = "[::1]" if self.family == socket.AF_INET6 else "127.0.0.1"
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def seen(self) -> int:
        """Return how many requests arrived."""
        return len(self.exchanges)

    @property
    def lines(self) -> list[str]:
        """Return the request lines in order of arrival."""
        return [exchange.line for exchange in self.exchanges]

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if not self.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._socks.append(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as stream:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
                self.resumed.append(bool(sock.session_reused))
            while not self._ended.is_set():
                lines = []
                while (line := stream.readline()) not in (b"\r\n", b""):
                    lines.append(line.decode("latin-1").rstrip("\r\n"))
                if not lines:
                    return
                arrived = time.monotonic_ns()
                with self._lock:
                    exchange = Exchange(len(self.exchanges), arrived, "\r\n".join(lines), b"", sock, self._ended)
                    self.exchanges.append(exchange)
                exchange.body = stream.read(int(exchange.header("Content-Length") or 0))
                self.behave(exchange)

    def die(self) -> None:
        """Stop to listen and end all connections, as a killed server does; idempotent."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Die, and wait for the threads."""
        self.die()
        for thread in self._threads:
            thread.join(timeout=10)


@dataclass(frozen=True)
class Run:
    """What one run of the engine left."""

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any]

    def count(self, outcome: str) -> int:
        """Return how many requests had an outcome."""
        return int(self.report["outcomes"].get(outcome, 0))


def _find_engine() -> Path:
    named = os.environ.get("AEFM_WRK")
    candidates = [named] if named else [shutil.which("aefm-wrk"), str(ROOT / "build/native/aefm-wrk")]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    pytest.fail(
        "aefm-wrk not found: expected it in $AEFM_WRK, on PATH or as build/native/aefm-wrk; "
        "build it with: cmake -S . -B build/native && cmake --build build/native -j2",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def engine() -> Path:
    """Return the path of the engine under test; fail where there is none."""
    return _find_engine()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers; they end with the test."""
    servers: list[Server] = []

    def start(
        behave: Behaviour = _ok,
        family: socket.AddressFamily = socket.AF_INET,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Server:
        server = Server(behave, family, path, tls)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def wrk(engine: Path, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that runs the engine to its end; every report must add up."""

    def run(*args: object, status: int = 0, stdin: int = subprocess.DEVNULL) -> Run:
        result = tmp_path / "result.json"
        command = [str(engine), "--json", str(result), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=stdin, timeout=60)
        # 5: measured, but a busy machine made requests leave late
        assert done.returncode in {status, 5 if status == 0 else status}, done.stderr + done.stdout
        text = result.read_text() if result.exists() else ""
        report = json.loads(text) if text else {}
        if report:
            check_report(report)
        return Run(done.returncode, done.stdout, done.stderr, report)

    return run


def check_report(report: dict[str, Any]) -> None:
    """Check what holds in every report, whatever happened."""
    jsonschema.validate(report, SCHEMA)
    outcomes = report["outcomes"]
    assert report["offered"] == sum(outcomes.values())
    assert report["attempted"] == report["sent"] + outcomes.get("connect_error", 0)
    assert report["offered"] == report["attempted"] + outcomes.get("unsent", 0)
    assert report["successes"] == outcomes["success"]
    assert {name: value["count"] for name, value in report["latency"].items()} == outcomes
    assert report["backlog"]["at_end"] == outcomes.get("unsent", 0)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a Lua script and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "script.lua"
        path.write_text(text)
        return path

    return write


def _find_mesh() -> Path:
    beside = Path(sys.executable).parent / "aefm-mesh"
    found = os.environ.get("AEFM_MESH") or (str(beside) if beside.is_file() else shutil.which("aefm-mesh"))
    assert found, "aefm-mesh not found: expected it in $AEFM_MESH, beside Python or on PATH"
    return Path(found)


@dataclass
class MeshProcess:
    """An aefm-mesh that runs, and the ports of its services in order."""

    process: subprocess.Popen[str]
    ports: list[int]

    def connect(self) -> socket.socket:
        """Return a new connection to its first service."""
        return socket.create_connection(("127.0.0.1", self.ports[0]), timeout=20)

    def request(
        self, path: str = "/x", method: str = "GET", headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, str]:
        """Return status and body of one request to its first service."""
        connection = HTTPConnection("127.0.0.1", self.ports[0], timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def error(self, path: str = "/x") -> tuple[int, str]:
        """Return status and message of a request that is refused."""
        status, body = self.request(path)
        return status, json.loads(body)["error"]

    def metric(self, line: str) -> float:
        """Return the value of a line of /metrics that starts so."""
        lines = self.request("/metrics")[1].splitlines()
        return next((float(each.rsplit(" ", 1)[1]) for each in lines if each.startswith(line)), 0.0)


def eventually(check: Callable[[], object]) -> None:
    """Wait until ``check`` returns something true, at most 30 s."""
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.01)


def mesh_service(*steps: object, **more: object) -> dict[str, Any]:
    """Return a resolved service with GET and POST /x of these steps; ``more`` replaces keys."""
    endpoint = {"path": "/x", "parameters": [], "response_bytes": 10, "steps": list(steps)}
    return {
        "app": "test",
        "service": "front",
        "host": "127.0.0.1",
        "port": 0,
        "peers": {},
        "endpoints": [{"method": method, **endpoint} for method in ("GET", "POST")],
        "iterations_per_us": 1.0,
        "otlp_endpoint": None,
        "sample_ratio": 1.0,
        "seed": 1,
        "labels": {},
        **more,
    }


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Callable[..., MeshProcess]]:
    """Return a function that serves resolved services with one aefm-mesh; it ends with the test."""
    running: list[MeshProcess] = []

    def start(*services: dict[str, Any], env: dict[str, str] | None = None) -> MeshProcess:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in services]
        ports = [int(listener.getsockname()[1]) for listener in listeners]
        for listener in listeners:
            listener.close()
        config = tmp_path / f"mesh-{len(running)}.json"
        configs = [{**service, "port": port} for service, port in zip(services, ports, strict=True)]
        config.write_text(json.dumps({"services": configs} if len(configs) > 1 else configs[0]))
        command = [str(_find_mesh()), "--config", str(config)]
        process = subprocess.Popen(command, env={**os.environ, **(env or {})}, text=True)
        running.append(MeshProcess(process, ports))

        def answers() -> bool:
            assert process.poll() is None, "aefm-mesh has ended"
            with contextlib.suppress(OSError):
                return running[-1].request("/-/inflight")[0] == 200
            return False

        eventually(answers)
        return running[-1]

    yield start
    for each in running:
        each.process.terminate()
    for each in running:
        assert 0 == each.process.wait(10)
