"""One cluster, one run: refused, waited for, taken over from the dead, noticed when lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, connect
from pytest_aefm.testbeds.kubernetes.owners import lease_path, living, owners
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
from tests.cluster.conftest import TestCluster

DURATION_S, LONG_S = 3.0, 6.0
"""A busy machine may be late by a second or two: what must live all the time has the longer one."""

_HOLD = """
import sys, time
from pathlib import Path
from pytest_aefm.testbeds.kubernetes.connection import connect
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
lease = ClusterLease(connect(Path(sys.argv[1])), sys.argv[2], run=sys.argv[3], duration_s=float(sys.argv[4]))
lease.acquire(0)
print("held", flush=True)
while not (lease.lost or "").startswith("taken"):
    time.sleep(0.05)
print(lease.lost, flush=True)
"""


@pytest.fixture
def home(connection: Connection, run_id: str) -> Iterator[str]:
    """Return the name of a namespace for a Lease, which is not there yet."""
    name = f"aefm-lease-{run_id}"
    yield name
    try:
        found = connection.get(f"/api/v1/namespaces/{name}")
    except ApiError:
        return
    connection.delete(f"/api/v1/namespaces/{name}", found["metadata"]["uid"])


def lease(connection: Connection, home: str, run: str, duration_s: float = LONG_S) -> ClusterLease:
    """Return a Lease that is renewed often."""
    return ClusterLease(connection, home, run=run, duration_s=duration_s)


class Wire:
    """A way to the API server that may be stopped: what is sent waits, as with a server that was stopped."""

    def __init__(self, host: str, port: int) -> None:
        self._to, self.open = (host, port), threading.Event()
        self.open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self.open.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                self.open.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def wire(cluster: TestCluster, tmp_path: Path) -> Iterator[tuple[Wire, Connection]]:
    """Return such a way, and a connection that goes it."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    place = config["clusters"][0]["cluster"]
    server = urlsplit(place["server"])
    made = Wire(str(server.hostname), int(server.port or 443))
    place |= {"server": f"https://127.0.0.1:{made.port}", "tls-server-name": server.hostname}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    with connect(tmp_path / "kubeconfig", timeout_s=3) as connection:
        yield made, connection
    made.close()


@contextmanager
def other_process(cluster: TestCluster, home: str, run: str) -> Iterator[subprocess.Popen[str]]:
    """Hold the Lease in another process."""
    command = [sys.executable, "-c", _HOLD, str(cluster.kubeconfig), home, run, str(LONG_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "held\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


def wait_for_loss(held: ClusterLease) -> str:
    """Return why a Lease was lost."""
    deadline = time.monotonic() + 20
    while held.lost is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return held.lost


def test_the_second_is_refused_and_the_next_is_not(connection: Connection, home: str) -> None:
    """The message names the first run, its person and since when; a namespace is made where there is none."""
    first, second = lease(connection, home, "r1"), lease(connection, home, "r2")
    first.acquire(0)
    with pytest.raises(DeploymentError, match=r"cluster .*: in use by run r1 \(.+@.+ pid \d+\) since 20.* UTC; .*wait"):
        second.acquire(0)
    assert (True, False, None) == (first.held, second.held, first.lost)
    first.release()
    assert [] == owners(connection, home)
    second.acquire(0)
    assert ((), ["r2"]) == (second.inherited, [owner.run for owner in owners(connection, home)])
    second.release()


def test_a_living_one_is_waited_for(connection: Connection, home: str) -> None:
    """Who waits is told for whom, and has it as soon as it is free; the first may have it again."""
    first, second = lease(connection, home, "r1"), lease(connection, home, "r2")
    told: list[str] = []
    first.acquire(0)

    def tell(text: str) -> None:
        told.append(text)
        if text.endswith("waiting for its end"):
            threading.Thread(target=first.release).start()

    second.acquire(30, tell)
    assert ["looking whether it lives", "waiting for its end"] == [text.rpartition("; ")[2] for text in told]
    second.release()
    first.acquire(0)
    assert first.lost is None
    first.release()


def test_many_at_once_take_turns(connection: Connection, home: str) -> None:
    """Whoever writes first has it; nobody else has it at the same time."""
    inside, most = 0, 0
    lock = threading.Lock()
    done: list[str] = []

    def measure(run: str) -> None:
        nonlocal inside, most
        one = lease(connection, home, run)
        one.acquire(60)
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.1)
        with lock:
            inside -= 1
        assert one.lost is None
        one.release()
        done.append(run)

    threads = [threading.Thread(target=measure, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (1, 4) == (most, len(done))


def test_a_run_that_was_killed_here_is_followed_at_once(
    cluster: TestCluster, connection: Connection, home: str
) -> None:
    """Its name goes on to the next, who removes what it left; what is not removed is known to the one after."""
    with other_process(cluster, home, "r1") as process:
        process.kill()
        process.wait()
    second, third = lease(connection, home, "r2"), lease(connection, home, "r3")
    assert [] == living(connection, owners(connection, home))
    second.acquire(0)
    assert ["r1"] == list(second.inherited)
    second.release(unfinished=True)
    third.acquire(0)
    assert ["r1", "r2"] == list(third.inherited)
    third.settled()
    third.release()
    second.acquire(0)
    assert [] == list(second.inherited)
    second.release()


def test_a_silent_owner_is_followed_and_learns_of_it(cluster: TestCluster, connection: Connection, home: str) -> None:
    """It is dead for all who look, on whatever machine; if it comes back, it knows that it has lost."""
    with other_process(cluster, home, "r1") as process:
        assert ["r1"] == [owner.run for owner in living(connection, owners(connection, home))]
        process.send_signal(signal.SIGSTOP)
        second = lease(connection, home, "r2")
        began = time.monotonic()
        second.acquire(0)
        assert time.monotonic() - began >= LONG_S
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("taken by run r2 (")
        assert second.lost is None
        second.release()


def test_what_others_write_into_it_is_no_loss(connection: Connection, home: str) -> None:
    """Another version is looked at; another owner, nobody, or no Lease at all is a loss."""
    path = lease_path(home)
    first = lease(connection, home, "r1")
    first.acquire(0)
    version = connection.patch(path, {"metadata": {"labels": {"a": "b"}}})["metadata"]["resourceVersion"]
    deadline = time.monotonic() + 20
    while connection.get(path)["metadata"]["resourceVersion"] == version:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert first.lost is None
    connection.patch(path, {"spec": {"holderIdentity": None}, "metadata": {"annotations": None}})
    assert "taken away: its Lease is nobody's" == wait_for_loss(first)
    first.release()

    first.acquire(0)
    connection.delete(path, connection.get(path)["metadata"]["uid"])
    assert "taken away: its Lease is nobody's" == wait_for_loss(first)
    first.release()
    with pytest.raises(ApiError, match="404"):
        connection.get(path)


def test_a_server_that_was_stopped_is_no_loss(wire: tuple[Wire, Connection], home: str) -> None:
    """It is said that the Lease could not be renewed; once the server answers again and nobody took it, it is ours."""
    way, connection = wire
    first = lease(connection, home, "r1", DURATION_S)
    first.acquire(0)
    way.open.clear()
    assert wait_for_loss(first).startswith("not renewed for ")
    way.open.set()
    deadline = time.monotonic() + 30
    while first.lost is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.release()
    assert [] == owners(connection, home)


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes half a minute; AEFM_BARS=1 runs it")
def test_who_waits_does_not_take_a_silent_server_for_a_dead_owner(wire: tuple[Wire, Connection], home: str) -> None:
    """While nobody answers no time goes by: the owner cannot renew, either."""
    way, connection = wire
    duration_s = 5.0
    first = ClusterLease(connection, home, run="r1", duration_s=duration_s)
    second = ClusterLease(connection, home, run="r2", duration_s=duration_s)
    first.acquire(0)
    timers = [threading.Timer(1, way.open.clear), threading.Timer(1 + 2 * duration_s, way.open.set)]
    for timer in timers:
        timer.start()
    with pytest.raises(DeploymentError, match="in use by run r1"):
        second.acquire(3 * duration_s)
    assert first.lost is None
    first.release()
