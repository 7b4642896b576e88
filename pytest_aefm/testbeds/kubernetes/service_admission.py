"""What a cluster made of an application's pods at admission: other requests and limits, more containers. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pytest_aefm.model import CheckResult
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.observing import PodMark

__all__ = ["admission"]

Json = dict[str, Any]


def admission(manifests: Iterable[Manifest], mark: PodMark) -> Iterator[CheckResult]:
    """Name what the cluster changed when it admitted pods: requests, limits, containers beside those of a service."""
    wanted = {(item.name, name): resources for item in manifests for name, resources in _asked(item)}
    changed = set()
    for pod in mark.pods.values():
        for name, one in pod.containers.items():
            asked = wanted.get((pod.workload, name))
            if asked is None:
                continue
            for kind, admitted in (("requests", one.requests), ("limits", one.limits)):
                if _canonical(asked.get(kind) or {}) != _canonical(admitted) and not _defaulted(asked, kind, admitted):
                    changed.add(f"{pod.workload}: {kind} {_spelled(asked.get(kind) or {})} became {_spelled(admitted)}")
    if changed:
        yield CheckResult("admission", False, message=f"the cluster changed {'; '.join(sorted(changed))}", warning=True)
    added = {f"{name} beside {workload}" for workload, name in _added(wanted.keys(), mark)}
    if added:
        message = f"the cluster runs {', '.join(sorted(added))}: latencies and usage hold theirs, too"
        yield CheckResult("sidecars", False, message=message, warning=True)


def _added(wanted: Collection[tuple[str, str]], mark: PodMark) -> Iterator[tuple[str, str]]:
    """Yield the containers, each with its workload, that no manifest has."""
    known = {workload for workload, _ in wanted}
    for pod in mark.pods.values():
        if pod.workload in known:
            yield from ((pod.workload, name) for name in pod.containers if (pod.workload, name) not in wanted)


def _asked(item: Manifest) -> Iterator[tuple[str, Json]]:
    spec = item.pod_template.get("spec") or {}
    for one in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        yield one["name"], one.get("resources") or {}


def _canonical(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return resources as the API server spells them: 0.5 is 500m."""
    return {name: _quantity(str(value)) for name, value in resources.items()}


def _quantity(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if value.is_integer() else f"{round(value * 1000)}m"


def _defaulted(asked: Json, kind: str, admitted: Mapping[str, str]) -> bool:
    """Whether requests are the limits, as Kubernetes has it where none are given."""
    return kind == "requests" and not asked.get("requests") and _canonical(asked.get("limits") or {}) == dict(admitted)


def _spelled(resources: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(resources.items())) or "none"
