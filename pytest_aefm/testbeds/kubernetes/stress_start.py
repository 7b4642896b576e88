"""Wait until stressors are at work, by watching and by their logs; give up as soon as they plainly will not be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.errors import DisruptionError, InterferenceError
from pytest_aefm.interference import Stressor, lacking, prove
from pytest_aefm.testbeds.kubernetes.admitted import altered, resized, strangers
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import JOBS
from pytest_aefm.testbeds.kubernetes.health import Failure, failures, has_ended
from pytest_aefm.testbeds.kubernetes.losses import disruption
from pytest_aefm.testbeds.kubernetes.stress_pods import StressJob, selector
from pytest_aefm.testbeds.kubernetes.stress_proof import fate
from pytest_aefm.testbeds.kubernetes.stress_sampler import Sample, read_log
from pytest_aefm.testbeds.kubernetes.watching import Following

__all__ = ["Started", "await_work", "changed", "idle"]

_LOG_POLL_S, _LOOK_S = 0.05, 1.0
_STEADY_LINES, _STEADY_S = 6, 0.25  # stressors are at work once they delivered their dose over so long
_TAIL_LINES = 40
_AT_ONCE = 8

Json = dict[str, Any]


@dataclass(frozen=True)
class Started:
    """A Job that was made, whose pods are ``asked`` for.

    ``confirmed`` are the uids of its pods that were seen at work, ``altered`` what admission made of them otherwise.
    """

    name: str
    job: StressJob
    path: str
    uid: str
    since_mono_s: float
    asked: Json = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)


def await_work(
    connection: Connection, namespace: str, run: str, running: Mapping[str, Started], deadline: float
) -> None:
    """Wait until all pods of these Jobs are at work, and no others are left.

    Raises:
        InterferenceError: one will not be, or not until ``deadline`` (monotonic): with pod, reason and its last words.
        DisruptionError: the cluster took one away.
    """
    root = f"/api/v1/namespaces/{namespace}"
    pods_path, events_path, jobs_path = f"{root}/pods", f"{root}/events", JOBS.path(namespace)
    ours, began = selector(run), time.monotonic()
    paths = [(pods_path, ours), (jobs_path, ours), (events_path, "")]
    since: dict[Failure, float] = {}
    with Following(connection, paths) as following, ThreadPoolExecutor(_AT_ONCE) as pool:
        version = -1
        while True:
            pods = [pod for pod in following.items(pods_path) if fate(pod).job in running]
            for pod in pods:
                _refuse(connection, namespace, running[fate(pod).job], pod)
            lacks = list(_missing(running, pods)) if following.complete else ["the cluster is not read yet"]
            fresh = [pod for pod in pods if _is_fresh(running, pod)]
            told = pool.map(lambda pod: _lacking(connection, namespace, running[fate(pod).job], pod), fresh)
            lacks += [f"pod {pod['metadata']['name']}: {what}" for pod, what in zip(fresh, told, strict=True) if what]
            if not lacks:
                return
            now = time.monotonic()
            jobs = [item for item in following.items(jobs_path) if _is_short(running, item, pods)]
            found = failures(jobs, pods, following.items(events_path))
            since = {failure: since.get(failure, now) for failure in found}
            final = [failure for failure in found if now - since[failure] >= failure.grace_s]
            if final or now > deadline:
                why = [*map(str, (final or found)[:1]), *following.trouble[:1], f"not at work: {', '.join(lacks[:4])}"]
                hint = f"see kubectl -n {namespace} get pods,events"
                raise InterferenceError("interference", f"after {now - began:.0f} s: {'; '.join(why)}", None, hint)
            version = following.wait(version, _LOG_POLL_S if fresh else min(_LOOK_S, max(0.0, deadline - now)))


def _missing(running: Mapping[str, Started], pods: Iterable[Json]) -> Iterator[str]:
    """Say which pods are too few or too many, or not running yet."""
    numbers = dict.fromkeys(running, 0)
    for pod in pods:
        one = fate(pod)
        numbers[one.job] += 1
        if one.trouble:
            yield f"pod {one.name}: {one.trouble}"
    for name, started in running.items():
        if numbers[name] != started.job.parallelism:
            yield f"job {name}: {numbers[name]} of {started.job.parallelism} pods"


def _is_short(running: Mapping[str, Started], job: Json, pods: Iterable[Json]) -> bool:
    """Whether a Job lacks pods: what was said of it before it had them is over."""
    started = running.get(job["metadata"]["name"])
    return started is not None and sum(fate(pod).job == started.name for pod in pods) < started.job.parallelism


def _is_fresh(running: Mapping[str, Started], pod: Json) -> bool:
    one = fate(pod)
    return not one.trouble and one.uid not in running[one.job].confirmed


def _lacking(connection: Connection, namespace: str, started: Started, pod: Json) -> str:
    """Say what a running pod lacks to be at work; once it lacks nothing it is not asked again."""
    try:
        samples = read_log(_log(connection, namespace, pod, _STEADY_LINES))
    except ApiError as error:
        return error.what
    what = idle(started.job.stressor, samples)
    if not what:
        started.confirmed.add(pod["metadata"]["uid"])
        started.altered.update(altered(started.asked, pod["spec"]))
    return what


def idle(stressor: Stressor, samples: list[Sample]) -> str:
    """Say what a stressor lacks to be at work by its latest samples, empty if nothing."""
    if not samples:
        return "it has written nothing yet"
    last = samples[-1].reading(stressor)
    if what := lacking(last):
        return what
    if stressor.part and not stressor.streams:
        return "" if samples[-1].listens else f"it does not listen on port {stressor.port}"
    # stress-ng has children for a moment that are no workers: the same ones deliver for a while.
    first = samples[0].reading(stressor)
    if last.mono_s - first.mono_s < _STEADY_S:
        return "it has just begun"
    (dose,) = prove([first], [last], {cpu for worker in last.workers.values() for cpu in worker.cpus})
    return "" if dose.ok else dose.message


def _refuse(connection: Connection, namespace: str, started: Started, pod: Json) -> None:
    """Give up on a pod that has ended, or that is not what was asked for.

    Raises:
        InterferenceError: says which, and why; with its last words if it had any.
        DisruptionError: it was preempted or evicted.
    """
    name = pod["metadata"]["name"]
    subject = f"interference pod {name} on {started.job.node}"
    if why := disruption(pod):
        raise DisruptionError(subject, f"is taken away: {why}")
    if "deletionTimestamp" in pod["metadata"]:
        return  # it was taken away
    if has_ended(pod):
        try:
            words = _log(connection, namespace, pod, _TAIL_LINES).splitlines()
        except ApiError:
            words = []
        said = [line for line in words if line.strip() and not read_log(line)][-5:]
        raise InterferenceError(subject, f"ended: {fate(pod).trouble}" + "".join(f"\nlog: {line}" for line in said))
    if what := changed(started.asked, pod["spec"]):
        raise InterferenceError(subject, what, None, "a LimitRange or a webhook of the cluster changes pods")


def changed(asked: Json, admitted: Json) -> str:
    """Say what admission made of a pod, so that its dose is none: a container beside it, another size."""
    if others := strangers(asked, admitted):
        return f"admission added the container {', '.join(others)}"
    return "".join(f"admission changed {what}" for what in resized(asked, admitted)[:1])


def _log(connection: Connection, namespace: str, pod: Json, lines: int) -> str:
    return connection.text(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log", tailLines=lines)
