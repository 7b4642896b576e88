"""An OTLP/HTTP endpoint that stores what it gets, undecoded: cheap while load runs, decoded after it.

``python -m pytest_aefm.collectors.receiver --store FILE --port P``. Stdlib only. Each accepted body is one record
of the store: ``RECORD`` (length, content type, encoding), then the body as it came.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

__all__ = ["CONTENT_TYPES", "ENCODINGS", "RECORD", "Receiver", "main"]

RECORD = struct.Struct("!IBBxx")  # bytes that follow, index into CONTENT_TYPES, index into ENCODINGS
CONTENT_TYPES = ("application/x-protobuf", "application/json")
ENCODINGS = ("identity", "gzip")

_MAX_CONNECTIONS = 256
_MAX_HEAD = 16 * 1024
_IDLE_S = 600.0  # between requests
_REQUEST_S = 15.0  # for one request to arrive whole
_PIECE = 64 * 1024
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class _RefusedError(Exception):
    """A request that is not taken; ``args`` are its status and what is wrong with it."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(status, what)
        self.status, self.what, self.content_type = status, what, CONTENT_TYPES[1]

    def answer(self) -> tuple[str, bytes]:
        """Return content type and body: a google.rpc.Status with the message, as OTLP/HTTP wants its errors."""
        if self.content_type == CONTENT_TYPES[1]:
            return self.content_type, json.dumps({"message": self.what}).encode()
        text = self.what.encode()[:127]
        return self.content_type, bytes((0x12, len(text))) + text


@dataclass(frozen=True)
class _Head:
    """The head of a request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @classmethod
    def parse(cls, raw: bytes) -> _Head:
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise _RefusedError(400, "not an HTTP/1.1 request")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or name != name.strip() or (name in headers and name == "content-length"):
                raise _RefusedError(400, f"malformed header {line[:40]!r}")
            headers[name] = value.strip()
        return cls(parts[0], parts[1].partition("?")[0], headers)


class Receiver:
    """Appends OTLP bodies to a store; holds at most ``2 * max_body`` bytes of bodies in memory at any time."""

    def __init__(self, store: FileIO, max_body: int, max_store: int) -> None:
        self._store, self._max_body, self._max_store = store, max_body, max_store
        self._size = store.seek(0, os.SEEK_END)
        self._held = self._connections = 0
        self._requests = self._refused = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        self._connections += 1
        try:
            if self._connections > _MAX_CONNECTIONS:
                raise _RefusedError(503, "too many connections")
            while await self._request(reader, writer):
                pass
        except _RefusedError as refused:  # what follows in the stream cannot be trusted
            self._refused += 1
            with contextlib.suppress(ConnectionError):
                await _answer(writer, refused.status, *refused.answer(), keep_alive=False)
                writer.write_eof()
            await _discard(reader)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except asyncio.CancelledError:  # the receiver ends; Python before 3.12 would print this one
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            async with asyncio.timeout(_IDLE_S):
                first = await reader.readexactly(1)
            async with asyncio.timeout(_REQUEST_S):
                head = _Head.parse(first + await reader.readuntil(b"\r\n\r\n"))
                if head.headers.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                status, content_type, body = await self._respond(head, reader)
        except asyncio.LimitOverrunError:
            raise _RefusedError(431, f"head over {_MAX_HEAD} bytes") from None
        except TimeoutError:
            raise _RefusedError(408, f"request not complete within {_REQUEST_S:.0f} s") from None
        again = head.headers.get("connection", "").lower() != "close"
        await _answer(writer, status, content_type, body, again)
        return again

    async def _respond(self, head: _Head, reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
        if head.path == "/v1/traces":
            if head.method != "POST":
                raise _RefusedError(405, "export with POST")
            try:
                await self._take(head, reader)
            except _RefusedError as refused:
                refused.content_type = head.content_type if head.content_type in CONTENT_TYPES else CONTENT_TYPES[1]
                raise
            return 200, head.content_type, b"" if head.content_type == CONTENT_TYPES[0] else b"{}"
        if head.method != "GET":
            raise _RefusedError(404, f"no {head.method} {head.path}")
        if head.path == "/-/ready":
            return 200, CONTENT_TYPES[1], b'{"ready": true}'
        if head.path == "/-/stat":
            stat = {"bytes": self._size, "requests": self._requests, "refused": self._refused}
            return 200, CONTENT_TYPES[1], json.dumps(stat).encode()
        raise _RefusedError(404, f"no {head.path}")

    async def _take(self, head: _Head, reader: asyncio.StreamReader) -> None:
        """Store the body of an export."""
        content_type, encoding = head.content_type, head.headers.get("content-encoding", "identity").lower()
        if content_type not in CONTENT_TYPES:
            raise _RefusedError(415, f"content type {content_type!r}; expected {' or '.join(CONTENT_TYPES)}")
        if encoding not in ENCODINGS:
            raise _RefusedError(415, f"content encoding {encoding!r}; expected gzip or none")
        pieces: list[bytes] = []
        held = 0
        try:
            async for piece in _body(head, reader, self._max_body):
                if self._held + len(piece) > 2 * self._max_body:
                    raise _RefusedError(503, "too much in flight")
                self._held += len(piece)
                held += len(piece)
                pieces.append(piece)
            self._append(b"".join(pieces), CONTENT_TYPES.index(content_type), ENCODINGS.index(encoding))
        finally:
            self._held -= held

    def _append(self, body: bytes, content_type: int, encoding: int) -> None:
        record = RECORD.pack(len(body), content_type, encoding) + body
        if self._size + len(record) > self._max_store:
            raise _RefusedError(507, f"the store holds {self._max_store} bytes")
        try:
            written = 0
            while written < len(record):
                written += self._store.write(memoryview(record)[written:])
        except OSError as error:
            self._store.truncate(self._size)  # half a record would hide those after it
            raise _RefusedError(507, f"the store cannot be written: {error.strerror}") from error
        self._size += len(record)
        self._requests += 1


async def _body(head: _Head, reader: asyncio.StreamReader, limit: int) -> AsyncIterator[bytes]:
    """Yield the pieces of a body of at most ``limit`` bytes, by its length or by its chunks."""
    coding, length = head.headers.get("transfer-encoding"), head.headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise _RefusedError(400, f"transfer encoding {coding!r}; expected chunked, without a length")
        sizes = _chunk_sizes(reader)
    elif length is None:
        raise _RefusedError(411, "neither a length nor chunks")
    else:
        sizes = _one_size(length)
    total = 0
    async for size in sizes:
        total += size
        if total > limit:
            raise _RefusedError(413, f"body over {limit} bytes")
        while size:
            piece = await reader.readexactly(min(size, _PIECE))
            size -= len(piece)
            yield piece


async def _one_size(length: str) -> AsyncIterator[int]:
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise _RefusedError(400, f"malformed length {length[:40]!r}")
    yield int(length)


async def _chunk_sizes(reader: asyncio.StreamReader) -> AsyncIterator[int]:
    """Yield the size of each chunk; whoever iterates reads the chunk before it asks for the next."""
    while True:
        line = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        try:
            size = int(line, 16) if line.isalnum() and len(line) < 16 else -1
        except ValueError:
            size = -1
        if size < 0:
            raise _RefusedError(400, f"malformed chunk size {line[:40]!r}")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                pass
            return
        yield size
        if await reader.readexactly(2) != b"\r\n":
            raise _RefusedError(400, "malformed chunk")


async def _answer(writer: asyncio.StreamWriter, status: int, content_type: str, body: bytes, keep_alive: bool) -> None:
    writer.write(
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n".encode("latin-1")
        + body
    )
    await writer.drain()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read on for a moment: closing at once would reset the connection before the answer is read."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(1.0):
            while await reader.read(_PIECE):
                pass


async def _serve(store: FileIO, host: str, port: int, max_body: int, max_store: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    receiver = Receiver(store, max_body, max_store)
    server = await asyncio.start_server(receiver.connected, host, port, limit=_MAX_HEAD, backlog=256)
    await stop.wait()
    server.close()


def main(arguments: list[str] | None = None) -> int:
    """Receive until SIGTERM or SIGINT; return 0, or 1 where the store or the port cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_aefm.collectors.receiver", description="Store OTLP/HTTP traces as they come"
    )
    parser.add_argument("--store", type=Path, required=True, help="file to append to")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-body", type=int, default=32 * 2**20, help="bytes of one export, as sent")
    parser.add_argument("--max-store", type=int, default=4 * 2**30, help="bytes of the store")
    options = parser.parse_args(arguments)
    try:
        with options.store.open("ab", buffering=0) as store:
            asyncio.run(_serve(store, options.host, options.port, options.max_body, options.max_store))
    except OSError as error:
        print(f"receiver: {options.store}, port {options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
