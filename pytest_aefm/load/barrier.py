"""A common start for generators on several machines, without a common clock and without the API server.

The others connect to the first. Once all are there it compares their clocks with its own (CLOCK_MONOTONIC, by the
midpoint of a request), and tells each when to start, on that one's own clock.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BarrierError", "Peer", "Start", "follow", "lead", "listen"]

_ROUNDS = 12
_ANSWER_S = 5.0
_RETRY_S = 0.02


class BarrierError(Exception):
    """Not all came in time, or one went away."""


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer's clock differs from the first one's: theirs - ours."""

    offset_ns: int
    uncertainty_ns: int


@dataclass(frozen=True, slots=True)
class Start:
    """When all start, on the first one's clock, and the clocks of the others."""

    start_ns: int
    peers: Mapping[int, Peer]


class _Line:
    """A connection that carries lines."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection, self._rest = connection, b""

    def say(self, text: str) -> None:
        self._connection.sendall(text.encode() + b"\n")

    def hear(self, timeout_s: float) -> str:
        """Return the next line; at the end of the connection OSError."""
        self._connection.settimeout(max(0.001, timeout_s))
        while b"\n" not in self._rest:
            more = self._connection.recv(4096)
            if not more or len(self._rest) > 4096:
                raise ConnectionResetError("the other side closed the connection")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("ascii", "replace")

    def close(self) -> None:
        self._connection.close()


def listen(port: int) -> socket.socket:
    """Listen on every address of this machine.

    Raises:
        OSError: the port is taken.
    """
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=256, dualstack_ipv6=True)
    return socket.create_server(("", port), backlog=256)


def lead(listener: socket.socket, others: int, token: str, *, lead_s: float, deadline_s: float) -> Start:
    """Wait for so many others, and start all of them ``lead_s`` from then.

    ``token`` tells those that belong here from strangers.

    Raises:
        BarrierError: some did not come within ``deadline_s``, or one went away.
    """
    deadline = time.monotonic() + deadline_s
    joined: dict[int, _Line] = {}
    peers: dict[int, Peer] = {}
    try:
        while len(peers) < others:
            while len(joined) < others:
                index, line = _joining(listener, token, joined, others, deadline, deadline_s)
                if index in joined:  # it lost its connection, and came again
                    joined[index].close()
                joined[index] = line
            peers = _compared(joined)
        start_ns = time.monotonic_ns() + int(lead_s * 1e9)
        for index, line in joined.items():
            _tell(index, line, start_ns + peers[index].offset_ns)
        return Start(start_ns, peers)
    finally:
        for line in joined.values():
            line.close()


def _joining(
    listener: socket.socket, token: str, joined: Mapping[int, _Line], others: int, deadline: float, deadline_s: float
) -> tuple[int, _Line]:
    while True:
        listener.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            absent = ", ".join(str(index) for index in range(1, others + 1) if index not in joined)
            raise BarrierError(f"generators that did not come within {deadline_s:g} s: {absent}") from None
        line = _Line(connection)
        try:
            said, _, index = line.hear(_ANSWER_S).partition(" ")
            if said == token and 1 <= int(index) <= others:
                return int(index), line
        except (OSError, ValueError):
            pass
        line.close()


def _compared(joined: dict[int, _Line]) -> dict[int, Peer]:
    """Return how the clocks of the others differ; one that went away is taken from ``joined``, and may come again."""
    peers = {}
    for index, line in sorted(joined.items()):
        try:
            peers[index] = _compare(line)
        except (OSError, ValueError):
            joined.pop(index).close()
    return peers


def _compare(line: _Line) -> Peer:
    """Return how a peer's clock differs, by the quickest of some questions."""
    best: Peer | None = None
    for _ in range(_ROUNDS):
        asked = time.monotonic_ns()
        line.say("?")
        theirs = int(line.hear(_ANSWER_S))
        answered = time.monotonic_ns()
        peer = Peer(theirs - (asked + answered) // 2, (answered - asked + 1) // 2)
        best = peer if best is None or peer.uncertainty_ns < best.uncertainty_ns else best
    assert best is not None, "there were questions"
    return best


def _tell(index: int, line: _Line, start_ns: int) -> None:
    try:
        line.say(f"start {start_ns}")
    except OSError as error:
        raise BarrierError(f"generator {index} went away: {error}") from error


def follow(host: str, port: int, index: int, token: str, *, deadline_s: float) -> int:
    """Join the first at its address; return when to start, on this machine's clock.

    Raises:
        BarrierError: the first was not reached, or did not start in time.
    """
    deadline, last = time.monotonic() + deadline_s, "never reached"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, port), timeout=min(left, 2.0)) as connection:
                return _answering(_Line(connection), f"{token} {index}", deadline)
        except (OSError, ValueError) as error:
            last = f"{type(error).__name__}: {error}"
            time.sleep(_RETRY_S)
    raise BarrierError(f"no start from the first generator at {host}:{port} within {deadline_s:g} s; last: {last}")


def _answering(line: _Line, hello: str, deadline: float) -> int:
    line.say(hello)
    while True:
        said = line.hear(deadline - time.monotonic())
        if said == "?":
            line.say(str(time.monotonic_ns()))
        else:
            word, _, start_ns = said.partition(" ")
            if word != "start":
                raise ValueError(f"unexpected {said!r}")
            return int(start_ns)
