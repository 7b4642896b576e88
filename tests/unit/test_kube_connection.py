"""Requests to an API server: every one ends in time, and only what is safe is sent again."""

from __future__ import annotations

import json
import pickle
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, connect
from tests.unit.kube_server import serving, write_kubeconfig

Answer = tuple[int, dict[str, str], Any] | str
"""Status, headers and body; or ``reset``, ``hang``."""


class Server(ThreadingHTTPServer):
    """Gives the answers of a list in turn, the last one again and again, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [(200, {}, {"kind": "Pod"})]
        self.asked: list[tuple[str, str, bytes]] = []
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's list says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if answer == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(answer, str):
            self.server.released.wait(30)
            self.close_connection = True
            return
        status, headers, content = answer
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

    def handle(self) -> None:
        """Serve a connection; one that was reset on purpose is no news."""
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        """Close a connection, which may be closed."""
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server of HTTP on a port of its own."""
    with Server() as made, serving(made):
        yield made
        made.released.set()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    """Return a kubeconfig of two contexts, of which ``one`` is the server's."""
    return write_kubeconfig(tmp_path / "kubeconfig", server, ("one", "two"))


@pytest.fixture
def connection(kubeconfig: Path) -> Iterator[Connection]:
    """Return a connection with little patience."""
    with connect(kubeconfig, "one", timeout_s=0.5, patience_s=5) as made:
        yield made


def status(code: int, message: str = "no", **more: Any) -> Answer:
    """Return an answer in the words of an API server."""
    return code, {}, {"kind": "Status", "code": code, "message": message, **more}


def test_an_object_is_read(connection: Connection, server: Server) -> None:
    """Answers are plain values; queries are sent as given."""
    assert {"kind": "Pod"} == connection.get("/api/v1/pods", labelSelector="a=b")
    assert [("GET", "/api/v1/pods?labelSelector=a%3Db", b"")] == server.asked


@pytest.mark.parametrize("bad", [status(429), status(500), status(503), "reset", "hang"])
def test_reading_goes_on_after_what_passes(connection: Connection, server: Server, bad: Answer) -> None:
    """Turned away, a server's error, a reset, no answer in time: reading is tried again."""
    server.answers[:0] = [bad, bad]
    assert {"kind": "Pod"} == connection.get("/x")
    assert 3 == len(server.asked)


@pytest.mark.parametrize("bad", [status(500), status(503), "reset", "hang"])
def test_creating_is_not_sent_twice(connection: Connection, server: Server, bad: Answer) -> None:
    """What may have been done already is not done again."""
    server.answers.insert(0, bad)
    with pytest.raises(ApiError):
        connection.create("/x", {"kind": "Job"})
    assert 1 == len(server.asked)


def test_creating_is_sent_again_when_turned_away(connection: Connection, server: Server) -> None:
    """429 says that nothing was done."""
    server.answers.insert(0, status(429))
    connection.create("/x", {"kind": "Job"})
    assert [("POST", "/x", b'{"kind": "Job"}')] * 2 == server.asked


def test_applying_and_deleting_are_safe_to_repeat(connection: Connection, server: Server) -> None:
    """They do nothing the second time: applied in our name, deleted by uid."""
    server.answers[:0] = ["reset", (200, {}, {}), status(500)]
    connection.apply("/x", {"kind": "Job"}, "aefm")
    assert connection.delete("/x", "u1")
    assert ["PATCH", "PATCH", "DELETE", "DELETE"] == [method for method, _, _ in server.asked]
    assert "/x?fieldManager=aefm" == server.asked[0][1]
    assert {"uid": "u1"} == json.loads(server.asked[2][2])["preconditions"]


def test_retry_after_is_honoured(connection: Connection, server: Server) -> None:
    """The server says how long to wait."""
    server.answers.insert(0, (429, {"Retry-After": "1"}, {}))
    began = time.monotonic()
    connection.get("/x")
    assert time.monotonic() - began >= 1


def test_a_wait_longer_than_patience_is_not_begun(connection: Connection, server: Server) -> None:
    """A server that asks for an hour is an error now."""
    server.answers[0] = (503, {"Retry-After": "3600"}, {"message": "later"})
    began = time.monotonic()
    with pytest.raises(ApiError, match="503: later"):
        connection.get("/x")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_final(connection: Connection, server: Server, code: int) -> None:
    """The message has cluster, request, status and the server's words; it survives pickling."""
    server.answers[0] = status(code, "pods is forbidden")
    with pytest.raises(ApiError) as caught:
        connection.get("/api/v1/pods")
    assert f"cluster 'one': GET /api/v1/pods: {code}: pods is forbidden" == str(caught.value)
    assert (1, code) == (len(server.asked), pickle.loads(pickle.dumps(caught.value)).status)


def test_an_error_of_the_object_is_final(connection: Connection, server: Server) -> None:
    """A value of the wrong type in what is applied is answered 500, whenever it is asked."""
    server.answers[0] = status(500, "failed to create typed patch object (x): expected numeric, got string")
    with pytest.raises(ApiError, match="expected numeric"):
        connection.apply("/x", {}, "aefm")
    assert 1 == len(server.asked)


def test_patience_ends(kubeconfig: Path, server: Server) -> None:
    """Where nobody ever answers the error says what was seen and how often."""
    server.answers[0] = "reset"
    with connect(kubeconfig, timeout_s=0.5, patience_s=0.5) as made, pytest.raises(ApiError, match=r"asked \d+ times"):
        made.get("/x")


def test_patience_may_be_less_for_once(connection: Connection, server: Server) -> None:
    """What matters little is not asked for long."""
    server.answers[0] = status(503)
    began = time.monotonic()
    with pytest.raises(ApiError, match=r"503: .*asked \d+ times"):
        connection.get("/x", patience_s=0.3, labelSelector="a=b")
    assert time.monotonic() - began < 3
    assert "/x?labelSelector=a%3Db" == server.asked[0][1]


def test_nobody_there_is_an_error_in_time(kubeconfig: Path, server: Server) -> None:
    """A port on which nobody listens is asked again until patience ends, creating too: nothing was sent."""
    text = kubeconfig.read_text()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kubeconfig.write_text(text.replace(f":{server.server_address[1]}", f":{closed.getsockname()[1]}"))
        with (
            connect(kubeconfig, patience_s=0.5) as made,
            pytest.raises(ApiError, match=r"no answer: .*asked \d+ times"),
        ):
            made.create("/x", {})


def test_what_is_gone_is_deleted(connection: Connection, server: Server) -> None:
    """404, and 409 of an object that took the name, are no errors."""
    server.answers = [status(404), status(409)]
    assert [False, False] == [connection.delete("/x", "u1") for _ in range(2)]


def test_watch_yields_events_and_ends(connection: Connection, server: Server) -> None:
    """Each line is an event; an ERROR is the status it carries."""
    events = [{"type": "ADDED", "object": {"a": 1}}, {"type": "ERROR", "object": {"code": 410, "message": "too old"}}]
    server.answers[0] = (200, {}, b"\n".join(json.dumps(event).encode() for event in events) + b"\n")
    watch = connection.watch("/x", "7", 5)
    assert events[0] == next(watch)
    with pytest.raises(ApiError) as caught:
        next(watch)
    assert 410 == caught.value.status
    assert "resourceVersion=7" in server.asked[0][1]


def test_a_silent_watch_ends(connection: Connection, server: Server) -> None:
    """A connection that died without a word does not hold a watch for ever."""
    server.answers[0] = "hang"
    with pytest.raises(ApiError, match="the watch broke"):
        list(connection.watch("/x", "7", 0.5))


def test_kinds_are_looked_up_again_when_unknown(connection: Connection, server: Server) -> None:
    """A definition may be applied in mid-run; a kind that is known is not asked for again."""
    moon = {"name": "moons", "kind": "Moon", "namespaced": False}
    server.answers = [status(404), (200, {}, {"resources": [moon, {**moon, "name": "moons/status"}]})]
    with pytest.raises(ApiError, match=r"does not serve the kind Moon of example\.org/v1"):
        connection.resource("example.org/v1", "Moon")
    found = connection.resource("example.org/v1", "Moon")
    assert "/apis/example.org/v1/moons/io" == found.path("anywhere", "io")
    assert found is connection.resource("example.org/v1", "Moon")
    assert 2 == len(server.asked)


def test_unknown_context_names_the_nearest(kubeconfig: Path) -> None:
    """A context that is not in the file is refused before anything is asked."""
    with pytest.raises(ConfigurationError, match=r"no context 'twoo'; did you mean 'two'\?"):
        connect(kubeconfig, "twoo")


def test_missing_and_broken_kubeconfigs_are_refused(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(ConfigurationError, match=r"none: not found; name it with KUBECONFIG"):
        connect(tmp_path / "none")
    (tmp_path / "broken").write_text("apiVersion: v1\nkind: Config\n")
    with pytest.raises(ConfigurationError, match=r"kubeconfig .*broken: "):
        connect(tmp_path / "broken")
