"""What the kernel tells of TCP connections on this machine."""

from __future__ import annotations

import socket
import time

from pytest_aefm.testbeds.local_sockets import is_listening, read_traffic


def test_traffic_is_what_the_other_end_acknowledged() -> None:
    """Connections to a port are told by their own ports, with all bytes that arrived, and nothing of other ports."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        with (
            socket.create_connection(server.getsockname()) as one,
            socket.create_connection(server.getsockname()) as two,
            socket.create_connection(other.getsockname()) as third,
        ):
            before = read_traffic(port)
            assert before is not None
            assert before.connections == {one.getsockname()[1], two.getsockname()[1]}
            one.sendall(b"x" * 3000)
            two.sendall(b"x" * 2000)
            third.sendall(b"x" * 1000)
            deadline = time.monotonic() + 5
            while (after := read_traffic(port)) is not None and after.acked_bytes < before.acked_bytes + 5000:
                assert time.monotonic() < deadline, after
            assert after is not None
            assert after.acked_bytes - before.acked_bytes == 5000


def test_a_listener_is_seen() -> None:
    """A port is listened on as long as its socket is open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_listening(port)
    assert not is_listening(port)
    assert read_traffic(port) is not None
