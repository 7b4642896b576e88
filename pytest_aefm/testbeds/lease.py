"""One machine, one measurement: processes that share a machine take turns by an ``flock``.

The kernel gives a lock back when its holder ends, however it ends. Two loads on shared cores are no measurement.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from pytest_aefm.errors import DeploymentError

__all__ = ["MachineLease"]

_POLL_S = 0.1
_FOLDERS = (Path("/run/lock"), Path("/tmp"))
"""Where all users of a machine can meet; TMPDIR is one's own in many a CI job."""


class MachineLease:
    """The right to measure on this machine. ``path`` is the lock's file, shared by all users of the machine."""

    def __init__(self, holder: str, path: Path | None = None) -> None:
        self._holder = holder
        self.path = path or _shared_folder() / "aefm-machine.lock"
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the machine."""
        return self._fd is not None

    def acquire(self, timeout_s: float, waiting: Callable[[str], None] = lambda _: None) -> None:
        """Wait for the machine; ``waiting`` is told who holds it, and whenever that changes.

        Raises:
            DeploymentError: one holder kept it for ``timeout_s`` seconds; names it.
        """
        if self._fd is not None:
            return
        fd, deadline, seen = self._open(), 0.0, ""
        try:
            while not _try_lock(fd):
                holder = self._who(fd)
                if holder != seen:  # it is passed on: a queue that moves is no reason to give up
                    seen, deadline = holder, time.monotonic() + timeout_s
                    waiting(holder)
                if time.monotonic() >= deadline:
                    what = f"in use by {holder}"
                    raise DeploymentError("this machine", what, f"it to be free within {timeout_s:g} s", "run it later")
                time.sleep(_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        with contextlib.suppress(OSError):  # who may only read the file holds it all the same, unnamed
            os.ftruncate(fd, 0)
            note = {"holder": self._holder, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.pwrite(fd, json.dumps(note).encode(), 0)

    def release(self) -> None:
        """Give the machine to the next one; nothing happens if it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags | os.O_RDWR, 0o666)
        except PermissionError:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise DeploymentError("this machine", f"its lock {self.path} cannot be opened: {error.strerror}") from error

    @staticmethod
    def _who(fd: int) -> str:
        try:
            note = json.loads(os.pread(fd, 1000, 0))
            return f"{note['holder']} (pid {note['pid']}) since {note['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another run"


def _shared_folder() -> Path:
    return next((folder for folder in _FOLDERS if os.access(folder, os.W_OK | os.X_OK)), _FOLDERS[-1])


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
