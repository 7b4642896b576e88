"""The file of ``aefm-wrk --requests``: a line of JSON that describes it, then one binary record of each request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_aefm.errors import LoadError
from pytest_aefm.model import Window

__all__ = ["Requests", "read_requests"]

_FORMAT, _VERSION = "aefm-wrk requests", 1
_FIELDS = ("intended_ns", "sent_ns", "end_ns", "tag", "outcome", "waited")


@dataclass(frozen=True, eq=False)
class Requests:
    """The requests of a window, in order of intended send times.

    ``records`` is a structured array: ``intended_ns``, ``sent_ns`` (-1: never) and ``end_ns`` since the window's start,
    ``outcome`` and ``tag`` as indices of ``outcomes`` and ``tags``, ``waited`` 1 where no connection was free. Of very
    long runs they are the first of the ``offered`` requests.
    """

    records: np.ndarray[Any, Any]
    window: Window
    outcomes: tuple[str, ...]
    tags: tuple[str, ...]
    offered: int

    @property
    def complete(self) -> bool:
        """Whether every request of the window has its record."""
        return len(self.records) == self.offered

    def of(self, outcome: str | None = None, tag: str | None = None) -> np.ndarray[Any, Any]:
        """Return the records of one outcome, of one tag; those of a tag that nobody named are none."""
        chosen = np.ones(len(self.records), dtype=bool)
        for field, name, names in (("outcome", outcome, self.outcomes), ("tag", tag, self.tags)):
            if name is not None:
                chosen &= self.records[field] == (names.index(name) if name in names else -1)
        return self.records[chosen]


def read_requests(path: Path) -> Requests:
    """Read the file of a run.

    Raises:
        LoadError: it is no such file, of another version, or cut short.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline(1 << 20))
            if (header["format"], header["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"format {header['format']!r}, version {header['version']!r}")
            dtype = np.dtype([(name, kind) for name, kind in header["fields"]])
            records = np.fromfile(file, dtype=dtype)
        if dtype.names != _FIELDS or (len(records), dtype.itemsize) != (header["records"], header["record_bytes"]):
            raise ValueError(f"{len(records)} records of {dtype.itemsize} bytes, the header says {header['records']}")
        window = header["window"]
        return Requests(
            records=records,
            window=Window(window["start_wall_ns"] / 1e9, window["start_mono_ns"] / 1e9, window["duration_ns"] / 1e9),
            outcomes=tuple(header["outcomes"]),
            tags=tuple(header["tags"]),
            offered=int(header["offered"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = f"what aefm-wrk --requests writes, version {_VERSION}"
        raise LoadError(str(path), f"unreadable: {error}", expected) from error
