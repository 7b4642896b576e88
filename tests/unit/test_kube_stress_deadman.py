"""The dead-man switch: what is kept is put off again and again, and what cannot be kept is told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from tests.unit.kube_server import Answering, serving, write_kubeconfig

PATH = "/apis/batch/v1/namespaces/x/jobs/j"


class Server(ThreadingHTTPServer):
    """Answers every request with one status and body, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, dict[str, Any]] = (200, {"kind": "Job"})
        self.asked: list[tuple[str, str, dict[str, Any]]] = []


class Handler(Answering):
    """Answers a patch."""

    server: Server

    def do_PATCH(self) -> None:
        """Answer as the server says."""
        self.server.asked.append((self.command, self.path, self.body()))
        status, content = self.server.answer
        self.answer(content, status)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a server that runs."""
    with Server() as made, serving(made):
        yield made


@pytest.fixture
def connection(server: Server, tmp_path: Path) -> Iterator[Connection]:
    """Return a connection to it that is soon out of patience."""
    with connect(write_kubeconfig(tmp_path / "kubeconfig", server), timeout_s=1, patience_s=0.05) as made:
        yield made


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until something holds, for 10 s."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_kept_at_once_and_ever_again(server: Server, connection: Connection) -> None:
    """Its deadline grows with the time, with its uid as a precondition; one that is dropped is not kept."""
    dead_man = DeadMan(connection, grace_s=45, every_s=0.4)
    began = time.monotonic()
    dead_man.keep(PATH, "u1")
    wait_until(lambda: server.asked)
    assert server.asked[0] == ("PATCH", PATH, {"metadata": {"uid": "u1"}, "spec": {"activeDeadlineSeconds": 46}})
    wait_until(lambda: len(server.asked) > 4)
    assert time.monotonic() - began >= 0.4 * 4 - 0.01
    assert server.asked[-1][2]["spec"]["activeDeadlineSeconds"] >= 47
    assert dead_man.trouble == []
    dead_man.drop(PATH)
    time.sleep(0.5)  # what was under way when it was dropped
    number = len(server.asked)
    time.sleep(1)
    assert number == len(server.asked)
    dead_man.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, {"message": "jobs j not found"}), "job j: .*404: jobs j not found"),
        ((409, {"message": "UID in precondition"}), "job j: .*409: UID in precondition"),
        (
            (200, {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}}),
            "job j: has failed: DeadlineExceeded",
        ),
    ],
)
def test_what_is_gone_is_told(
    server: Server, connection: Connection, answer: tuple[int, dict[str, Any]], message: str
) -> None:
    """A Job that is not there any more, or another's by now, or has failed, is told at once and left alone."""
    server.answer = answer
    dead_man = DeadMan(connection, every_s=0.1)
    dead_man.keep(PATH, "u1")
    wait_until(lambda: dead_man.trouble)
    (told,) = dead_man.trouble
    assert re.match(message, told)
    assert dead_man.has_lost(PATH)
    time.sleep(0.5)
    assert len(server.asked) == 1
    dead_man.close()


def test_nothing_is_kept_on_a_cluster_that_is_lost(server: Server, connection: Connection) -> None:
    """Another run has it by now: Jobs of ours are to end, and are not to be kept by mistake."""
    lost: list[str] = []
    dead_man = DeadMan(connection, every_s=0.1, lost=lambda: lost[0] if lost else None)
    dead_man.keep(PATH, "u1")
    wait_until(lambda: server.asked)
    lost.append("run r2 took it over")
    wait_until(lambda: dead_man.trouble)
    number = len(server.asked)
    time.sleep(0.5)
    assert number == len(server.asked)
    assert dead_man.trouble == ["job j: kept no more: run r2 took it over"]
    dead_man.close()


def test_what_cannot_be_kept_for_half_its_grace_is_told(server: Server, connection: Connection) -> None:
    """An API server that is away for a moment is no trouble; when it is back, all is well."""
    server.answer = (503, {"message": "away"})
    dead_man = DeadMan(connection, grace_s=2, every_s=0.1)
    dead_man.keep(PATH, "u1")
    wait_until(lambda: server.asked)
    assert dead_man.trouble == []
    wait_until(lambda: dead_man.trouble)
    assert "job j: not kept alive for 1 s: " in dead_man.trouble[0]
    assert "503: away" in dead_man.trouble[0]
    assert not dead_man.has_lost(PATH)
    server.answer = (200, {"kind": "Job"})
    wait_until(lambda: not dead_man.trouble)
    dead_man.close()
