"""Generators on several machines start together, whatever their clocks say and whoever else knocks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_aefm.load.barrier import BarrierError, follow, lead, listen


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on a port that is free."""
    with listen(0) as made:
        yield made


def test_all_are_told_the_same_start(listener: socket.socket) -> None:
    """Every generator gets one and the same time, as well as clocks could be compared; strangers do no harm."""
    port = listener.getsockname()[1]
    with ThreadPoolExecutor(4) as pool:
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"token 9\n", b"other 1\n"):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(greeting)
        joined = [pool.submit(follow, "127.0.0.1", port, index, "token", deadline_s=20) for index in (1, 2, 3)]
        start = lead(listener, 3, "token", lead_s=0.5, deadline_s=20)
        starts = [one.result() for one in joined]
    assert {1, 2, 3} == set(start.peers)
    for index, theirs in enumerate(starts, 1):
        peer = start.peers[index]
        assert theirs == start.start_ns + peer.offset_ns
        assert abs(peer.offset_ns) <= peer.uncertainty_ns  # it is the same clock here


def test_one_that_comes_again_is_waited_for(listener: socket.socket) -> None:
    """A generator that lost its connection before all were there is let in again."""
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as first:
        first.sendall(b"token 1\n")
    with ThreadPoolExecutor(2) as pool:
        joined = [pool.submit(follow, "127.0.0.1", port, index, "token", deadline_s=20) for index in (1, 2)]
        start = lead(listener, 2, "token", lead_s=0.1, deadline_s=20)
        assert 2 == len([one.result() for one in joined])
    assert {1, 2} == set(start.peers)


def test_absent_ones_are_named(listener: socket.socket) -> None:
    """Who did not come in time is said by number."""
    with socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as one:
        one.sendall(b"token 2\n")
        with pytest.raises(BarrierError, match=r"did not come within 0.3 s: 1, 3$"):
            lead(listener, 3, "token", lead_s=0.1, deadline_s=0.3)


def test_first_one_that_cannot_be_reached_is_told() -> None:
    """Where nobody listens, the address and the last error are said after the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BarrierError, match=rf"127.0.0.1:{port} within 0.2 s; last: ConnectionRefusedError"):
        follow("127.0.0.1", port, 1, "token", deadline_s=0.2)


def test_first_one_may_come_last() -> None:
    """Others knock until the first one listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(follow, "127.0.0.1", port, 1, "token", deadline_s=20)
        threading.Event().wait(0.1)
        with listen(port) as late:
            start = lead(late, 1, "token", lead_s=0.1, deadline_s=20)
        assert joined.result() == start.start_ns + start.peers[1].offset_ns
    assert start.start_ns > time.monotonic_ns() - 20 * 10**9
