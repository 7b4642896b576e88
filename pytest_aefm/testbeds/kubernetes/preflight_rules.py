"""What a namespace and a cluster do to pods: quotas, defaults, network policies, autoscalers, deschedulers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pytest_aefm.testbeds.kubernetes.amounts import amount, in_words
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.preflight_needs import Remark, Wanted

__all__ = [
    "examine_controllers",
    "examine_limits",
    "examine_meshes",
    "examine_policies",
    "examine_quotas",
    "examine_scalers",
]

Json = dict[str, Any]

_MOVERS = ("cluster-autoscaler", "karpenter", "descheduler", "vpa-updater")
_ACCEPT = "pin or pause it for the run, or accept it: what it does is in the report"


def examine_quotas(quotas: Iterable[Json], wanted: Sequence[Wanted]) -> Iterator[Remark]:
    """Say which quotas are too small for the pods that will come, or used up."""
    needed = _totals(wanted)
    for quota in quotas:
        status = quota.get("status") or {}
        hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
        used = status.get("used") or {}
        short = []
        for name, limit in hard.items():
            left, need = amount(limit) - amount(used.get(name, 0)), needed.get(name, 0.0)
            if left < need or (left <= 0 and name in ("pods", "count/pods", "requests.cpu", "limits.cpu", "cpu")):
                asked = f"{in_words(name, need)} needed" if need else "none left"
                short.append(f"{name} {used.get(name, 0)} of {limit} used, {asked}")
        subject = f"ResourceQuota {quota['metadata']['name']}"
        if short:
            yield Remark("bad", subject, "; ".join(short), "a larger quota, fewer replicas, or another namespace")
        else:
            yield Remark("ok", subject, ", ".join(f"{key} {used.get(key, 0)} of {hard[key]} used" for key in hard))


def _totals(wanted: Iterable[Wanted]) -> dict[str, float]:
    """Return what pods need of a quota, by its words."""
    total: dict[str, float] = {}
    for one in wanted:
        asks = {f"requests.{name}": value for name, value in one.requests.items()}
        asks |= {f"limits.{name}": value for name, value in one.limits.items()}
        asks |= {name: one.requests[name] for name in ("cpu", "memory") if name in one.requests}
        for name, value in {**asks, "pods": 1.0, "count/pods": 1.0}.items():
            total[name] = total.get(name, 0.0) + one.count * value
    return total


def examine_limits(ranges: Iterable[Json]) -> Iterator[Remark]:
    """Say what a LimitRange changes or refuses."""
    for one in ranges:
        said = []
        for limit in (one.get("spec") or {}).get("limits") or ():
            for word in ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio"):
                if limit.get(word):
                    values = ", ".join(f"{name} {value}" for name, value in limit[word].items())
                    said.append(f"{word} {values} for each {limit.get('type', 'object').lower()}")
        subject, mend = f"LimitRange {one['metadata']['name']}", "write requests and limits in manifests or pod_spec"
        yield Remark("warn", subject, f"changes or refuses pods: {'; '.join(said)}", mend)


def examine_policies(policies: Sequence[Json]) -> Iterator[Remark]:
    """Name the network policies of a namespace."""
    if policies:
        names = ", ".join(one["metadata"]["name"] for one in policies)
        text = f"{names}: load, traces or names may not get through"
        yield Remark("warn", "network policies", text, "admit them from the load's and to the traces' address, and DNS")


_MESHES = (
    ("Istio", ("istio-injection", "istio.io/rev", "sidecar.istio.io/inject"), ("disabled", "false")),
    ("Linkerd", ("linkerd.io/inject",), ("disabled",)),
    ("Kuma", ("kuma.io/sidecar-injection",), ("disabled", "false")),
    ("Consul", ("consul.hashicorp.com/connect-inject",), ("false",)),
)
"""Service meshes, the labels or annotations that ask for their proxies, and the values that do not."""


def examine_meshes(namespace: Json, manifests: Sequence[Manifest]) -> Iterator[Remark]:
    """Name the service meshes that will put proxies beside services: ``namespace`` asks for them, or pods do."""
    asking = {f"namespace {namespace['metadata']['name']}": namespace["metadata"]} if namespace else {}
    asking |= {item.label: item.pod_template.get("metadata") or {} for item in manifests}
    for mesh, names, off in _MESHES:
        found = []
        for where, metadata in asking.items():
            said = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
            found += [f"{where} ({name}={said[name]})" for name in names if name in said and said[name] not in off]
        if found:
            text = f"{mesh} puts proxies beside services, by {', '.join(found)}: latencies and usage hold theirs, too"
            yield Remark("warn", "service mesh", text, "turn it off there, or accept it: it is in the report")


def examine_scalers(objects: Iterable[Json], manifests: Sequence[Manifest] | None) -> Iterator[Remark]:
    """Name HPA, VPA and KEDA objects on what is under test, those that could do something in the middle of a run.

    ``objects`` are those of the namespace; the manifests' own are looked at, too. Where it is not known what is under
    test, all in the namespace are.
    """
    known = {item.name for item in manifests or ()}
    own = [item.body for item in manifests or () if item.kind in _SCALES]
    for one in {(body["kind"], body["metadata"]["name"]): body for body in [*objects, *own]}.values():
        target, what = _SCALES[one["kind"]](one.get("spec") or {})
        if what is None or (manifests is not None and target not in known):
            continue
        yield Remark("warn", f"{one['kind']} {one['metadata']['name']}", f"{what} {target!r} in mid-run", _ACCEPT)


def _horizontal(spec: Json) -> tuple[str, str | None]:
    least, most = spec.get("minReplicas") or 1, spec.get("maxReplicas")
    target = str((spec.get("scaleTargetRef") or {}).get("name"))
    return target, None if least == most else f"may set from {least} to {most} replicas of"


def _vertical(spec: Json) -> tuple[str, str | None]:
    mode = (spec.get("updatePolicy") or {}).get("updateMode", "Auto")
    target = str((spec.get("targetRef") or {}).get("name"))
    return target, None if mode in ("Off", "Initial") else f"(mode {mode}) may evict or resize pods of"


def _scaled(spec: Json) -> tuple[str, str | None]:
    target = str((spec.get("scaleTargetRef") or {}).get("name"))
    least, most = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return target, None if least == most else f"may set from {least} to {most} replicas of"


_SCALES = {
    "HorizontalPodAutoscaler": _horizontal,
    "VerticalPodAutoscaler": _vertical,
    "ScaledObject": _scaled,
}


def examine_controllers(deployments: Iterable[Json]) -> Iterator[Remark]:
    """Name what adds and removes nodes or moves pods, whoever's they are."""
    for one in deployments:
        spec = ((one.get("spec") or {}).get("template") or {}).get("spec") or {}
        names = [one["metadata"]["name"], *(str(each.get("image", "")) for each in spec.get("containers") or ())]
        found = next((mover for mover in _MOVERS if any(mover in name for name in names)), None)
        if found and (one.get("spec") or {}).get("replicas", 1) != 0:
            where = f"Deployment {one['metadata']['name']} in {one['metadata']['namespace']}"
            yield Remark("warn", found, f"{where}: may move pods or remove nodes in mid-run", _ACCEPT)
