"""Files of traces, whichever of three kinds: Jaeger's JSON, OTLP's JSON (also one export a line), a run's own store."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_aefm.collectors.jaeger_json import Trace, jaeger_spans, parse_jaeger
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.errors import CollectorError

__all__ = ["read_trace_files"]

_BATCH_TRACES = 250  # so many are decoded at once: each batch costs a millisecond, and should stay in the cache
_SUFFIXES = (".json", ".jsonl", ".otlp")
_JSON = "application/json"
_LOOK_BYTES = 64 * 1024
_KINDS = "Jaeger's JSON (data: ...), OTLP's (resourceSpans: ...), or the store of a run (*.otlp)"


def read_trace_files(paths: Iterable[Path]) -> Spans:
    """Return the spans of all files; of a folder those of the files in it, by name: .json, .jsonl, .otlp, also .gz.

    Raises:
        CollectorError: a file cannot be read, is malformed, or of no known kind; names it.
    """
    parts: list[Spans] = []
    waiting: dict[str, list[Trace]] = {}
    held = 0
    for path in _files(paths):
        try:
            if path.endswith(".otlp"):  # read in parts
                parts += _stored(path)
            elif _is_jaeger(body := _read(path)):
                waiting[path] = parse_jaeger(body)
                held += len(waiting[path])
            else:
                parts += _exported(body)
        except CollectorError as error:
            raise _naming(path, error) from error
        if held >= _BATCH_TRACES:
            parts.append(_batch(waiting))
            waiting, held = {}, 0
    return Spans.concatenate([*parts, _batch(waiting)])


def _naming(path: str, error: CollectorError) -> CollectorError:
    """Return the error with the file's name in it."""
    if error.subject.startswith(path):
        return error
    return CollectorError(path, f"{error.subject}: {error.what}", error.expected, error.hint)


def _batch(waiting: dict[str, list[Trace]]) -> Spans:
    """Return the spans of several files' traces at once; where one is malformed, find out which."""
    try:
        return jaeger_spans([trace for traces in waiting.values() for trace in traces])
    except CollectorError:
        for path, traces in waiting.items():
            try:
                jaeger_spans(traces)
            except CollectorError as error:
                raise _naming(path, error) from error
        raise


def _files(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        if not path.is_dir():
            yield str(path)
            continue
        names = [name for name in os.listdir(path) if name.removesuffix(".gz").endswith(_SUFFIXES)]
        if not names:
            raise CollectorError(str(path), "no file of traces in this folder", f"names that end in {_SUFFIXES}")
        yield from (os.path.join(path, name) for name in sorted(names))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            body = file.read()
        return gzip.decompress(body) if path.endswith(".gz") else body
    except (OSError, EOFError, zlib.error) as error:
        raise CollectorError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _is_jaeger(body: bytes) -> bool:
    jaeger = body.find(b'"data"', 0, _LOOK_BYTES)
    otlp = body.find(b'"resourceSpans"', 0, _LOOK_BYTES if jaeger < 0 else jaeger)
    if jaeger < 0 and otlp < 0:
        raise CollectorError("file of traces", "of no known kind", _KINDS)
    return otlp < 0


def _exported(body: bytes) -> list[Spans]:
    """Return the spans of a file of exports: one a line as collectors write them, or the whole."""
    from pytest_aefm.collectors.otlp import decode  # protobuf takes as long to load as all else

    lines = [line for line in body.splitlines() if line.strip()]
    by_line = lines[0].startswith(b"{") and lines[0].rstrip().endswith(b"}")
    return [decode(one, _JSON) for one in (lines if by_line else [body])]


def _stored(path: str) -> list[Spans]:
    from pytest_aefm.collectors.otlp import decode
    from pytest_aefm.collectors.otlp_store import read_store

    return [decode(one.data, one.content_type) for one in read_store(Path(path))]
