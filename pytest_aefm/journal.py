"""The journal: a run's messages, one per line, the run's first, so that a crash loses at most the running trial."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from pytest_aefm.errors import ReportError
from pytest_aefm.report import SCHEMA_VERSION

__all__ = ["Journal", "ignore_in_git", "read_journal"]


class Journal:
    """A run's file of messages, one JSON value a line; one that matters is on disk when ``write`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", encoding="utf-8")

    def write(self, message: Mapping[str, Any]) -> None:
        """Append one message; trials and ends are synced to the disk."""
        self._file.write(json.dumps(message, separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()
        if message["kind"] in ("run", "trial", "end"):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def ignore_in_git(folder: Path) -> None:
    """Have git leave a folder of runs alone, which is made if need be; a .gitignore that is there stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as file:
        file.write("# Made by pytest-aefm: what it keeps of runs on this machine.\n*\n")


def read_journal(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the messages of a journal; a last line that a crash cut short is left out.

    Raises:
        ReportError: it cannot be read, is no journal or one of a newer schema, or a line in its middle is damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(str(path), f"cannot be read: {error}", "a journal of a run") from error
    _refuse_other(path, lines[0] if lines else "")
    for number, line in enumerate(lines, 1):
        try:
            message = _message(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise ReportError(f"{path}:{number}", f"damaged line: {error}", "one JSON message a line") from error
        yield message


_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("run", ()),
    "end": ("run", ()),
    "trial": ("trial", ("nodeid", "attempt")),
}
"""What messages must hold: a mapping, with these keys."""


def _message(line: str) -> dict[str, Any]:
    message = json.loads(line)
    kind = message.get("kind") if isinstance(message, dict) else None
    if not isinstance(kind, str):
        raise ValueError("not a message")
    name, keys = _PARTS.get(kind, ("", ("nodeid",)))
    part = message.get(name) if name else message
    if not isinstance(part, dict) or any(key not in part for key in keys):
        raise ValueError(f"not a message of kind {kind!r}")
    assert isinstance(message, dict)
    return message


def _refuse_other(path: Path, first: str) -> None:
    """Refuse a file that does not begin as a journal does, with the run and the version of its format."""
    try:
        start = _message(first)
    except ValueError:
        start = {}
    version = start.get("schema")
    if start.get("kind") != "run" or not isinstance(version, int):
        raise ReportError(str(path), "not a journal", "a journal.jsonl of a run, which begins with the run")
    if version > SCHEMA_VERSION:
        raise ReportError(str(path), f"schema {version}", f"at most {SCHEMA_VERSION}", "install a newer pytest-aefm")
