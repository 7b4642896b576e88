"""Ids in Jaeger's JSON, hexadecimal, of 64 or 128 bits; which span is the parent of which, for all spans at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from pytest_aefm.collectors.intervals import Flags, Rows
from pytest_aefm.collectors.raw_texts import RawTexts
from pytest_aefm.collectors.spans import words_of

__all__ = ["id_words", "parent_ids"]

_TRACE_DIGITS, _SPAN_DIGITS = 32, 16
_NO_ID = "0" * _SPAN_DIGITS
# What Jaeger writes around the trace and the span of a lone reference to a parent; others put blanks there.
_PLAIN = (
    (b'[{"refType":"CHILD_OF","traceID":"', b'","spanID":"', b'"}]'),
    (b'[{"refType": "CHILD_OF", "traceID": "', b'", "spanID": "', b'"}]'),
)


class _Reference(msgspec.Struct, gc=False):
    spanID: str  # noqa: N815  # Jaeger's names, here and below
    traceID: str = ""  # noqa: N815
    refType: str = "CHILD_OF"  # noqa: N815


_REFERENCES = msgspec.json.Decoder(list[_Reference] | None)


def id_words(texts: Sequence[str], words: int) -> NDArray[np.uint64]:
    """Return hexadecimal ids as rows of 64-bit words; old versions of Jaeger leave out leading zeros.

    Raises:
        ValueError: one of them is no such id.
    """
    digits = 16 * words
    if (lengths := set(map(len, texts))) - {digits}:
        if min(lengths) < 1 or max(lengths) > digits:
            raise ValueError(f"an id that has not 1 to {digits} hexadecimal digits")
        texts = [text.rjust(digits, "0") for text in texts]
    return _words("".join(texts), len(texts), words)


def parent_ids(references: RawTexts, trace_ids: Sequence[str], trace: Rows, older: Sequence[str]) -> NDArray[np.uint64]:
    """Return the id of each span's parent within its trace, 0 for none.

    It is what the first reference as child names, else the first of any kind; without references what is in ``older``,
    the place for it in old versions. ``trace_ids`` are those of the traces, ``trace`` that of each span.

    Raises:
        ValueError: an id is none.
        msgspec.DecodeError: what is decoded are no references.
    """
    parents, other = np.zeros(len(trace), np.uint64), np.ones(len(trace), np.bool_)
    for head, middle, tail in _PLAIN:
        before = _around(head, trace_ids, middle)
        span = references.starts + before.shape[1]
        rows = np.flatnonzero(references.ends - span == _SPAN_DIGITS + len(tail))
        found = references.cut(references.starts[rows], before.shape[1])
        rows = rows[_equal(found, before[trace[rows]])]
        rows = rows[references.reads(span[rows] + _SPAN_DIGITS, tail)]
        parents[rows] = _words(references.cut(span[rows], _SPAN_DIGITS).tobytes().decode("ascii"), len(rows), 1)[:, 0]
        other[rows] = False
    rows = np.flatnonzero(other)
    found_ids = [_parent(references[row], trace_ids[trace[row]], older[row]) for row in rows.tolist()]
    parents[rows] = id_words(found_ids, 1)[:, 0]
    return parents


def _around(head: bytes, trace_ids: Sequence[str], middle: bytes) -> NDArray[np.uint8]:
    """Return a row for each trace: what stands before the parent's id where a reference is written in this form."""
    text = "".join([trace_id.rjust(_TRACE_DIGITS, "0") for trace_id in trace_ids]).encode("ascii")
    made = np.empty((len(trace_ids), len(head) + _TRACE_DIGITS + len(middle)), np.uint8)
    made[:, : len(head)] = np.frombuffer(head, np.uint8)
    made[:, len(head) : -len(middle)] = np.frombuffer(text, np.uint8).reshape(-1, _TRACE_DIGITS)
    made[:, -len(middle) :] = np.frombuffer(middle, np.uint8)
    return made


def _equal(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> Flags:
    """Return which rows are equal, as texts without NUL."""
    kind = f"S{some.shape[1]}"
    return np.asarray(some.view(kind) == others.view(kind)).ravel()


def _parent(text: bytes, trace_id: str, older: str) -> str:
    references = _REFERENCES.decode(text)
    if not references:
        return older or _NO_ID
    own = trace_id.lstrip("0")
    within = [one for one in references if one.traceID.lstrip("0") in ("", own)]
    children = [one for one in within if one.refType == "CHILD_OF"]
    return (children or within)[0].spanID if within else _NO_ID


def _words(digits: str, count: int, words: int) -> NDArray[np.uint64]:
    data = bytes.fromhex(digits)
    if len(data) != 8 * words * count:
        raise ValueError("an id with blanks in it")
    return words_of(data, words)
