"""TCP connections of the loopback interface, as the kernel tells of them: sock_diag(7), which `ss` asks, too."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from pytest_aefm.interference import Traffic

__all__ = ["is_listening", "read_traffic"]

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_INFO = 2  # the attribute that is a struct tcp_info
_ESTABLISHED, _LISTEN = 1, 10
_TIMEOUT_S = 1.0
# Of struct inet_diag_msg: the two ports, and its size. Of struct tcp_info, which only grows at its end.
_PORTS, _MESSAGE_BYTES = 4, 72
_TOTAL_RETRANSMITS, _BYTES_ACKED = 100, 120


def read_traffic(port: int) -> Traffic | None:
    """Return what all connections to ``port`` have carried so far; None where the kernel does not tell."""
    acked = retransmits = 0
    connections = set[int]()
    try:
        for local, remote, info in _sockets(_ESTABLISHED):
            if remote == port:
                if len(info) < _BYTES_ACKED + 8:  # a kernel older than 4.1
                    return None
                connections.add(local)
                retransmits += struct.unpack_from("=I", info, _TOTAL_RETRANSMITS)[0]
                acked += struct.unpack_from("=Q", info, _BYTES_ACKED)[0]
    except OSError:
        return None
    return Traffic(frozenset(connections), acked, retransmits)


def is_listening(port: int) -> bool:
    """Return whether a process accepts connections on ``port``.

    Raises:
        OSError: the kernel does not tell.
    """
    return any(local == port for local, _, _ in _sockets(_LISTEN))


def _sockets(state: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield (local port, remote port, tcp_info) of every IPv4 socket in a state.

    Raises:
        OSError: the kernel does not tell.
    """
    family = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, 1 << state)
    request = family + bytes(48)  # of any address
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        kernel.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            for kind, body in _parts(kernel.recv(1 << 18), "=IH", 16):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0] or errno.EPROTO
                    raise OSError(number, os.strerror(number))
                local, remote = struct.unpack_from("!HH", body, _PORTS)
                yield local, remote, dict(_attributes(body)).get(_INFO, b"")


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    return ((kind, value) for kind, value in _parts(body[_MESSAGE_BYTES:], "=HH", 4))


def _parts(data: bytes, head: str, head_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of messages, or of attributes, that lie one after the other with their length in front."""
    offset = 0
    while offset + head_bytes <= len(data):
        length, kind = struct.unpack_from(head, data, offset)
        if length < head_bytes:
            return
        yield kind, data[offset + head_bytes : offset + length]
        offset += (length + 3) & ~3
