"""The nodes of a cluster: their roles in an experiment, what is known of them, and whether they are in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_aefm.errors import DeploymentError, did_you_mean
from pytest_aefm.testbeds import Node
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection

__all__ = ["INFRA", "LOAD", "NODE_LABEL", "TESTBED", "cluster_nodes", "named", "on_this_machine", "unready"]

TESTBED, INFRA, LOAD = "testbed", "infra", "load"
"""Roles of nodes: services under test and interference, what they need, load from inside."""

NODE_LABEL = "aefm.dev/testbed"
"""Names the role of a node where the experiment names none: ``true``, ``infra`` or ``load``."""

_LABELLED = {"true": TESTBED, "infra": INFRA, "load": LOAD}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Json = dict[str, Any]


def cluster_nodes(connection: Connection, experiment_nodes: Mapping[str, Sequence[str]] = {}) -> tuple[Node, ...]:
    """Return the nodes with roles: those that the experiment names with theirs, else those that carry our label.

    Where there are neither all that take pods come, without roles: the scheduler chooses. Where nodes may not be read
    the experiment's come without facts.

    Raises:
        DeploymentError: the experiment names one that is not there.
        ApiError: nobody answers.
    """
    try:
        items = {item["metadata"]["name"]: item for item in connection.get("/api/v1/nodes")["items"]}
    except ApiError as error:
        if error.status not in (401, 403):
            raise
        return tuple(Node(name, tuple(roles)) for name, roles in experiment_nodes.items())
    for name in experiment_nodes:
        if name not in items:
            hint = did_you_mean(name, items) or f"there are: {', '.join(sorted(items))}"
            raise DeploymentError(f"node {name!r}", f"is not in {connection.name}", None, hint)
    if experiment_nodes:
        return tuple(Node(name, tuple(roles), facts(items[name])) for name, roles in experiment_nodes.items())
    labels = {name: (item["metadata"].get("labels") or {}).get(NODE_LABEL, "") for name, item in items.items()}
    roles = {name: _LABELLED[label] for name, label in labels.items() if label in _LABELLED}
    if roles:
        return tuple(Node(name, (role,), facts(items[name])) for name, role in roles.items())
    return tuple(Node(name, (), facts(item)) for name, item in items.items() if not _is_closed(item))


def facts(item: Json) -> Json:
    """Return what a report should say of a node."""
    status, spec = item.get("status") or {}, item.get("spec") or {}
    info, allocatable = status.get("nodeInfo") or {}, status.get("allocatable") or {}
    condition = next(_conditions(item, "Ready"), {})
    found = {
        "address": _address(status.get("addresses") or ()),
        "kernel": info.get("kernelVersion"),
        "os": info.get("osImage"),
        "kubelet": info.get("kubeletVersion"),
        "runtime": info.get("containerRuntimeVersion"),
        "architecture": info.get("architecture"),
        "cpu": (status.get("capacity") or {}).get("cpu"),
        "memory": (status.get("capacity") or {}).get("memory"),
        "allocatable": {name: allocatable[name] for name in ("cpu", "memory") if name in allocatable},
        "boot_id": info.get("bootID"),
        "ready": condition.get("status") == "True",
        "taints": [f"{one['key']}:{one['effect']}" for one in spec.get("taints") or ()],
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def named(nodes: Iterable[Node], role: str) -> tuple[str, ...]:
    """Return the names of the nodes of a role."""
    return tuple(node.name for node in nodes if role in node.roles)


def on_this_machine(nodes: Iterable[Node], boot_id: str | None = None) -> tuple[str, ...]:
    """Return the nodes that run on this very machine: they were booted with it."""
    own = boot_id or _own_boot_id()
    return tuple(node.name for node in nodes if own and node.facts.get("boot_id") == own)


def unready(connection: Connection, names: Iterable[str]) -> list[str]:
    """Say of each of these nodes that is not Ready since when, and what its condition says.

    Raises:
        ApiError: nobody answers; a node that may not be read is passed over.
    """
    found: list[str] = []
    for name in names:
        try:
            item = connection.get(f"/api/v1/nodes/{name}")
        except ApiError as error:
            if error.status not in (401, 403):
                raise
            continue
        found += not_ready(item)
    return found


def not_ready(item: Json) -> list[str]:
    """Say that a node is not Ready, if so."""
    name = item["metadata"]["name"]
    if (item.get("spec") or {}).get("unschedulable"):
        return [f"node {name} takes no pods (cordoned)"]
    ready = next(_conditions(item, "Ready"), {"status": "missing"})
    if ready["status"] == "True":
        return []
    why = ": ".join(str(ready[key]) for key in ("reason", "message") if ready.get(key))
    return [
        f"node {name} is NotReady since {ready.get('lastTransitionTime', 'its start')}" + (f" ({why})" if why else "")
    ]


def _is_closed(item: Json) -> bool:
    taints = (item.get("spec") or {}).get("taints") or ()
    return any(one.get("effect") in ("NoSchedule", "NoExecute") for one in taints)


def _conditions(item: Json, kind: str) -> Iterator[Json]:
    return (one for one in (item.get("status") or {}).get("conditions") or () if one.get("type") == kind)


def _address(addresses: Iterable[Json]) -> str | None:
    by_type = {one["type"]: one["address"] for one in addresses}
    return by_type.get("ExternalIP") or by_type.get("InternalIP")


def _own_boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
