"""Wait until what was applied is ready, by watching; give up as soon as it is plain that it will not be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.applying import Applied
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.health import Failure, failures, lacking, restarted
from pytest_aefm.testbeds.kubernetes.watching import Following

__all__ = ["wait_ready"]

Json = dict[str, Any]

_AWAITED = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod", "CustomResourceDefinition")
_TAIL_LINES = 15
_STEADY_S = 11.0
"""How long a container that ended before must run to count: the kubelet waits 10 s before it starts one again."""

_NODES_S = 5.0
"""How often to look whether the nodes are in order."""

_LOOK_S = 1.0
"""How often to look where nothing changes: for failures that must last a while to count."""


def wait_ready(
    connection: Connection,
    app: str,
    applied: Sequence[Applied],
    namespace: str,
    run: str,
    *,
    deadline_s: float,
    nodes: Callable[[], Sequence[str]] = tuple,
) -> float:
    """Wait until all of it is ready; return the seconds that took.

    Ready: controllers have caught up, all replicas are updated and available, the old ones gone, and every Service
    of pods among them has an endpoint. ``nodes`` says what is wrong with those that its pods need.

    Raises:
        DeploymentError: something will not heal by waiting, or the deadline is over: with pod, container, reason,
            event and the tail of the log; or with what is wrong with a node.
    """
    began = looked = time.monotonic()
    waiting = _Waiting(applied, namespace, run)
    with Following(connection, waiting.paths) as following:
        since: dict[Failure, float] = {}
        version = -1
        while True:
            left = began + deadline_s - time.monotonic()
            lacks = waiting.lacks(following)
            if following.complete and not lacks and not following.trouble:
                return time.monotonic() - began
            now = time.monotonic()
            found = waiting.failures(following)
            since = {failure: since.get(failure, now) for failure in found}
            final = [failure for failure in found if now - since[failure] >= failure.grace_s]
            if final or left <= 0:
                taken = now - began
                raise _error(connection, app, namespace, taken, lacks, final or found, waiting, following)
            if now - looked >= _NODES_S:
                looked = now
                if wrong := nodes():
                    what = f"not ready after {now - began:.0f} s: {'; '.join(wrong)}"
                    raise DeploymentError(f"app {app!r}", what, "nodes that are Ready")
            version = following.wait(version, min(left, _LOOK_S))


class _Waiting:
    """What is waited for, and where to look for it."""

    def __init__(self, applied: Sequence[Applied], namespace: str, run: str) -> None:
        ours = f"{RUN_LABEL}={run}"
        self._awaited = [item for item in applied if item.manifest.kind in _AWAITED]
        self._services = [item for item in applied if _has_pods(item, applied)]
        root = f"/api/v1/namespaces/{namespace}"
        self.pods, self.events = f"{root}/pods", f"{root}/events"
        self.slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        lists = [(item.resource.path(item.manifest.namespace), ours) for item in self._awaited]
        slices = [(self.slices, "")] if self._services else []
        self._running: dict[tuple[str, str, int], float] = {}
        # Events know no labels; those of other applications in the namespace are about other objects.
        self.paths = [*lists, (self.pods, ours), (self.events, ""), *slices]

    def lacks(self, following: Following) -> list[str]:
        """Say of each object that is not ready what it lacks."""
        lacks = []
        for item in self._awaited:
            found = _by_uid(following.items(item.resource.path(item.manifest.namespace)), item.uid)
            if found is None or int(found["metadata"].get("generation", 0)) < item.generation:
                lacks.append(f"{item.manifest.label}: not seen yet")
            elif what := lacking(found):
                lacks.append(f"{item.manifest.label}: {what}")
        going = [pod["metadata"]["name"] for pod in following.items(self.pods) if _is_going(pod)]
        lacks += [f"pod {name}: not gone yet" for name in going]
        lacks += self._unsteady(following.items(self.pods))
        served = {
            (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
            for one in following.items(self.slices)
            if any((end.get("conditions") or {}).get("ready") for end in one.get("endpoints") or ())
        }
        missing = (item for item in self._services if item.manifest.name not in served)
        return [*lacks, *(f"{item.manifest.label}: no endpoint" for item in missing)]

    def _unsteady(self, pods: Iterable[Json]) -> Iterator[str]:
        """Say which containers were started again a moment ago, on our own clock."""
        now = time.monotonic()
        for pod in pods:
            for container, times in () if _is_going(pod) else restarted(pod):
                first = self._running.setdefault((pod["metadata"]["uid"], container, times), now)
                if now - first < _STEADY_S:
                    yield f"pod {pod['metadata']['name']}: container {container} was started again just now"

    def failures(self, following: Following) -> list[Failure]:
        """Return what will not heal by waiting."""
        workloads = []
        for item in self._awaited:
            found = _by_uid(following.items(item.resource.path(item.manifest.namespace)), item.uid)
            workloads += [found] if found is not None else []
        return failures(workloads, following.items(self.pods), following.items(self.events))


def _is_going(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def _by_uid(items: Iterable[Json], uid: str) -> Json | None:
    return next((item for item in items if item["metadata"]["uid"] == uid), None)


def _has_pods(service: Applied, applied: Sequence[Applied]) -> bool:
    """Whether it is a Service that selects pods which something applied beside it makes."""
    spec = service.body.get("spec") or {}
    selector = spec.get("selector")
    if service.manifest.kind != "Service" or not selector:
        return False
    return any(selector.items() <= labels.items() for item in applied if (labels := _pod_labels(item)))


def _pod_labels(item: Applied) -> Json | None:
    """Return the labels of the pods that stay once an object is ready; None where there are none."""
    steps = item.manifest.template_steps
    if steps is None or item.manifest.kind in ("Job", "CronJob", "PodTemplate"):
        return None
    value: Any = item.body
    if steps and (value.get("spec") or {}).get("replicas") == 0:
        return None
    for step in (*steps, "metadata", "labels"):
        value = (value or {}).get(step)
    return value or None


def _error(
    connection: Connection,
    app: str,
    namespace: str,
    taken_s: float,
    lacks: Sequence[str],
    found: Sequence[Failure],
    waiting: _Waiting,
    following: Following,
) -> DeploymentError:
    """Say what is wrong first, then what else is missing, then what the pod said."""
    parts = [str(failure) for failure in found[:1]] + list(following.trouble[:1])
    shown = list(lacks[:4]) + ([f"{len(lacks) - 4} more"] if len(lacks) > 4 else [])
    parts += [f"not ready: {', '.join(shown)}"] if shown else []
    pod = found[0].pod if found else None
    what = f"not ready after {taken_s:.0f} s: {'; '.join(parts)}"
    hint = f"see kubectl -n {namespace} " + (f"describe pod {pod}" if pod else "get pods,events")
    told = _told(connection, namespace, found[0], waiting, following) if found else ""
    return DeploymentError(f"app {app!r}", what + told, None, hint)


def _told(connection: Connection, namespace: str, failure: Failure, waiting: _Waiting, following: Following) -> str:
    """Return the latest warning about a pod and the tail of its container's log, each on lines of their own."""
    if failure.pod is None:
        return ""
    lines = []
    warnings = [
        event
        for event in following.items(waiting.events)
        if event.get("type") == "Warning" and (event.get("involvedObject") or {}).get("name") == failure.pod
    ]
    if warnings:
        last = max(warnings, key=lambda event: int(event["metadata"].get("resourceVersion", 0)))
        lines.append(f"event: {last.get('reason')}: {last.get('message', '').strip()}")
    if failure.container is not None:
        lines += [f"log: {line}" for line in _log(connection, namespace, failure.pod, failure.container)]
    return "".join(f"\n{line}" for line in lines) + ("\n" if lines else "")


def _log(connection: Connection, namespace: str, pod: str, container: str) -> list[str]:
    """Return the last lines that a container wrote, also one that has been started again since."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    for previous in ("false", "true"):
        try:
            text = connection.text(path, container=container, tailLines=_TAIL_LINES, previous=previous)
        except ApiError:
            continue  # it never started, or its log is gone; the failure has been said
        if text.strip():
            return text.strip().splitlines()
    return []
