"""The dead-man switch: Jobs that end by themselves soon after nobody keeps them any more.

A Job's ``activeDeadlineSeconds`` counts from when its controller first saw it. It is set anew all the time, and always
ends a grace period from now; when that stops, the controller ends the pods. No clock is compared with another: what
has elapsed is counted here, from when the Job was made.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource

__all__ = ["GRACE_S", "JOBS", "DeadMan"]

GRACE_S = 45.0
"""How long a Job outlives its keeper; what makes one sets this as its first deadline."""

JOBS = Resource("batch/v1", "Job", "jobs", True)

_CLOSE_S = 2.0


@dataclass
class _Kept:
    uid: str
    since_mono_s: float
    kept_mono_s: float
    failure: str = ""
    final: bool = False


class DeadMan:
    """Keeps Jobs alive from a thread of its own, ``grace_s`` seconds ahead, each ``every_s`` seconds.

    ``lost`` says why the cluster is not ours any more, None while it is: then nothing is kept.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        grace_s: float = GRACE_S,
        every_s: float = 10.0,
        lost: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._connection, self._grace_s, self._every_s, self._lost = connection, grace_s, every_s, lost
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), threading.Event()
        self._kept: dict[str, _Kept] = {}
        self._fresh: set[str] = set()
        self._thread: threading.Thread | None = None

    def keep(self, path: str, uid: str) -> None:
        """Keep the Job at ``path``, which was made just now, from now on; returns at once."""
        now = time.monotonic()
        with self._lock:
            self._kept[path] = _Kept(uid, now, now)
            self._fresh.add(path)
            if self._thread is None and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._run, name="aefm-dead-man", daemon=True)
                self._thread.start()
        self._wake.set()

    def drop(self, path: str) -> None:
        """Keep a Job no more."""
        with self._lock:
            self._kept.pop(path, None)

    @property
    def trouble(self) -> list[str]:
        """Say which Jobs are gone or have failed, and which could not be kept for half of their grace."""
        now = time.monotonic()
        with self._lock:
            return [
                f"job {path.rpartition('/')[2]}: {kept.failure}"
                if kept.final
                else f"job {path.rpartition('/')[2]}: not kept alive for {now - kept.kept_mono_s:.0f} s: "
                f"{kept.failure or 'no answer yet'}"
                for path, kept in self._kept.items()
                if kept.final or now - kept.kept_mono_s > self._grace_s / 2
            ]

    def has_lost(self, path: str) -> bool:
        """Whether a Job that was kept is gone, or has failed: one that could not be kept for a while may live on."""
        with self._lock:
            return path in self._kept and self._kept[path].final

    def close(self) -> None:
        """Keep nothing any more; Jobs that are still there end after their grace."""
        self._stopped.set()
        self._wake.set()
        with self._lock:
            self._kept.clear()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)  # it may be waiting for an answer that does not come

    def _run(self) -> None:
        due = time.monotonic() + self._every_s
        while not self._stopped.is_set():
            self._wake.wait(max(0.0, due - time.monotonic()))
            self._wake.clear()
            with self._lock:
                paths, self._fresh = list(self._fresh), set()
                if time.monotonic() >= due:
                    due = time.monotonic() + self._every_s
                    paths = list(self._kept)
            for path in paths:
                self._patch(path)

    def _patch(self, path: str) -> None:
        with self._lock:
            kept = self._kept.get(path)
        if kept is None or kept.final or self._stopped.is_set():
            return
        if (lost := self._lost()) is not None:  # the cluster is another run's by now, which is not to be disturbed
            kept.failure, kept.final = f"kept no more: {lost}", True
            return
        began = time.monotonic()
        seconds = math.ceil(began - kept.since_mono_s + self._grace_s)
        try:
            # The uid is a precondition: a Job that has the name meanwhile is somebody else's.
            patch = {"metadata": {"uid": kept.uid}, "spec": {"activeDeadlineSeconds": seconds}}
            job = self._connection.patch(path, patch)
        except ApiError as error:
            kept.failure, kept.final = str(error), error.status in (404, 409, 422)
            return
        kept.kept_mono_s, kept.failure = began, _failure(job)
        kept.final = bool(kept.failure)


def _failure(job: dict[str, Any]) -> str:
    """Say why a Job has failed, empty where it has not."""
    for one in (job.get("status") or {}).get("conditions") or ():
        if one.get("type") in ("Failed", "FailureTarget") and one["status"] == "True":
            return f"has failed: {one.get('reason') or one['type']}" + (
                f": {one['message']}" if "message" in one else ""
            )
    return ""
