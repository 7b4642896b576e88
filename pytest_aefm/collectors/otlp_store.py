"""A receiver's store: exports as they came, read back in parts and decoded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.collectors.otlp import decode
from pytest_aefm.collectors.receiver import CONTENT_TYPES, ENCODINGS, RECORD
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.errors import CollectorError

__all__ = ["StoredBody", "decode_store", "read_store"]

_MAX_DECOMPRESSED = 512 * 2**20


@dataclass(frozen=True)
class StoredBody:
    """An export as it was received, decompressed; ``end`` is the store's offset after it."""

    content_type: str
    data: bytes
    end: int


def read_store(path: Path, offset: int = 0) -> Iterator[StoredBody]:
    """Yield the bodies of a receiver's store from ``offset`` (bytes, the ``end`` of an earlier body) on.

    A record that is still being written is left for the next time.

    Raises:
        CollectorError: the store cannot be read, is no store at this offset, or a body cannot be decompressed.
    """
    try:
        with path.open("rb") as store:
            store.seek(offset)
            while len(head := store.read(RECORD.size)) == RECORD.size:
                length, content_type, encoding = RECORD.unpack(head)
                if content_type >= len(CONTENT_TYPES) or encoding >= len(ENCODINGS):
                    raise CollectorError(f"{path}, byte {offset}", "no record of a receiver starts here")
                body = store.read(length)
                if len(body) < length:
                    return
                where = f"{path}, byte {offset}"
                offset += RECORD.size + length
                data = _decompressed(body, where) if ENCODINGS[encoding] == "gzip" else body
                yield StoredBody(CONTENT_TYPES[content_type], data, offset)
    except OSError as error:
        raise CollectorError(str(path), f"cannot be read: {error.strerror}") from error


def decode_store(path: Path, offset: int = 0) -> tuple[Spans, int]:
    """Return all spans of a store from ``offset`` on, and the offset to go on from.

    Raises:
        CollectorError: the store cannot be read, or a body in it is malformed.
    """
    parts = []
    for body in read_store(path, offset):
        parts.append(decode(body.data, body.content_type))
        offset = body.end
    return Spans.concatenate(parts), offset


def _decompressed(body: bytes, where: str) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        data = inflate.decompress(body, _MAX_DECOMPRESSED)
    except zlib.error as error:
        raise CollectorError(where, f"a body is not gzip: {error}") from error
    if not inflate.eof:
        what = f"over {_MAX_DECOMPRESSED} bytes when decompressed" if inflate.unconsumed_tail else "truncated"
        raise CollectorError(where, f"a gzip body is {what}")
    return data
