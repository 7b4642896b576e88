"""A cluster, looked at before anything is deployed: what would make trials broken or invalid, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pytest_aefm.testbeds.kubernetes.cluster import INFRA, LOAD, TESTBED, cluster_nodes, named
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.owners import owners
from pytest_aefm.testbeds.kubernetes.permissions import PERMISSIONS, Missing, Permission, missing_permissions
from pytest_aefm.testbeds.kubernetes.preflight_needs import Needs, Remark, wanted_pods
from pytest_aefm.testbeds.kubernetes.preflight_nodes import examine_nodes, examine_room
from pytest_aefm.testbeds.kubernetes.preflight_rules import (
    examine_controllers,
    examine_limits,
    examine_meshes,
    examine_policies,
    examine_quotas,
    examine_scalers,
)
from pytest_aefm.testbeds.kubernetes.preflight_sources import examine_sources
from pytest_aefm.testbeds.kubernetes.removing import Leftover, current, find_leftovers, held_by

__all__ = ["Needs", "Remark", "examine_cluster"]

Json = dict[str, Any]

_OLDEST = (1, 28)
_FORBIDDEN = (401, 403)
_RUNS_SHOWN, _OBJECTS_SHOWN = 5, 3


def examine_cluster(connection: Connection, needs: Needs) -> list[Remark]:
    """Look at a cluster; what the account may not read is said once, as a permission, and passed over.

    Raises:
        ApiError: nobody answers.
    """
    found = [_version(connection.get("/version")), *_permissions(connection, needs)]
    found += _nodes(connection, needs)
    found += _namespace(connection, needs)
    found += examine_meshes(_own_namespace(connection, needs), needs.manifests or ())
    found += examine_scalers(_scalers(connection, needs), needs.manifests)
    found += examine_controllers(_list(connection, "/apis/apps/v1/deployments"))
    found += examine_sources(needs)
    found += _leftovers(connection, needs)
    return found


def _version(found: Json) -> Remark:
    text = str(found.get("gitVersion"))
    numbers = tuple(int(re.sub("[^0-9].*", "", str(found.get(key))) or 0) for key in ("major", "minor"))
    if numbers < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return Remark("bad", "server", f"Kubernetes {text} is not supported", f"Kubernetes {oldest} or later")
    return Remark("ok", "server", f"Kubernetes {text}")


# --- permissions -----------------------------------------------------------------------------------------------------


def _permissions(connection: Connection, needs: Needs) -> Iterator[Remark]:
    rows = [row for row in PERMISSIONS if _is_used(row, needs)]
    missing = missing_permissions(connection, rows, needs.namespace, needs.lease_namespace)
    inside = f" --namespace {needs.namespace}" if needs.namespace else ""
    for one in missing:
        mend = f"aefm rbac{inside} | kubectl apply -f -"
        yield Remark(_gravity(one, needs), f"permission to {one}", f"missing: {one.permission.lost}", mend)
    if not missing:
        yield Remark("ok", "permissions", "all that a run does")


def _is_used(row: Permission, needs: Needs) -> bool:
    """Whether a run uses what a row permits; a namespace that is there need not be made."""
    if row.use == "namespace" or (row.use == "kinds" and row.scope == "cluster" and needs.manifests is None):
        return needs.namespace is None
    if row.use == "kinds" and needs.manifests is not None:
        return any(_is_of(item.group, item.kind, row) for item in needs.manifests)
    if row.use == "forward":
        return needs.port_forward
    return True


def _is_of(group: str, kind: str, row: Permission) -> bool:
    """Whether a row is about a kind: ``NetworkPolicy`` is one of ``networkpolicies``."""
    return group == row.group and any(name.startswith(kind.lower()[:-1]) for name in row.resources)


def _gravity(missing: Missing, needs: Needs) -> str:
    """Return how bad it is: a run that needs it cannot go on, another only loses something."""
    use = missing.permission.use
    needed = use in ("always", "namespace", "forward") or (use == "kinds" and needs.manifests is not None)
    return "bad" if needed or (use == "doses" and (needs.interference or needs.load_pods)) else "warn"


# --- nodes -----------------------------------------------------------------------------------------------------------


def _nodes(connection: Connection, needs: Needs) -> Iterator[Remark]:
    try:
        nodes = connection.get("/api/v1/nodes")["items"]
    except ApiError as error:
        if error.status not in _FORBIDDEN:
            raise
        return
    if not needs.nodes and not needs.roles:
        labelled = cluster_nodes(connection)
        roles = {role: named(labelled, role) for role in (TESTBED, INFRA, LOAD)}
        needs = replace(needs, roles={role: names for role, names in roles.items() if names})
    yield from examine_nodes(nodes, needs)
    if needs.manifests is not None:
        pods = _list(connection, "/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
        yield from examine_room(nodes, [pod for pod in pods if not _is_ours(pod, needs)], needs)


def _is_ours(pod: Json, needs: Needs) -> bool:
    """Whether a pod goes before ours come, or is one of them: kept from a run before."""
    return pod["metadata"]["namespace"] == needs.namespace and RUN_LABEL in (pod["metadata"].get("labels") or {})


# --- the namespace ---------------------------------------------------------------------------------------------------


def _namespace(connection: Connection, needs: Needs) -> Iterator[Remark]:
    if needs.namespace is None:
        return
    subject, root = f"namespace {needs.namespace}", f"/api/v1/namespaces/{needs.namespace}"
    try:
        body = connection.get(root)
    except ApiError as error:
        if error.status == 404:
            yield Remark("bad", subject, "is not there", f"kubectl create namespace {needs.namespace}")
        elif error.status not in _FORBIDDEN:
            raise
        return
    if body["metadata"].get("deletionTimestamp"):
        yield Remark("bad", subject, f"is being deleted: {held_by(body)}", f"kubectl get {subject} -o yaml")
        return
    yield Remark("ok", subject, "is there")
    wanted = list(wanted_pods(needs.manifests or (), 1))
    yield from examine_quotas(_list(connection, f"{root}/resourcequotas"), wanted)
    yield from examine_limits(_list(connection, f"{root}/limitranges"))
    yield from examine_policies(
        _list(connection, f"/apis/networking.k8s.io/v1/namespaces/{needs.namespace}/networkpolicies")
    )


def _own_namespace(connection: Connection, needs: Needs) -> Json:
    """Return the namespace that is given; nothing where there is none, or it may not be read."""
    try:
        return connection.get(f"/api/v1/namespaces/{needs.namespace}") if needs.namespace else {}
    except ApiError as error:
        if error.status in (*_FORBIDDEN, 404):
            return {}
        raise


def _scalers(connection: Connection, needs: Needs) -> Iterator[Json]:
    """Yield what scales pods in the namespace, in a version that is served; none where its kinds are not known."""
    if needs.namespace is None:
        return
    kinds = {
        "autoscaling": ("v2", "HorizontalPodAutoscaler"),
        "autoscaling.k8s.io": ("v1", "VerticalPodAutoscaler"),
        "keda.sh": ("v1alpha1", "ScaledObject"),
    }
    for group, (version, kind) in kinds.items():
        path = f"/apis/{group}/{version}/namespaces/{needs.namespace}/{kind.lower()}s"
        yield from ({"kind": kind, **item} for item in _list(connection, path))


def _list(connection: Connection, path: str, **query: Any) -> Sequence[Json]:
    """Return a list; empty where it may not be read, or the kind is not served."""
    try:
        return connection.get(path, **query).get("items") or ()
    except ApiError as error:
        if error.status in (*_FORBIDDEN, 404):
            return ()
        raise


# --- what dead runs left ----------------------------------------------------------------------------------------------


def _leftovers(connection: Connection, needs: Needs) -> Iterator[Remark]:
    """Name what runs left that hold no Lease, and of it what does not go."""
    try:
        holders = {owner.run for owner in owners(connection, needs.namespace and needs.lease_namespace)}
    except ApiError as error:
        if error.status not in _FORBIDDEN:
            raise
        return  # who lives is not known
    by_run: dict[str, list[Leftover]] = {}
    for item in find_leftovers(connection, None, needs.namespace):
        if item.run not in holders and item.run != needs.run:
            by_run.setdefault(item.run, []).append(item)
    for run, items in list(by_run.items())[:_RUNS_SHOWN]:
        more = f" and {len(items) - _OBJECTS_SHOWN} more" if len(items) > _OBJECTS_SHOWN else ""
        text = ", ".join(f"{item.resource.kind} {item.name}" for item in items[:_OBJECTS_SHOWN])
        inside = f" --namespace {needs.namespace}" if needs.namespace else ""
        yield Remark("warn", f"left by run {run}", text + more, f"aefm clean --run {run}{inside}")
        yield from _stuck(connection, items)
    if len(by_run) > _RUNS_SHOWN:
        yield Remark("warn", "left by other runs", f"{len(by_run) - _RUNS_SHOWN} more", "aefm clean --dry-run")
    if not by_run:
        yield Remark("ok", "leftovers", "none")


def _stuck(connection: Connection, items: Sequence[Leftover]) -> Iterator[Remark]:
    for item in items:
        if item.resource.kind == "Namespace":
            body = current(connection, item)
            if body is not None and body["metadata"].get("deletionTimestamp"):
                mend = f"end what holds it: kubectl get namespace {item.name} -o yaml"
                yield Remark("warn", f"namespace {item.name}", f"is being deleted: {held_by(body)}", mend)
