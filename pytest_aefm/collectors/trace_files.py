"""Files of traces, whichever of three kinds: Jaeger's JSON, OTLP's JSON (also one export a line), a run's own store."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_aefm.collectors.jaeger_json import Trace, jaeger_spans, parse_jaeger
from pytest_aefm.collectors.otlp import decode
from pytest_aefm.collectors.otlp_store import read_store
from pytest_aefm.collectors.receiver import CONTENT_TYPES
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.errors import CollectorError

__all__ = ["read_trace_files"]

_BATCH_TRACES = 2000  # so many are decoded at once: each batch costs a millisecond, and keeps its text in memory
_SUFFIXES = (".json", ".jsonl", ".otlp")
_LOOK_BYTES = 64 * 1024
_KINDS = "Jaeger's JSON (data: ...), OTLP's (resourceSpans: ...), or the store of a run (*.otlp)"


def read_trace_files(paths: Iterable[Path]) -> Spans:
    """Return the spans of all files; of a folder those of the files in it, by name: .json, .jsonl, .otlp, also .gz.

    Raises:
        CollectorError: a file cannot be read, is malformed, or of no known kind; names it.
    """
    parts: list[Spans] = []
    waiting: dict[Path, list[Trace]] = {}
    held = 0
    for path in _files(paths):
        with _of(path):
            if path.suffix == ".otlp":  # read in parts
                parts += [decode(one.data, one.content_type) for one in read_store(path)]
            elif _is_jaeger(body := _read(path)):
                waiting[path] = parse_jaeger(body)
                held += len(waiting[path])
            else:
                parts += [decode(one, CONTENT_TYPES[1]) for one in _exports(body)]
        if held >= _BATCH_TRACES:
            parts.append(_batch(waiting))
            waiting, held = {}, 0
    return Spans.concatenate([*parts, _batch(waiting)])


@contextmanager
def _of(path: Path) -> Iterator[None]:
    """Name the file in whatever is wrong with it."""
    try:
        yield
    except CollectorError as error:
        if error.subject.startswith(str(path)):
            raise
        raise CollectorError(str(path), f"{error.subject}: {error.what}", error.expected, error.hint) from error


def _batch(waiting: dict[Path, list[Trace]]) -> Spans:
    """Return the spans of several files' traces at once; where one is malformed, find out which."""
    try:
        return jaeger_spans([trace for traces in waiting.values() for trace in traces])
    except CollectorError:
        for path, traces in waiting.items():
            with _of(path):
                jaeger_spans(traces)
        raise


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        names = [name for name in os.listdir(path) if name.removesuffix(".gz").endswith(_SUFFIXES)]
        if not names:
            raise CollectorError(str(path), "no file of traces in this folder", f"names that end in {_SUFFIXES}")
        yield from (path / name for name in sorted(names))


def _read(path: Path) -> bytes:
    try:
        body = path.read_bytes()
        return gzip.decompress(body) if path.suffix == ".gz" else body
    except (OSError, EOFError, zlib.error) as error:
        raise CollectorError(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _is_jaeger(body: bytes) -> bool:
    jaeger = body.find(b'"data"', 0, _LOOK_BYTES)
    otlp = body.find(b'"resourceSpans"', 0, _LOOK_BYTES if jaeger < 0 else jaeger)
    if jaeger < 0 and otlp < 0:
        raise CollectorError("file of traces", "of no known kind", _KINDS)
    return otlp < 0


def _exports(body: bytes) -> list[bytes]:
    """Return the exports of a file: one a line as collectors write them, or the whole."""
    lines = [line for line in body.splitlines() if line.strip()]
    return lines if lines[0].startswith(b"{") and lines[0].rstrip().endswith(b"}") else [body]
