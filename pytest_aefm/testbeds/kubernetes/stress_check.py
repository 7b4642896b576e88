"""Whether a node may be disturbed, and can hold the dose: not the control plane, nobody else's pods, room enough."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pytest_aefm.errors import InterferenceError, did_you_mean
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.amounts import amount, in_words, pod_asks
from pytest_aefm.testbeds.kubernetes.cluster import not_ready
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.health import has_ended
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.stress_pods import CONTROL_PLANE, demand

__all__ = ["foreign_pods", "misfit", "refuse_nodes"]

EVICTION_BYTES = 100 * 2**20
"""What the kubelet keeps available by default: it evicts pods when less is left."""

_OTHERS = "--aefm-allow-shared"

Json = dict[str, Any]


def refuse_nodes(
    connection: Connection,
    specs: Sequence[InterferenceSpec],
    nodes: Sequence[str],
    *,
    namespace: str,
    run: str,
    allow_shared: bool,
) -> None:
    """Refuse nodes that must not be disturbed, and a dose that does not fit.

    Where nodes and their pods may not be read nothing is known of either, and only ``allow_shared`` helps.

    Raises:
        InterferenceError: says which node, and why.
    """
    listed = _read(connection, "/api/v1/nodes", allow_shared)
    if listed is None:
        return
    found = {item["metadata"]["name"]: item for item in listed}
    for name in nodes:
        subject = f"interference on node {name!r}"
        if name not in found:
            hint = did_you_mean(name, found) or f"there are: {', '.join(sorted(found))}"
            raise InterferenceError(subject, f"not in {connection.name}", None, hint)
        if any(label in (found[name]["metadata"].get("labels") or {}) for label in CONTROL_PLANE):
            raise InterferenceError(subject, "it is of the control plane, which is never disturbed", "another node")
        if (trouble := not_ready(found[name])) != []:
            raise InterferenceError(subject, trouble[0], "a node that is Ready")
        pods = _read(connection, "/api/v1/pods", allow_shared, fieldSelector=f"spec.nodeName={name}")
        if pods is None:
            continue
        others = list(foreign_pods(pods, namespace, run))
        if others and not allow_shared:
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise InterferenceError(subject, f"pods of others run there: {shown}", None, f"{_OTHERS} disturbs them")
        if (told := misfit(specs, found[name], pods, run)) != "":
            raise InterferenceError(subject, told, None, "lower its level, its cpu_size or its mem_size")


def _read(connection: Connection, path: str, allow_shared: bool, **query: Any) -> list[Json] | None:
    """Return a list's items; None where they may not be read, and ``allow_shared`` goes without.

    Raises:
        InterferenceError: they may not be read, and without them nobody knows who else runs there.
    """
    try:
        items: list[Json] = connection.get(path, **query)["items"]
    except ApiError as error:
        if error.status not in (401, 403):
            raise
        if allow_shared:
            return None
        what = f"nodes and their pods may not be read, so that nobody knows who else runs there: {error.what}"
        raise InterferenceError("interference", what, None, f"{_OTHERS} goes without") from error
    return items


def foreign_pods(pods: Iterable[Json], namespace: str, run: str) -> Iterator[str]:
    """Yield the pods of a node that are neither ours nor of the cluster itself: DaemonSets and kube-system."""
    for pod in pods:
        metadata = pod["metadata"]
        owners = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
        ours = metadata["namespace"] == namespace or (metadata.get("labels") or {}).get(RUN_LABEL) == run
        if not (ours or has_ended(pod) or metadata["namespace"] == "kube-system" or owners & {"DaemonSet", "Node"}):
            yield f"{metadata['namespace']}/{metadata['name']}"


def misfit(specs: Sequence[InterferenceSpec], node: Json, pods: Iterable[Json], run: str) -> str:
    """Say why a dose does not fit on a node beside its pods, empty if it does; our own stressors make room."""
    room = {name: amount(value) for name, value in node["status"]["allocatable"].items()}
    room["memory"] = room.get("memory", 0.0) - EVICTION_BYTES
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        ours = labels.get(RUN_LABEL) == run and labels.get(ROLE_LABEL) == INTERFERENCE
        if ours or has_ended(pod):
            continue
        for name, value in {**pod_asks(pod["spec"]), "pods": 1.0}.items():
            room[name] = room.get(name, 0.0) - value
    cores, memory, number = demand(specs)
    for name, wanted in (("cpu", cores), ("memory", float(memory)), ("pods", float(number))):
        if wanted > room.get(name, 0.0) + 1e-6:
            left = in_words(name, max(0.0, room.get(name, 0.0)))
            what = "pods" if name == "pods" else f"of {name}" if name == "memory" else ""
            return f"the dose does not fit: {in_words(name, wanted)} {what}".rstrip() + (
                f" are asked for, and its other pods' requests leave {left}"
            )
    return ""
