"""Runs collectors side by side, each in a thread of its own, and bounds what they take together: time and memory.

One that fails stops no other; one that is given up is told to end, and keeps nobody waiting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_aefm.collectors import Observations, checked
from pytest_aefm.errors import AefmError
from pytest_aefm.model import Window

__all__ = ["Bounds", "Collect", "run_collectors"]

_RETRY_S, _LOOK_S = 0.5, 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Collect = Callable[[Window], Observations]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long collectors may take together, and by how much this process may grow while they work.

    Where a Prometheus scrapes every 30 s, its collector waits for that.
    """

    time_s: float = 60.0
    memory_bytes: int = 2 * 2**30


class _Abandoned(BaseException):
    """Raised within a collector that is given up; no Exception, so that it does not take it for one of its source."""


def run_collectors(
    tasks: Mapping[str, Collect], window: Window, bounds: Bounds, once: str
) -> tuple[dict[str, Observations], dict[str, dict[str, Any]]]:
    """Run all of them; return what they saw, and how each fared, by name.

    One that fails is asked once more, but for ``once``: what that reads, it reads for good.
    """
    began, size = time.monotonic(), _resident_bytes()
    answers: queue.Queue[tuple[str, Observations | Exception]] = queue.Queue()
    threads = {
        name: threading.Thread(
            target=_work, args=(name, collect, window, 1 + (name != once), answers), name=f"aefm-{name}", daemon=True
        )
        for name, collect in tasks.items()
    }
    for thread in threads.values():
        thread.start()
    seen: dict[str, Observations] = {}
    states: dict[str, dict[str, Any]] = {}
    reason = ""
    while len(states) < len(tasks):
        try:
            name, answer = answers.get(timeout=_LOOK_S)
        except queue.Empty:
            if reason := _exceeded(bounds, time.monotonic() - began, _resident_bytes() - size):
                break
            continue
        took = round(time.monotonic() - began, 3)
        if isinstance(answer, Observations):
            seen[name] = answer
            states[name] = {"ok": True, "seconds": took, **answer.details}
        else:
            states[name] = {"ok": False, "reason": _describe(answer), "seconds": took}
    for name in tasks.keys() - states.keys():
        states[name] = {"ok": False, "reason": reason}
        _abandon(threads[name])
    return seen, {name: states[name] for name in tasks}


def _work(
    name: str,
    collect: Collect,
    window: Window,
    attempts: int,
    answers: queue.Queue[tuple[str, Observations | Exception]],
) -> None:
    with contextlib.suppress(_Abandoned):
        for left in reversed(range(attempts)):
            try:
                answer: Observations | Exception = checked(name, collect(window))
            except Exception as error:  # recorded in the trial with its reason
                answer = error
                if left:
                    time.sleep(_RETRY_S)
                    continue
            break
        answers.put((name, answer))


def _exceeded(bounds: Bounds, took_s: float, grown_bytes: int) -> str:
    """Say which bound is exceeded; nothing if none is."""
    if took_s >= bounds.time_s:
        return f"no answer within {bounds.time_s:g} s (--aefm-collect-timeout)"
    if grown_bytes > bounds.memory_bytes:
        grown, most = (f"{size / 2**20:,.0f} MiB" for size in (grown_bytes, bounds.memory_bytes))
        return f"given up: this process had grown by {grown} meanwhile, more than {most} (--aefm-collect-memory)"
    return ""


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _abandon(thread: threading.Thread) -> None:
    """Have a thread raise as soon as it is back in Python; one that waits in a call for ever harms nobody."""
    if thread.is_alive() and thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Abandoned))


def _describe(error: BaseException) -> str:
    return str(error) if isinstance(error, AefmError) else f"{type(error).__name__}: {error}"
