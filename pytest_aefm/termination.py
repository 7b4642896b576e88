"""SIGTERM, which tears nothing down by itself, as an orderly end of the session."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import pytest

__all__ = ["Termination"]


class Termination:
    """From ``begin`` to ``end`` SIGTERM ends the session with exit 2; the handler from before is restored after."""

    def __init__(self) -> None:
        self._old: Any = None

    def begin(self) -> None:
        """Take the signal; nothing happens outside of the main thread, where Python sets no handlers."""
        if self._old is None and threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGTERM, self._exit)

    def ignore(self) -> None:
        """Let SIGTERM interrupt nothing any more: the end is under way."""
        if self._old is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end(self) -> None:
        """Give the signal back."""
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)
            self._old = None

    def _exit(self, number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # once is enough: the end is under way
        pytest.exit("SIGTERM", returncode=2)
