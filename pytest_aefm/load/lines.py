"""What a generator in a pod says on its standard output, and how that is read from the pod's log.

Each line begins with ``aefm-load``: ``clock N`` (CLOCK_MONOTONIC, in nanoseconds), ``start {...}``, ``failed {...}``,
``result I/N TEXT`` and at last ``end SHA256``. Logs are cut, rotated and read while they are written: a result counts
only if it is whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PROTOCOL", "Told", "clock_line", "failed_line", "read_log", "result_lines", "start_line"]

PROTOCOL = 1
"""Version of what the two sides say to each other; an image of another one is refused."""

_WORD = "aefm-load"
_CHUNK = 4000  # container runtimes cut lines at 16 KiB


@dataclass(frozen=True, slots=True)
class Told:
    """What a log says so far; ``others`` are its last lines that are not ours."""

    clocks: tuple[int, ...] = ()
    start: Mapping[str, Any] | None = None
    failed: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    damage: str | None = None
    others: tuple[str, ...] = field(default=())


def clock_line(mono_ns: int) -> str:
    """Say what time it is."""
    return f"{_WORD} clock {mono_ns}"


def start_line(start_ns: int, peers: Mapping[int, Mapping[str, int]]) -> str:
    """Say when all start, and how the clocks of the others differ from this one."""
    return f"{_WORD} start {json.dumps({'start_ns': start_ns, 'peers': peers})}"


def failed_line(status: int, output: str) -> str:
    """Say that the generator failed: its exit status and its last words."""
    return f"{_WORD} failed {json.dumps({'status': status, 'output': output[-2000:]})}"


def result_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Say the generator's result."""
    packed = zlib.compress(json.dumps(document).encode(), 9)
    text = base64.b64encode(packed).decode("ascii")
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    for number, chunk in enumerate(chunks, 1):
        yield f"{_WORD} result {number}/{len(chunks)} {chunk}"
    yield f"{_WORD} end {hashlib.sha256(packed).hexdigest()}"


def read_log(log: str) -> Told:
    """Return what a log says. ``damage`` is what is wrong with a result that came to its end; a half line is none."""
    complete, newline, rest = log.rpartition("\n")
    clocks: list[int] = []
    said: dict[str, Any] = {}
    chunks: dict[int, str] = {}
    total, digest = 0, None
    others: list[str] = []
    for line in (complete + newline).splitlines():
        word, _, told = line.partition(" ")
        kind, _, text = told.partition(" ")
        if word != _WORD:
            others.append(line)
        elif kind == "clock":
            clocks.append(int(text))
        elif kind in ("start", "failed"):
            said[kind] = json.loads(text)
        elif kind == "result":
            place, _, chunk = text.partition(" ")
            number, _, count = place.partition("/")
            chunks[int(number)], total = chunk, int(count)
        elif kind == "end":
            digest = text
    if rest and not rest.startswith(_WORD):
        others.append(rest)
    result, damage = _unpacked(chunks, total, digest) if digest is not None else (None, None)
    return Told(tuple(clocks), said.get("start"), said.get("failed"), result, damage, tuple(others[-15:]))


def _unpacked(chunks: Mapping[int, str], total: int, digest: str) -> tuple[Mapping[str, Any] | None, str | None]:
    missing = [number for number in range(1, total + 1) if number not in chunks]
    if missing or not total:
        return None, f"{len(missing)} of {total} parts of the result are missing"
    try:
        packed = base64.b64decode("".join(chunks[number] for number in range(1, total + 1)), validate=True)
        if hashlib.sha256(packed).hexdigest() != digest:
            return None, "the result's checksum is wrong"
        return json.loads(zlib.decompress(packed)), None
    except (ValueError, zlib.error) as error:
        return None, f"the result is damaged: {error}"
