"""What pods, nodes and events say of a window: restarts, kills, evictions, placement. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_aefm.model import Window
from pytest_aefm.testbeds.kubernetes.health import has_ended
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL, UNDER_TEST

__all__ = [
    "ContainerState",
    "PodMark",
    "PodState",
    "disturbing",
    "pod_states",
    "seen_events",
    "service_facts",
    "toll",
]

Json = dict[str, Any]

_TELLING = frozenset(
    {
        "SuccessfulRescale",
        "EvictedByVPA",
        "Evicted",
        "Preempted",
        "NodeNotReady",
        "NodeHasInsufficientMemory",
        "NodeHasDiskPressure",
        "NodeHasInsufficientPID",
        "SystemOOM",
        "OOMKilling",
        "EvictionThresholdMet",
        "Killing",
    }
)
"""Reasons of events that matter also where they are no warnings: autoscalers, evictions, nodes under pressure."""

_SLACK_S = 1.0  # events are told in whole seconds


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container of a pod: how often it was started again, why it ended last, and what really runs."""

    restarts: int
    end: str
    image: str
    image_id: str
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod at one moment; ``workload`` is the controller that made it, ``failure`` why it ended for good."""

    name: str
    workload: str
    role: str
    node: str
    address: str
    failure: str
    containers: Mapping[str, ContainerState]

    @property
    def restarts(self) -> int:
        """How often containers of it were started again."""
        return sum(one.restarts for one in self.containers.values())


@dataclass(frozen=True, slots=True)
class PodMark:
    """The pods of a run by uid at one moment; ``disturbing`` are the names of those that disturb."""

    pods: Mapping[str, PodState]
    disturbing: tuple[str, ...] = ()


@dataclass(slots=True)
class _Toll:
    restarts: int = 0
    oom_kills: int = 0
    evictions: int = 0
    ends: list[str] = field(default_factory=list)


def pod_states(items: Iterable[Json]) -> dict[str, PodState]:
    """Return pods by uid; those of Jobs, and those that are on their way out, are none of an application's."""
    return {
        item["metadata"]["uid"]: _state(item)
        for item in items
        if "deletionTimestamp" not in item["metadata"] and _owner(item).get("kind") != "Job"
    }


def disturbing(items: Iterable[Json]) -> tuple[str, ...]:
    """Return the names of pods that disturb, also of those on their way out: they do until they are gone."""
    return tuple(
        item["metadata"]["name"]
        for item in items
        if (item["metadata"].get("labels") or {}).get(ROLE_LABEL) == INTERFERENCE and not has_ended(item)
    )


def workload_of(pod: Json) -> str:
    """Return the name of the Deployment, StatefulSet or DaemonSet that a pod belongs to; its own without one."""
    metadata, owner = pod["metadata"], _owner(pod)
    name = str(owner.get("name") or metadata["name"])
    template = (metadata.get("labels") or {}).get("pod-template-hash")
    return name.removesuffix(f"-{template}") if owner.get("kind") == "ReplicaSet" and template else name


def _owner(pod: Json) -> Json:
    owners: list[Json] = pod["metadata"].get("ownerReferences") or []
    return next((one for one in owners if one.get("controller")), {})


def _state(item: Json) -> PodState:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    resources = {one["name"]: one.get("resources") or {} for one in (*(spec.get("containers") or ()), *sidecars)}
    told = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    seen = {one["name"]: one for one in told}
    containers = {
        name: ContainerState(
            restarts=int((one := seen.get(name, {})).get("restartCount", 0)),
            end=_end(one),
            image=str(one.get("image", "")),
            image_id=str(one.get("imageID", "")),
            requests=wanted.get("requests") or {},
            limits=wanted.get("limits") or {},
        )
        for name, wanted in resources.items()
    }
    failed = status.get("phase") == "Failed"
    why = [str(status[key]) for key in ("reason", "message") if status.get(key)]
    return PodState(
        name=metadata["name"],
        workload=workload_of(item),
        role=(metadata.get("labels") or {}).get(ROLE_LABEL, UNDER_TEST),
        node=str(spec.get("nodeName", "")),
        address=str(status.get("hostIP", "")),
        failure=(": ".join(why) or "Failed") if failed else "",
        containers=containers,
    )


def _end(container: Json) -> str:
    """Say how a container ended last, empty if it never did."""
    for key in ("state", "lastState"):
        ended = (container.get(key) or {}).get("terminated")
        if ended:
            return f"{ended.get('reason', 'ended')}, exit status {ended.get('exitCode')}"
    return ""


def toll(before: PodMark, after: PodMark) -> tuple[dict[str, float], dict[str, Json]]:
    """Return the metrics of restarts, and by workload what happened to its pods between two marks.

    A pod that is gone or failed counts as a restart, for another took its place; ``restarts`` is of what is under test.
    """
    counted: dict[str, _Toll] = {pod.workload: _Toll() for pod in (*before.pods.values(), *after.pods.values())}
    roles = {pod.workload: pod.role for pod in (*before.pods.values(), *after.pods.values())}
    for uid, first in before.pods.items():
        _count_lost(counted[first.workload], first, after.pods.get(uid))
    for uid, last in after.pods.items():
        _count_restarts(counted[last.workload], before.pods.get(uid), last)
    metrics = {f"restarts({name})": float(one.restarts) for name, one in counted.items()}
    under_test = [one.restarts for name, one in counted.items() if roles[name] == UNDER_TEST]
    services = {
        name: {
            "pods": [_pod_facts(pod) for pod in after.pods.values() if pod.workload == name],
            "restarts": one.restarts,
            "oom_kills": one.oom_kills,
            "evictions": one.evictions,
            **({"ends": one.ends} if one.ends else {}),
        }
        for name, one in sorted(counted.items())
    }
    if under_test:  # where no pod is seen nothing is known: an operator's pods may not carry the run's label
        metrics["restarts"] = float(sum(under_test))
    return metrics, services


def _count_lost(count: _Toll, first: PodState, last: PodState | None) -> None:
    if first.failure or (last is not None and not last.failure):
        return
    count.restarts += 1
    why = last.failure if last is not None else "gone"
    count.evictions += "Evicted" in why or "Preempt" in why
    count.ends.append(f"pod {first.name}: {why}")


def _count_restarts(count: _Toll, first: PodState | None, last: PodState) -> None:
    for name, now in last.containers.items():
        earlier = first.containers.get(name) if first is not None else None
        again = max(0, now.restarts - (earlier.restarts if earlier else 0))
        # One that has ended and was not started again yet.
        ended = not again and bool(earlier) and now.end and earlier is not None and now.end != earlier.end
        if again or ended:
            count.restarts += again or 1
            count.oom_kills += now.end.startswith("OOMKilled")
            count.ends.append(f"pod {last.name}, container {name}: {now.end or 'started again'}")


def _pod_facts(pod: PodState) -> Json:
    containers = {
        name: {"image": one.image, "image_id": one.image_id, "requests": one.requests, "limits": one.limits}
        for name, one in pod.containers.items()
    }
    return {"name": pod.name, "node": pod.node, "containers": containers}


def service_facts(mark: PodMark) -> dict[str, Json]:
    """Return by workload where its pods are, and what really runs there."""
    found: dict[str, Json] = {}
    for pod in mark.pods.values():
        if not pod.failure:
            found.setdefault(pod.workload, {"role": pod.role, "pods": []})["pods"].append(_pod_facts(pod))
    return dict(sorted(found.items()))


def seen_events(events: Iterable[Json], window: Window, ours: Sequence[str], offset_s: float = 0.0) -> list[str]:
    """Return what events say of the window: warnings, and what autoscalers, evictions and nodes did.

    ``ours`` are names of objects, or beginnings of them, that concern the run; ``offset_s`` is added to our clock.
    """
    found: list[tuple[float, str]] = []
    first, last = window.start_wall_s + offset_s - _SLACK_S, window.end_wall_s + offset_s + _SLACK_S
    for event in events:
        about = event.get("involvedObject") or {}
        if event.get("type") != "Warning" and event.get("reason") not in _TELLING:
            continue
        at_s, name = _event_s(event), str(about.get("name", ""))
        if at_s is not None and first <= at_s <= last and name.startswith(tuple(ours)):
            message = str(event.get("message") or "").strip()
            found.append((at_s, f"{about.get('kind')} {name}: {event.get('reason')}: {message}"))
    return [text for _, text in sorted(found)]


def _event_s(event: Json) -> float | None:
    """Return when an event was seen last, as Unix time."""
    series = event.get("series") or {}
    for text in (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")):
        if text:
            return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    return None
