"""A load that runs as pods: it begins, is watched, ends, and its results are read from the logs of the pods."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pytest_aefm.errors import AefmError, DisruptionError, LoadError
from pytest_aefm.load.aefm_wrk import failure, read_result
from pytest_aefm.load.lines import Told, read_log
from pytest_aefm.model import LoadResult, Window
from pytest_aefm.testbeds.kubernetes.admitted import admission_check, altered, resized, strangers
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import JOBS
from pytest_aefm.testbeds.kubernetes.health import Failure, failures
from pytest_aefm.testbeds.kubernetes.load_clock import Clock, Look, compare
from pytest_aefm.testbeds.kubernetes.load_merge import PodResult, merge
from pytest_aefm.testbeds.kubernetes.load_pods import LOAD_LABEL, POD_SCRIPT, LoadPods
from pytest_aefm.testbeds.kubernetes.losses import Loss, ending
from pytest_aefm.testbeds.kubernetes.removing import Leftover
from pytest_aefm.testbeds.kubernetes.watching import Following

__all__ = ["MEET_S", "SUBJECT", "ClusterRun", "Keeper"]

Json = dict[str, Any]

SUBJECT = "load from the cluster"
MEET_S = 60.0
"""How long pods wait for one another once they run: they are scheduled one by one."""

_LOOK_S = 0.05
_RESULT_LOOK_S = 0.2
_QUIET_S = 0.2
"""So shortly before the start nothing is asked any more: the generators are to have the cores."""

_INDEX = "batch.kubernetes.io/job-completion-index"
_KILLED = 137
"""What the agent says of a generator that SIGKILL ended: it sends none to one that is to measure."""


class Keeper(Protocol):
    """What keeps a Job alive while this run lives."""

    def keep(self, path: str, uid: str) -> None:
        """Put off the Job's end, from now on again and again."""
        ...

    def drop(self, path: str) -> None:
        """Leave the Job to its end."""
        ...


@dataclass
class ClusterRun:
    """A :class:`pytest_aefm.load.LoadRun` of pods; ``made`` are its objects, the Job first."""

    connection: Connection
    dead_man: Keeper
    made: list[Leftover]
    pods: LoadPods
    script: Path
    artifacts: Path
    asked: int
    window: Window = field(init=False)
    _following: Following = field(init=False)
    _uids: dict[int, str] = field(init=False, default_factory=dict)
    _names: dict[int, str] = field(init=False, default_factory=dict)
    _start: Json = field(init=False, default_factory=dict)
    _looks: list[Look] = field(init=False, default_factory=list)
    _ticks: set[int] = field(init=False, default_factory=set)
    _altered: set[str] = field(init=False, default_factory=set)
    _first_loss: Loss | None = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        root, ours = f"/api/v1/namespaces/{self.pods.namespace}", f"{LOAD_LABEL}={self.pods.name}"
        self._pods_path, self._events_path = f"{root}/pods", f"{root}/events"
        self._jobs_path = JOBS.path(self.pods.namespace)
        paths = [(self._pods_path, ours), (self._jobs_path, ours), (self._events_path, "")]
        self._following = Following(self.connection, paths)

    def begin(self, ready_s: float) -> None:
        """Wait until the pods run and have agreed on their start, and learn their clock.

        Raises:
            LoadError: they do not.
            DisruptionError: the cluster took one away.
        """
        self._following.__enter__()
        self._start, clock = self._agreed(ready_s)
        self.window = self._window_by(clock)

    def ended(self) -> bool:
        """Return whether all pods have ended, or one has without a result."""
        phases = [pod["status"].get("phase") for pod in self._following.items(self._pods_path)]
        return self._lost() is not None or (phases != [] and set(phases) == {"Succeeded"})

    def result(self, timeout_s: float) -> LoadResult:
        """Wait for the end and return what all pods measured, merged; see :class:`pytest_aefm.load.LoadRun`."""
        deadline = time.monotonic() + timeout_s
        results: dict[int, PodResult] = {}
        while len(results) < len(self.pods.parts):
            for index in self._names:
                if index not in results and (found := self._result_of(index)) is not None:
                    results[index] = found
            if len(results) < len(self.pods.parts):
                if time.monotonic() >= deadline:
                    absent = ", ".join(name for index, name in self._names.items() if index not in results)
                    what = f"no result after {timeout_s:.0f} s from {absent}"
                    raise LoadError(SUBJECT, what, "an end after warm-up, duration and drain")
                time.sleep(_RESULT_LOOK_S)
        ordered = [results[index] for index in sorted(results)]
        # The whole log has every tick, and so bounds the first pod's clock better than its end did.
        clock = compare(self._looks, self._ticks)
        result = merge(ordered, self._window_by(clock), self._start["start_ns"], clock, self.asked)
        return replace(result, checks=(*result.checks, *admission_check("load", sorted(self._altered))))

    def stop(self) -> None:
        """End it at once and have its objects removed, without waiting; what stays, :meth:`ClusterLoad.stop` finds."""
        if self._stopped:
            return
        self._stopped = True
        self._following.__exit__(None, None, None)
        self.dead_man.drop(self.made[0].path)
        for item in self.made:
            with contextlib.suppress(ApiError):
                self.connection.delete(item.path, item.uid)

    def _window_by(self, clock: Clock) -> Window:
        """Return the window as planned, on our clock; all pods' windows begin when the first one's does."""
        first = self.pods.parts[0]
        begin_s = clock.ours_s(self._start["start_ns"]) + first.window_after_s
        return Window(begin_s + time.time() - time.monotonic(), begin_s, first.load.duration_s)

    def _agreed(self, ready_s: float) -> tuple[Json, Clock]:
        """Read the first pod's log until it has said when all start, and then until that is close.

        The log tells of a container a second before the pod's state does, so that it is what is asked.
        """
        began, since = time.monotonic(), dict[Failure, float]()
        while True:
            self._meet_pods()
            if 0 in self._names:
                told, clock = self._look()
                if clock is not None and told.start is not None and len(self._names) == len(self.pods.parts):
                    start = dict(told.start)
                    if clock.ours_s(start["start_ns"]) - time.monotonic() < _QUIET_S:
                        return start, clock
                self._refuse_failed(0, told)
            now = time.monotonic()
            wrong = self._wrong()
            since = {one: since.get(one, now) for one in wrong}
            final = [one for one in wrong if now - since[one] >= one.grace_s]
            if final or now - began >= ready_s:
                raise self._not_running(now - began, final or wrong)
            time.sleep(_LOOK_S if self._looks else 2 * _LOOK_S)

    def _meet_pods(self) -> None:
        """Learn the pods' names, and what admission made of them; one that comes in place of another is a stranger.

        Raises:
            LoadError: something runs beside the generator that nobody asked for.
        """
        asked = self.pods.template["spec"]
        for pod in self._following.items(self._pods_path):
            index, name = int(pod["metadata"]["labels"][_INDEX]), pod["metadata"]["name"]
            if index in self._uids:
                continue
            self._uids[index], self._names[index] = pod["metadata"]["uid"], name
            if others := strangers(asked, pod["spec"]):
                what = f"admission added the container {', '.join(others)}"
                raise LoadError(f"{SUBJECT}: pod {name}", what, None, "a webhook of the cluster changes pods")
            self._altered.update(resized(asked, pod["spec"]) + altered(asked, pod["spec"]))

    def _look(self) -> tuple[Told, Clock | None]:
        """Read the first pod's log, and its clock if it has told it."""
        asked_s = time.monotonic()
        told = self._log(0, tailLines=400)
        if told.clocks:
            self._ticks |= set(told.clocks)
            self._looks.append(Look(asked_s, time.monotonic(), max(told.clocks)))
        return told, compare(self._looks, self._ticks) if self._looks else None

    def _wrong(self) -> list[Failure]:
        """Return what keeps pods from running."""
        items = self._following.items
        return failures(items(self._jobs_path), items(self._pods_path), items(self._events_path))

    def _not_running(self, taken_s: float, wrong: Iterable[Failure]) -> LoadError:
        phases = [pod["status"].get("phase") for pod in self._following.items(self._pods_path)]
        running = sum(phase not in (None, "Pending") for phase in phases)
        reasons = [str(one) for one in wrong][:1] + self._following.trouble[:1]
        what = (
            f"{running} of {len(self.pods.parts)} pods run after {taken_s:.0f} s, and they have not agreed on a start"
        )
        hint = f"see kubectl -n {self.pods.namespace} describe job {self.pods.name}"
        return LoadError(SUBJECT, "; ".join([what, *reasons]), None, hint)

    def _result_of(self, index: int) -> PodResult | None:
        """Return what a pod measured, None while it is not there yet.

        Raises:
            LoadError: the pod failed, or its result is damaged.
            DisruptionError: the cluster took a pod away.
        """
        told = self._log(index)
        self._refuse_failed(index, told)
        if told.result is None:
            return None
        if index == 0:
            self._ticks |= set(told.clocks)
        with contextlib.suppress(OSError):
            (self.artifacts / f"load-{index}.json").write_text(json.dumps(told.result))
        peer = (self._start.get("peers") or {}).get(str(index), {})
        pod = self._pod(index) or {"spec": {}}
        return PodResult(
            part=self.pods.parts[index],
            pod=self._names[index],
            node=str(pod["spec"].get("nodeName", "?")),
            result=read_result(told.result),
            offset_ns=peer.get("offset_ns", 0),
            uncertainty_ns=peer.get("uncertainty_ns", 0),
            tcp=told.result.get("tcp", {}),
        )

    def _refuse_failed(self, index: int, told: Told) -> None:
        """Raise what a pod has failed of, if it has."""
        if told.failed is not None:
            raise self._failed(index, told.failed)
        if told.damage is not None:
            hint = "its log was cut: let the script print less, or raise containerLogMaxSize"
            raise LoadError(f"{SUBJECT}: pod {self._names[index]}", told.damage, "a whole result", hint)
        if told.result is None and (lost := self._lost()) is not None:
            last = self._log(lost.index)
            if last.failed is not None:
                raise self._failed(lost.index, last.failed)
            said = "".join(f"\nlog: {line}" for line in last.others[-5:])
            raise (DisruptionError if lost.taken else LoadError)(SUBJECT, lost.what + said)

    def _failed(self, index: int, said: Json | Any) -> AefmError:
        status, output = int(said["status"]), str(said["output"]).replace(POD_SCRIPT, str(self.script))
        if status == _KILLED:
            what = "its generator was killed (SIGKILL): out of memory, as a rule"
            return DisruptionError(f"{SUBJECT}: pod {self._names[index]}", what)
        if status in (5, 6):  # not the generator, but what runs it
            expected = "pods that reach each other at TCP port 7411" if status == 5 else "an image of this version"
            return LoadError(f"{SUBJECT}: pod {self._names[index]}", output, expected)
        return failure(self.script, status, output)

    def _lost(self) -> Loss | None:
        """Return the first pod that ended badly or was taken away: a load without it is not the one asked for.

        What was seen first stays: a pod that is preempted is soon gone without a word.
        """
        for index in self._uids if self._first_loss is None else ():
            pod = self._pod(index)
            found = ("was deleted", True) if pod is None else ending(pod)
            if found is not None:
                self._first_loss = Loss(index, f"pod {self._names[index]} {found[0]}", found[1])
                break
        return self._first_loss

    def _pod(self, index: int) -> Json | None:
        uid = self._uids.get(index)
        items = self._following.items(self._pods_path)
        return next((pod for pod in items if pod["metadata"]["uid"] == uid), None)

    def _log(self, index: int, **query: Any) -> Told:
        """Read a pod's log; one that is not there yet says nothing."""
        try:
            return read_log(self.connection.text(f"{self._pods_path}/{self._names[index]}/log", **query))
        except ApiError as error:
            if error.status in (400, 404):  # its container is being created, or it is gone: the pod's state tells
                return Told()
            raise LoadError(f"{SUBJECT}: pod {self._names[index]}", f"its log cannot be read: {error}") from error
        except ValueError as error:
            raise LoadError(f"{SUBJECT}: pod {self._names[index]}", f"its log cannot be understood: {error}") from None
