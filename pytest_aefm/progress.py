"""What is happening now, how far, how long still; told by the controller while tests run."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pytest_aefm.progress_views import Lines, Running, Snapshot, Status, View, duration_text

__all__ = ["Lines", "Progress", "Status", "View", "duration_text"]


class Progress:
    """Follows the messages of a run, and has a view tell of them: at each phase, and as time goes on.

    ``views`` make one when it is first needed: the first, and where a view fails, the next.
    """

    def __init__(self, *views: Callable[[], View], clock: Callable[[], float] = time.monotonic) -> None:
        self._views, self._clock = list(views), clock
        self._view: View | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._aside = 0
        self._running: dict[str | None, Running] = {}
        self._numbers: dict[str, int] = {}
        self._done: dict[str, float] = {}
        self._overheads: list[float] = []
        self._total, self._total_s = 0, 0.0

    def phase(self, message: Mapping[str, Any]) -> None:
        """Take in that a phase begins."""
        with self._lock:
            nodeid, worker = message["nodeid"], message.get("worker")
            self._total, self._total_s = message["total"], message["total_s"]
            self._done.pop(nodeid, None)  # it is tried again
            number = self._numbers.setdefault(nodeid, len(self._numbers) + 1)
            case = self._running.get(worker)
            if case is None or case.nodeid != nodeid:
                place = f"{number}/{message['total']} {nodeid.rpartition('::')[2]}"
                label = f"[{worker}] {place}" if worker else place
                warmup_s = message.get("warmup_s", 0.0)
                case = Running(nodeid, worker, label, message["app"], message["estimate_s"], warmup_s)
                self._running[worker] = case
            self._enter(case, message["phase"], message["expected_s"])
            self._show(case)
            if self._thread is None and self._views:
                self._thread = threading.Thread(target=self._run, name="aefm-progress", daemon=True)
                self._thread.start()

    def recorded(self, nodeid: str, worker: str | None = None) -> None:
        """Take in that a case has its trial: what follows is its test's own end."""
        with self._lock:
            case = self._running.get(worker)
            if case is not None and case.nodeid == nodeid:
                self._enter(case, "end")

    def finished(self, nodeid: str, worker: str | None = None) -> None:
        """Take in that a case's test is over, and learn from how long it took."""
        with self._lock:
            case = self._running.get(worker)
            if case is not None and case.nodeid == nodeid:
                del self._running[worker]
                self._done[nodeid] = case.estimate_s
                if case.started is not None:
                    self._overheads.append(self._clock() - case.started - case.estimate_s)

    def stopping(self) -> None:
        """Take in that the session ends, with or without its cases."""
        with self._lock:
            self._running.clear()
            if self._numbers:
                self._running[None] = last = Running("", None, "", "", 0.0, 0.0)
                self._total = 0
                self._enter(last, "stop")

    def left_s(self) -> float | None:
        """Return how long the rest will take: the plan's estimates, each with what finished cases took in excess."""
        return self._whole_and_left()[1]

    def _whole_and_left(self) -> tuple[float | None, float | None]:
        if not self._total:
            return None, None
        # The median, in which the plan counts as two cases: one deployment says little of the cases that find it there.
        excess = statistics.median([0.0, 0.0, *self._overheads])
        whole = self._total_s + excess * self._total
        left = whole - sum(self._done.values()) - excess * len(self._done)
        for case in self._running.values():
            if case.started is not None:
                left -= min(self._clock() - case.started, max(0.0, case.estimate_s + excess))
        return whole, max(0.0, left)

    def tick(self) -> None:
        """Take in that time has gone on."""
        with self._lock:
            if self._running:
                self._show(None)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the screen to others meanwhile."""
        with self._lock:
            self._aside += 1
            if self._view is not None:
                self._attempt(lambda view: view.hide())
        try:
            yield
        finally:
            with self._lock:
                self._aside -= 1

    def close(self) -> None:
        """Tell nothing more."""
        self._ended.set()
        with self._lock:
            if self._view is not None:
                self._attempt(lambda view: view.hide())
            self._views.clear()
            self._view = None

    def _enter(self, case: Running, phase: str, expected_s: float = 0.0) -> None:
        case.phase, case.expected_s, case.since, case.told = phase, expected_s, self._clock(), None
        if case.started is None and not case.waits and phase != "setup":  # which may be followed by a wait
            case.started = case.since

    def _run(self) -> None:
        while not self._ended.wait(self._view.interval_s if self._view else 1.0):
            self.tick()

    def _show(self, changed: Running | None) -> None:
        if self._aside:
            return
        whole, left = self._whole_and_left()
        seen = Snapshot(self._clock(), list(self._running.values()), whole, left)
        self._attempt(lambda view: view.show(seen, changed))

    def _attempt(self, act: Callable[[View], None]) -> None:
        """Have the view do something; what goes wrong there must not break an experiment."""
        while self._views:
            try:
                self._view = self._view or self._views[0]()
                act(self._view)
            except BlockingIOError:  # a reader that does not keep up misses something
                return
            except Exception:
                self._view = None
                del self._views[0]
            else:
                return
