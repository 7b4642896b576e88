"""Interference on a cluster: stressors as Jobs on chosen nodes, converged to, confirmed, read, proven, removed.

What is confirmed and proven is read from the pods' own logs (see :mod:`.stress_sampler`); getting pods and their logs
is all that this needs beside Jobs of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_aefm.errors import AefmError, ConfigurationError, DisruptionError, InterferenceError
from pytest_aefm.interference import Stressor, asked_for, check, filling_s
from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import JOBS, DeadMan
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.priority import make_priority, wait_known
from pytest_aefm.testbeds.kubernetes.removing import Leftover, remove
from pytest_aefm.testbeds.kubernetes.stress_check import refuse_nodes
from pytest_aefm.testbeds.kubernetes.stress_pods import (
    BACKSTOP_S,
    StressJob,
    StressOptions,
    plan_clients,
    plan_jobs,
    selector,
)
from pytest_aefm.testbeds.kubernetes.stress_proof import NodeClock, PodFate, Stressing, fate, judge
from pytest_aefm.testbeds.kubernetes.stress_sampler import EVERY_S, QUICK_LINES, read_log
from pytest_aefm.testbeds.kubernetes.stress_start import Started, await_work

__all__ = ["PodReading", "PodStressors", "StressOptions"]

_FILL_FACTOR, _FILL_S = 3.0, 30.0  # a memory dose may take so many times as long as is expected, and so long at least
_AT_ONCE = 8
_CLOCK_S, _CLOCK_AT_MOST_S, _CLOCK_GOOD_S, _CLOCK_POLL_S = 3.0, 15.0, 0.1, 0.02
_PAD_S, _LATE_S = 10.0, 5.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodReading:
    """The pods of all stressors at one moment, by name."""

    pods: Mapping[str, PodFate] = field(default_factory=dict)


class PodStressors:
    """The stressors of a run on ``nodes``; :meth:`converge` makes them those that a case asks for.

    A change may take ``deadline_s`` seconds, and longer where memory is to be filled.
    """

    def __init__(
        self,
        connection: Connection,
        dead_man: DeadMan,
        *,
        namespace: str,
        run: str,
        nodes: Sequence[str],
        options: StressOptions,
        deadline_s: float = 60.0,
    ) -> None:
        self._connection, self._dead_man = connection, dead_man
        self._namespace, self._run = namespace, run
        self._nodes, self._options, self._deadline_s = tuple(nodes), options, deadline_s
        self._running: dict[str, Started] = {}
        self._priority: Leftover | None = None
        self._ready = options.priority_class is not None
        self._specs: tuple[InterferenceSpec, ...] = ()

    def check(self, specs: Sequence[InterferenceSpec], *, allow_shared: bool = False) -> None:
        """Refuse what cannot, or must not, be done to the nodes; ``allow_shared`` admits pods of others there.

        Raises:
            ConfigurationError: a disturbance is none, or none that a pod can make.
            InterferenceError: a node must not be disturbed, or cannot hold the dose.
        """
        active = self._checked(specs)
        if active:
            place = {"namespace": self._namespace, "run": self._run}
            refuse_nodes(self._connection, active, self._nodes, **place, allow_shared=allow_shared)

    def converge(self, specs: Sequence[InterferenceSpec]) -> None:
        """Run exactly these, confirmed to be at work; those that run already stay. After a failure none runs.

        Raises:
            InterferenceError: it did not start in time, or will not.
            DisruptionError: the cluster took a pod of it away meanwhile.
        """
        active = self._checked(specs)
        try:
            self._converge(active)
        except AefmError as error:
            self.stop()
            if isinstance(error, InterferenceError | DisruptionError):
                raise
            raise InterferenceError("interference", str(error)) from error
        self._specs = active

    def read(self, listed: Iterable[Json] | None = None) -> PodReading:
        """Read all pods now: one request, none where nothing runs, or all pods of the run were ``listed`` just now."""
        if not self._running:
            return PodReading()
        if listed is None:
            return PodReading(self._fates())
        return PodReading(_by_name(pod for pod in listed if pod["metadata"]["labels"].get(ROLE_LABEL) == INTERFERENCE))

    def prove(
        self, before: PodReading, after: PodReading, window: Window
    ) -> tuple[tuple[Dose, ...], Mapping[str, Any]]:
        """Return what was delivered over a window, from readings at its edges and the logs; and the effect."""
        if not self._running:
            return (), {}
        pods = [item for started in self._running.values() for item in self._expected(started, before, after)]
        named = {pod.before.name: pod.before for pod in pods if pod.before is not None}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            living = {one.node: one.name for one in after.pods.values() if one.name in named and not one.trouble}
            measured = zip(living, pool.map(self._clock, living.values()), strict=True)
            clocks = {node: clock for node, clock in measured if clock is not None}
            ends = {node: window.end_mono_s - one.offset_s + one.uncertainty_s for node, one in clocks.items()}
            told = pool.map(lambda one: self._log_of(one.name, window, ends.get(one.node, 0.0)), named.values())
            logs = dict(zip(named, told, strict=True))
        read = [pod if pod.before is None else replace(pod, **logs[pod.before.name]) for pod in pods]
        return judge(self._specs, read, clocks, window, self._nodes)

    @property
    def altered(self) -> list[str]:
        """What admission made of the pods that run, beside what was asked for."""
        return sorted({what for started in self._running.values() for what in started.altered})

    def stop(self) -> list[str]:
        """Remove all of it; return what could not be removed. Never raises."""
        running, self._running, self._specs = list(self._running.values()), {}, ()
        for started in running:
            self._dead_man.drop(started.path)
        leaving = [*map(self._leftover, running), *([self._priority] if self._priority else [])]
        if self._priority is not None:
            self._options = replace(self._options, priority_class=None)
            self._priority, self._ready = None, False
        try:
            return remove(self._connection, leaving)
        except AefmError as error:  # nobody keeps them alive any more
            return [f"interference: {error}"]

    def _checked(self, specs: Sequence[InterferenceSpec]) -> tuple[InterferenceSpec, ...]:
        """Return those that ask for something, if each of them can be made by pods."""
        for spec in specs:
            check(spec, quota=True)
        active = asked_for(specs)
        if active and not self._nodes:
            hint = "give role testbed to a node of the experiment, or label one aefm.dev/testbed=true"
            raise ConfigurationError("interference", "no node to disturb", None, hint)
        if len(self._nodes) < 2 and any(spec.kind == "network" for spec in active):
            raise ConfigurationError("interference 'network'", "it goes from node to node", "at least two nodes")
        alike = [replace(spec, count=0) for spec in active]
        if len(set(alike)) < len(alike):
            raise ConfigurationError(
                "interference", "the same disturbance is asked for twice", "one, of a higher level"
            )
        return active

    def _converge(self, specs: Sequence[InterferenceSpec]) -> None:
        fates = list(self._fates().values()) if self._running else []
        wanted = plan_jobs(specs, self._nodes)
        ring = self._ring(specs, fates)
        if wanted:
            self._prepare(wanted[0])
        named = {job.name(self._run, self._options): job for job in [*wanted, *ring]}
        self._remove([name for name, started in self._running.items() if not self._stays(started, named, fates)])
        began = time.monotonic()
        changed = [self._begin(name, job) for name, job in named.items()]
        patience_s = max(self._deadline_s, _FILL_FACTOR * filling_s(specs, 1), _FILL_S)
        if any(changed):
            self._await(began + patience_s)
        if any(spec.kind == "network" for spec in specs) and not ring:
            clients = self._ring(specs, self._fates().values())
            for job in clients:
                self._begin(job.name(self._run, self._options), job)
            self._await(began + patience_s)

    def _prepare(self, job: StressJob) -> None:
        """Once, before anything is made: give stressors the lowest priority, where that is allowed."""
        if self._ready:
            return
        self._priority = make_priority(self._connection, self._run, INTERFERENCE)
        if self._priority is not None:
            self._options = replace(self._options, priority_class=self._priority.name)
            template = job.manifest(self._namespace, self._run, self._options)["spec"]["template"]
            wait_known(self._connection, self._namespace, template)
        self._ready = True

    def _ring(self, specs: Sequence[InterferenceSpec], fates: Iterable[PodFate]) -> list[StressJob]:
        """Return the clients of a ring, none where not every server runs."""
        servers = {name: one for name, one in self._running.items() if one.job.stressor.part == "server"}
        addresses = {one.node: one.address for one in fates if one.job in servers and one.address and not one.trouble}
        return plan_clients(specs, self._nodes, addresses) if addresses.keys() >= set(self._nodes) else []

    def _stays(self, started: Started, wanted: Mapping[str, StressJob], fates: Sequence[PodFate]) -> bool:
        """Whether a Job is wanted still, at work, kept, and will not end by its own backstop for long."""
        if started.name not in wanted or time.monotonic() - started.since_mono_s > BACKSTOP_S / 2:
            return False
        pods = [one for one in fates if one.job == started.name]
        troubled = any(one.trouble for one in pods) or len(pods) != started.job.parallelism
        return not troubled and not self._dead_man.has_lost(started.path)

    def _begin(self, name: str, job: StressJob) -> bool:
        """Make a Job, or set the parallelism of one that runs; return whether anything is to be awaited."""
        started = self._running.get(name)
        if started is not None and started.job == job:
            return False
        if started is not None:
            patch = {"metadata": {"uid": started.uid}, "spec": {"parallelism": job.parallelism}}
            self._connection.patch(started.path, patch)
            self._running[name] = replace(started, job=job)
            return True
        path = JOBS.path(self._namespace, name)
        manifest = job.manifest(self._namespace, self._run, self._options)
        made = self._connection.apply(path, manifest, MANAGER)
        uid = made["metadata"]["uid"]
        self._running[name] = Started(name, job, path, uid, time.monotonic(), manifest["spec"]["template"]["spec"])
        self._dead_man.keep(path, uid)
        return True

    def _await(self, deadline: float) -> None:
        await_work(self._connection, self._namespace, self._run, self._running, deadline)

    def _remove(self, names: Sequence[str]) -> None:
        """Remove Jobs with their pods.

        Raises:
            InterferenceError: one does not go.
        """
        leaving = [self._running.pop(name) for name in names]
        for started in leaving:
            self._dead_man.drop(started.path)
        problems = remove(self._connection, map(self._leftover, leaving))
        if problems:
            raise InterferenceError("interference", "; ".join(problems))

    def _leftover(self, started: Started) -> Leftover:
        return Leftover(self._run, JOBS, self._namespace, started.name, started.uid)

    def _fates(self) -> dict[str, PodFate]:
        listed = self._connection.get(f"/api/v1/namespaces/{self._namespace}/pods", labelSelector=selector(self._run))
        return _by_name(listed.get("items") or ())

    def _expected(self, started: Started, before: PodReading, after: PodReading) -> list[Stressing]:
        """Return a Job's pods, one that is missing included."""
        here = sorted((one for one in before.pods.values() if one.job == started.name), key=lambda one: one.name)
        found: list[Stressing] = []
        for index in range(max(len(here), started.job.parallelism)):
            pod = here[index] if index < len(here) else None
            place = pod.name if pod else f"{started.name} (number {index + 1})"
            stressor: Stressor = replace(started.job.stressor, index=index, place=place)
            found.append(Stressing(stressor, pod, after.pods.get(place)))
        return found

    def _log(self, pod: str, lines: int) -> str:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/log"
        return self._connection.text(path, tailLines=lines)

    def _log_of(self, pod: str, window: Window, end_uptime_s: float) -> Json:
        """Return what a pod's log tells of a window, or why it does not; what is written late is waited for."""
        deadline = time.monotonic() + _LATE_S
        while True:
            past_s = time.monotonic() - window.start_mono_s
            try:
                samples = read_log(self._log(pod, int((past_s + _PAD_S) / EVERY_S) + QUICK_LINES))
            except ApiError as error:
                return {"trouble": self._last_event(pod) or error.what}
            written = samples and samples[-1].uptime_s >= end_uptime_s
            if written or (samples and not samples[-1].alive) or time.monotonic() > deadline:
                return {"samples": samples}
            time.sleep(EVERY_S / 5)

    def _last_event(self, pod: str) -> str:
        """Return what was last said about a pod, empty where nobody says anything."""
        path, about = f"/api/v1/namespaces/{self._namespace}/events", f"involvedObject.name={pod}"
        try:
            events = self._connection.get(path, fieldSelector=about)["items"]
        except ApiError:
            return ""
        told = max(events, key=lambda one: int(one["metadata"].get("resourceVersion", 0)), default=None)
        return f"{told.get('reason')}: {told.get('message', '')}" if told else ""

    def _clock(self, pod: str) -> NodeClock | None:
        """Measure a node's uptime against our clock: a line that is new was written since we asked before.

        A slow answer tells little: the best of several counts.
        """
        began, best = time.monotonic(), None
        asked_s, seen = 0.0, None
        while (now := time.monotonic()) < began + (_CLOCK_S if best else _CLOCK_AT_MOST_S):
            try:
                samples = read_log(self._log(pod, 1))
            except ApiError:
                return best
            if samples:
                uptime_s, answered_s = samples[-1].uptime_s, time.monotonic()
                if seen is not None and uptime_s > seen:
                    found = NodeClock((asked_s + answered_s) / 2 - uptime_s, (answered_s - asked_s) / 2)
                    best = min(best or found, found, key=lambda one: one.uncertainty_s)
                    if best.uncertainty_s <= _CLOCK_GOOD_S:
                        return best
                seen = uptime_s
            asked_s = now
            time.sleep(_CLOCK_POLL_S)
        return best


def _by_name(pods: Iterable[Json]) -> dict[str, PodFate]:
    return {one.name: one for one in map(fate, pods)}
