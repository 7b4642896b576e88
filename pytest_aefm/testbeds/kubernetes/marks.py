"""All counters of a run on a cluster at the edges of a window, and what two readings of them say of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.model import CheckResult, Window
from pytest_aefm.testbeds import Node
from pytest_aefm.testbeds.kubernetes.admitted import admission_check
from pytest_aefm.testbeds.kubernetes.cluster import on_this_machine, unready
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.disturbances import DisturbanceReading, Disturbances
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.observing import PodMark, seen_events, toll
from pytest_aefm.testbeds.kubernetes.run_pods import list_pods, pod_mark
from pytest_aefm.testbeds.kubernetes.service_admission import admission
from pytest_aefm.testbeds.local_counters import CpuTicks, read_ticks
from pytest_aefm.testbeds.local_marks import steal_check

__all__ = ["Mark", "Scene", "observations", "take_mark"]

_LATE_S, _LATE_SHARE = 1.0, 0.1
"""How late pods may be read at an edge of the window, in seconds or as a share of it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """All counters at one moment; ``read_s`` is when the pods had been read."""

    read_s: float
    pods: PodMark
    disturbance: DisturbanceReading
    steal: CpuTicks


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a window took place.

    ``cpus`` are those of this machine that drove the load, none if the cluster did; ``forwarded`` where every request
    went through a port-forward, which is warned of where it is ``admitted``, and else makes the trial invalid.
    """

    connection: Connection
    namespace: str
    run: str
    nodes: Sequence[Node]
    manifests: Sequence[Manifest]
    cpus: frozenset[int]
    forwarded: bool
    facts: Mapping[str, Any]
    admitted: bool = False


def take_mark(scene: Scene, disturbances: Disturbances) -> Mark:
    """Read all counters now: one request for all pods, and what disturbs beside pods.

    Raises:
        ApiError: nobody answers.
    """
    steal = read_ticks(scene.cpus)
    listed = list_pods(scene.connection, scene.namespace, scene.run)
    read_s = time.monotonic()
    return Mark(read_s, pod_mark(listed), disturbances.read(listed), steal)


def observations(
    scene: Scene, before: Mark, after: Mark, window: Window, disturbances: Disturbances, lost: str | None
) -> Observations:
    """Return restarts, doses with proof and effect, and self-checks; ``lost`` says why the cluster is ours no more.

    Raises:
        ApiError: nobody answers.
    """
    metrics, services = toll(before.pods, after.pods)
    doses, effect = disturbances.prove(before.disturbance, after.disturbance, window)
    marks = {
        "start_late_s": round(before.read_s - window.start_mono_s, 4),
        "end_late_s": round(after.read_s - window.end_mono_s, 4),
    }
    told, unread = _events(scene, services, window)
    details = {"services": services, "marks": marks, "events": told, **({"unread": unread} if unread else {})}
    return Observations(
        metrics=metrics,
        checks=tuple(_checks(scene, before, after, window, disturbances, lost)),
        doses=doses,
        effect=effect,
        details={**details, **scene.facts},
    )


def _checks(
    scene: Scene, before: Mark, after: Mark, window: Window, disturbances: Disturbances, lost: str | None
) -> Iterator[CheckResult]:
    if scene.cpus:
        yield steal_check(before.steal, after.steal)
        here = on_this_machine(scene.nodes)
        if here:
            message = f"the generator shares this machine with the cluster's {', '.join(here)}"
            yield CheckResult("cores of its own", False, message=message, warning=True)
    limit_s = max(_LATE_S, _LATE_SHARE * window.duration_s)
    late_s = round(max(before.read_s - window.start_mono_s, after.read_s - window.end_mono_s), 3)
    message = f"pods were read {late_s:.1f} s after an edge of the window, limit {limit_s:.1f} s"
    yield CheckResult("pods read in time", late_s <= limit_s, late_s, limit_s, "s", message)
    if scene.forwarded:
        message = "the load went through a port-forward, and so through the API server and a kubelet"
        yield CheckResult("entry path", False, message=message, warning=scene.admitted)
    used = {node.name for node in scene.nodes if node.roles} | {
        pod.node for pod in after.pods.pods.values() if pod.node
    }
    wrong = unready(scene.connection, sorted(used))
    yield CheckResult("nodes", not wrong, message="; ".join(wrong) or f"{len(used)} are Ready")
    if not before.disturbance.stress.pods and (unasked := {*before.pods.disturbing, *after.pods.disturbing}):
        message = f"pods that nobody asked for disturbed the services: {', '.join(sorted(unasked))}"
        yield CheckResult("no interference", False, message=message)
    if lost is not None:
        yield CheckResult("cluster of its own", False, message=f"the lease of {scene.connection.name} is lost: {lost}")
    yield from admission(scene.manifests, after.pods)
    yield from admission_check("interference", disturbances.altered)


def _events(scene: Scene, services: Iterable[str], window: Window) -> tuple[list[str], list[str]]:
    """Return what events of the run and of its nodes say, and which of them may not be read."""
    names = [node.name for node in scene.nodes]
    wanted: tuple[tuple[str, dict[str, Any], list[str]], ...] = (
        (f"/api/v1/namespaces/{scene.namespace}/events", {}, [*services]),
        ("/api/v1/namespaces/default/events", {"fieldSelector": "involvedObject.kind=Node"}, names),
    )
    told: list[str] = []
    unread: list[str] = []
    for path, query, ours in wanted:
        try:
            told += seen_events(scene.connection.get(path, **query)["items"], window, ours) if ours else []
        except ApiError as error:
            if error.status not in (401, 403):
                raise
            unread.append(error.what)
    return told, unread
