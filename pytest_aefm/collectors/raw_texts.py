"""Pieces of JSON that a decoder left as they are, a row each, looked at all at once: as one array of bytes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pytest_aefm.collectors.intervals import Flags, Rows

__all__ = ["RawTexts"]

_PIECE = 1 << 17  # bytes that are looked at together, and stay in the cache


class RawTexts:
    """The texts of many rows, one after the other; ``starts`` and ``ends`` are where each of them lies."""

    def __init__(self, rows: Sequence[msgspec.Raw]) -> None:
        self._text = b"".join(rows)
        self._bytes = np.frombuffer(self._text, np.uint8)
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths

    def __getitem__(self, row: int) -> bytes:
        """Return the text of one row."""
        return self._text[self.starts[row] : self.ends[row]]

    def row_of(self, places: Rows) -> Rows:
        """Return the rows in which these places are."""
        return np.searchsorted(self.ends, places, side="right")

    def places(self, key: bytes) -> Rows:
        """Return where a quoted key stands: found by two bytes of its middle, which are rarer than its quotes."""
        middle = len(key) // 2
        first, second = key[middle : middle + 2]
        found = [np.zeros(0, np.int64)]
        for begin in range(0, len(self._bytes), _PIECE):
            piece = self._bytes[begin : begin + _PIECE + 1]
            found.append(np.flatnonzero((piece[:-1] == first) & (piece[1:] == second)) + begin)
        at = np.concatenate(found) - middle
        return at[self.reads(at, key)]

    def reads(self, at: Rows, text: bytes) -> Flags:
        """Mark the places at which this text begins, which has no NUL in it."""
        there = (at >= 0) & (at <= len(self._bytes) - len(text))
        there[there] = self.cut(at[there], len(text)).view(f"S{len(text)}").ravel() == text
        return there

    def cut(self, at: Rows, length: int) -> NDArray[np.uint8]:
        """Return so many bytes from each place on; all of them are there."""
        if not len(at):
            return np.zeros((0, length), np.uint8)
        return sliding_window_view(self._bytes, length)[at]
