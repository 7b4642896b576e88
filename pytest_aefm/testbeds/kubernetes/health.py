"""What objects of a cluster say of themselves: ready, on the way, or beyond help. Pure: JSON in, words out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Failure", "failures", "has_ended", "lacking", "restarted"]

Json = dict[str, Any]

_WAITING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ErrRegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Why a container waits that will not start by waiting: what the kubelet calls its state."""

_CRASHING = "CrashLoopBackOff"
_RESTARTS = 2
"""How often a container may be started again before it is beyond help: the kubelet gets so far in about 15 s."""

_MOUNTS = frozenset({"FailedMount", "FailedAttachVolume"})
_PASSING = "failed to sync"
"""What a busy kubelet says of a ConfigMap that it has not read yet, and tries again."""

_REJECTED = frozenset({"FailedCreate"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What keeps an application from getting ready, and will go on to: where, why, and what was said of it.

    ``grace_s`` is how long it must have been so: a scheduler may find room, a volume may come, within seconds.
    """

    where: str
    reason: str
    message: str = ""
    pod: str | None = None
    container: str | None = None
    grace_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" + (f": {self.message}" if self.message else "")


def lacking(item: Json) -> str | None:
    """Return what an object still lacks to be ready, None for one that is, or of which nothing is to be awaited.

    Ready means that the controller has seen the latest wish, that all replicas are updated and available, and that
    the old ones are gone.
    """
    kind, spec, status = item.get("kind"), item.get("spec") or {}, item.get("status") or {}
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        generation = (item.get("metadata") or {}).get("generation", 0)
        if status.get("observedGeneration", 0) < generation:
            return "its controller has not seen it yet"
    match kind:
        case "Deployment":
            return _replicas(spec.get("replicas", 1), status, "updatedReplicas", "availableReplicas")
        case "StatefulSet":
            if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
                return _replicas(spec.get("replicas", 1), status, "readyReplicas", "readyReplicas")
            return _replicas(spec.get("replicas", 1), status, "updatedReplicas", "availableReplicas")
        case "DaemonSet":
            wanted = status.get("desiredNumberScheduled", 0)
            counted = {**status, "replicas": status.get("currentNumberScheduled", 0)}
            if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
                return _replicas(wanted, counted, "numberReady", "numberReady")
            return _replicas(wanted, counted, "updatedNumberScheduled", "numberAvailable")
        case "Job":
            return None if _condition(item, "Complete") or spec.get("suspend") else "not complete"
        case "Pod":
            done = status.get("phase") == "Succeeded" or _condition(item, "Ready")
            return None if done else str(status.get("phase", "not seen by a kubelet"))
        case "PersistentVolumeClaim":
            # A claim may wait for the pod that uses it; that pod is waited for.
            return None
        case "CustomResourceDefinition":
            return None if _condition(item, "Established") else "not established"
    return None


def _replicas(wanted: int, status: Json, updated: str, available: str) -> str | None:
    new, all_of_them, ready = (status.get(key, 0) for key in (updated, "replicas", available))
    if new < wanted:
        return f"{new}/{wanted} updated"
    if all_of_them > new:
        return f"{all_of_them - new} old still there"
    return None if ready >= wanted else f"{ready}/{wanted} available"


def _condition(item: Json, kind: str) -> Json | None:
    """Return the condition of a type that is true."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def has_ended(pod: Json) -> bool:
    """Whether a pod has ended, well or badly: it uses nothing any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def restarted(pod: Json) -> list[tuple[str, int]]:
    """Return the containers, each with how often, that run again after they ended and that no probe calls ready.

    Such a one is ready to Kubernetes for as long as it runs, be that a moment.
    """
    probed = {one["name"] for one in (pod.get("spec") or {}).get("containers") or () if one.get("readinessProbe")}
    if _is_of_job(pod):
        return []
    return [
        (one["name"], one["restartCount"])
        for one in (pod.get("status") or {}).get("containerStatuses") or ()
        if one.get("restartCount") and one["name"] not in probed
    ]


def failures(workloads: Iterable[Json], pods: Iterable[Json], events: Sequence[Json]) -> list[Failure]:
    """Return what will not heal by waiting, the gravest first.

    ``events`` are those of the namespace since the application was applied; pods that are being deleted are left out.
    """
    living = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    found = [failure for pod in living for failure in _of_pod(pod, events)]
    found += [failure for item in workloads for failure in _of_workload(item, events)]
    return sorted(found, key=lambda failure: failure.grace_s)


def _of_pod(pod: Json, events: Sequence[Json]) -> Iterable[Failure]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    where = f"pod {name}"
    for key in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(key) or ():
            if (trouble := _of_container(pod, one)) is not None:
                yield Failure(f"{where}, container {one['name']}", *trouble, name, one["name"])
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Failure(where, status["reason"], status.get("message", ""), name)
    for one in status.get("conditions") or ():
        said = (one.get("type"), one.get("status"), one.get("reason"))
        # Where a node is nominated room is being made on it.
        if said == ("PodScheduled", "False", "Unschedulable") and not status.get("nominatedNodeName"):
            yield Failure(where, "Unschedulable", one.get("message", ""), name, grace_s=5.0)
    if status.get("phase") in (None, "Pending"):
        for event in _about(pod, events):
            if event.get("reason") in _MOUNTS and _PASSING not in event.get("message", ""):
                yield Failure(where, event["reason"], event.get("message", ""), name, grace_s=10.0)


def _of_container(pod: Json, container: Json) -> tuple[str, str] | None:
    """Return why a container will not run, and what was said of it.

    One that ends is given some attempts: it may have been started before what it needs. A Job counts for itself.
    """
    state = container.get("state") or {}
    reason = (state.get("waiting") or {}).get("reason")
    ended = state.get("terminated") or {}
    if reason == _CRASHING or ended.get("exitCode"):
        if container.get("restartCount", 0) < _RESTARTS or _is_of_job(pod):
            return None
        return _CRASHING, _ending(state if ended else container.get("lastState") or {})
    if reason in _WAITING:
        return reason, state["waiting"].get("message", "")
    return None


def _is_of_job(pod: Json) -> bool:
    return any(owner.get("kind") == "Job" for owner in pod["metadata"].get("ownerReferences") or ())


def _ending(state: Json) -> str:
    """Say how a container ended, if it did."""
    last = state.get("terminated")
    if not last:
        return ""
    said = f": {last['message'].strip()}" if last.get("message") else ""
    return f"{last.get('reason', 'ended')}, exit status {last.get('exitCode')}{said}"


def _of_workload(item: Json, events: Sequence[Json]) -> Iterable[Failure]:
    where = f"{item['kind']} {item['metadata']['name']}"
    for one in (item.get("status") or {}).get("conditions") or ():
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            yield Failure(where, one.get("reason", "ReplicaFailure"), one.get("message", ""))
        if one.get("type") == "Failed" and one.get("status") == "True" and item["kind"] == "Job":
            yield Failure(where, one.get("reason", "Failed"), one.get("message", ""))
    if item["kind"] in ("StatefulSet", "DaemonSet", "Job") and lacking(item):
        # These say it in events alone; a quota that is full may be about to empty.
        for event in _about(item, events):
            if event.get("reason") in _REJECTED:
                yield Failure(where, event["reason"], event.get("message", ""), grace_s=2.0)


def _about(item: Json, events: Sequence[Json]) -> Iterable[Json]:
    uid = item["metadata"].get("uid")
    return (event for event in events if (event.get("involvedObject") or {}).get("uid") == uid)
