"""Manifests to a cluster: applied on the server's side in our name, never forced, never onto what is not ours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import Manifest

__all__ = ["MANAGER", "Applied", "apply_all", "ensure_namespace"]

MANAGER = "pytest-aefm"

_FIRST = (
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "PersistentVolume",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ClusterRoleBinding",
    "RoleBinding",
    "ResourceQuota",
    "LimitRange",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "Service",
)
"""What others need goes first, in this order; all other kinds follow as they are written."""

_DEFINITION_S = 15.0
_GOING_S = 60.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Applied:
    """A manifest, and the object that the cluster now has for it."""

    manifest: Manifest
    resource: Resource
    body: dict[str, Any]

    @property
    def uid(self) -> str:
        """What tells it from any other object that ever has its name."""
        return str(self.body["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """The version of its wish; 0 for kinds that have none."""
        return int(self.body["metadata"].get("generation", 0))

    @property
    def path(self) -> str:
        """The object's path."""
        return self.resource.path(self.manifest.namespace, self.manifest.name)


def ensure_namespace(connection: Connection, name: str, labels: dict[str, str]) -> bool:
    """Make sure that a namespace is there; return whether it is ours, made by this run or an earlier call.

    Raises:
        DeploymentError: it is on its way out.
        ApiError: it can neither be read nor made.
    """
    path = f"/api/v1/namespaces/{name}"
    try:
        found = connection.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        found = connection.apply(path, body, MANAGER)
    if found["metadata"].get("deletionTimestamp"):
        hint = f"see what holds it: kubectl get namespace {name} -o yaml"
        raise DeploymentError(f"namespace {name!r}", "is being deleted", None, hint)
    return bool((found["metadata"].get("labels") or {}).get(RUN_LABEL) == labels[RUN_LABEL])


def apply_all(connection: Connection, manifests: Sequence[Manifest], *, ours: bool = False) -> tuple[Applied, ...]:
    """Apply manifests, those that others need first.

    ``ours``: their namespace is the run's own, so that nothing of anybody else's can be in it.

    Raises:
        DeploymentError: an object is there that no run of ours made, a field belongs to somebody else, who is named,
            or the server refuses an object.
    """
    order = {kind: place for place, kind in enumerate(_FIRST)}
    ordered = sorted(manifests, key=lambda item: order.get(item.kind, len(order)))
    defined = any(item.kind == "CustomResourceDefinition" for item in manifests)
    applied = []
    for item in ordered:
        resource = _resource(connection, item, _DEFINITION_S if defined else 0.0)
        path = resource.path(item.namespace, item.name)
        if not (ours and resource.namespaced):
            _refuse_foreign(connection, item, path)
        applied.append(Applied(item, resource, _apply_anew(connection, item, path)))
    return tuple(applied)


def _resource(connection: Connection, item: Manifest, patience_s: float) -> Resource:
    """Return how a kind is served; one that was defined just now takes a moment."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return connection.resource(item.api_version, item.kind)
        except ApiError as error:
            if error.status != 404 or time.monotonic() >= deadline:
                raise item.error((), str(error)) from None if error.status == 404 else error
            time.sleep(_POLL_S)


def _refuse_foreign(connection: Connection, item: Manifest, path: str) -> None:
    try:
        found = connection.get(path)
    except ApiError as error:
        if error.status == 404:
            return
        raise
    if RUN_LABEL not in (found["metadata"].get("labels") or {}):
        where = f"in namespace {item.namespace!r}" if item.namespace else "in the cluster"
        what = f"is {where} already, and no run of ours made it"
        raise DeploymentError(f"{item.place}: {item.label}", what, None, "rename one of them, or choose a namespace")


def _apply_anew(connection: Connection, item: Manifest, path: str) -> dict[str, Any]:
    """Apply an object; one that is on its way out takes what is applied with it, and is waited for.

    Raises:
        DeploymentError: it does not go.
    """
    deadline = time.monotonic() + _GOING_S
    while True:
        body = _apply(connection, item, path)
        if "deletionTimestamp" not in body["metadata"]:
            return body
        while (held := _held(connection, path, body["metadata"]["uid"])) is not None:
            if time.monotonic() >= deadline:
                what = f"is being deleted, and not gone after {_GOING_S:g} s"
                raise DeploymentError(f"{item.place}: {item.label}", f"{what}; held by {', '.join(held)}")
            time.sleep(_POLL_S)


def _held(connection: Connection, path: str, uid: str) -> list[str] | None:
    """Return the finalizers of an object, None where it is gone."""
    try:
        metadata = connection.get(path)["metadata"]
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return list(metadata.get("finalizers") or ()) if metadata["uid"] == uid else None


def _apply(connection: Connection, item: Manifest, path: str) -> dict[str, Any]:
    try:
        return connection.apply(path, item.body, MANAGER)
    except ApiError as error:
        subject = f"{item.place}: {item.label}"
        if error.status == 409:
            raise DeploymentError(subject, _conflict(error), None, "let one of them manage it") from error
        if 400 <= error.status <= 500:
            raise DeploymentError(subject, f"refused by {connection.name}: {error.what}", None, None) from error
        raise


def _conflict(error: ApiError) -> str:
    """Say which fields belong to whom."""
    causes: Iterable[dict[str, Any]] = (error.body.get("details") or {}).get("causes") or ()
    fields = [f"{one.get('field', '?')} ({one.get('message', '')})" for one in causes]
    return f"somebody else manages {', '.join(fields)}" if fields else error.what
