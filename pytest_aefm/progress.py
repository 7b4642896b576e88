"""What is happening now, how far, how long still: one line a phase, written by the controller."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["Progress", "duration_text"]

_SHORT = frozenset({"check", "interference", "settle", "collect", "judge"})
"""Phases that are over before a reader could read of them."""


def duration_text(seconds: float) -> str:
    """Return a duration as a person would say it: ``45 s``, ``3:20 min``, ``2:05 h``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


class Progress:
    """Writes to the file descriptor ``fd`` (a duplicate of the real standard output), or nowhere if it is None."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._finished_s = 0.0
        self._estimates: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._app = ""

    def phase(self, message: Mapping[str, Any]) -> None:
        """Tell of a phase that begins."""
        name = message["nodeid"].rpartition("::")[2]
        number = self._numbers.setdefault(message["nodeid"], len(self._numbers) + 1)
        self._estimates[message["nodeid"]] = message["estimate_s"]
        deployed, self._app = self._app, message["app"]
        if message["phase"] in _SHORT or (message["phase"] == "application" and deployed == self._app):
            return
        expected = f" {duration_text(message['expected_s'])}" if message["expected_s"] else ""
        left = duration_text(message["total_s"] - self._finished_s)
        worker = f"[{message['worker']}] " if message.get("worker") else ""
        clock = time.strftime("%H:%M:%S")
        self._write(
            f"\n  {clock} {worker}{number}/{message['total']} {name}: {message['phase']}{expected}, about {left} left"
        )

    def finished(self, nodeid: str) -> None:
        """Take a finished case off the time that is left."""
        self._finished_s += self._estimates.pop(nodeid, 0.0)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, text: str) -> None:
        if self._fd is not None:
            try:
                os.write(self._fd, (text + " ").encode())
            except OSError:  # a closed pipe must not break an experiment
                self._fd = None
