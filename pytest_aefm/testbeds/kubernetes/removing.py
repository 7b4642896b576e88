"""Remove what a run made, and find what dead runs left: by their labels, each object by its uid, nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import ROLE_LABEL

__all__ = ["Leftover", "current", "find_leftovers", "held_by", "made_by", "remove"]

_POLL_S = 0.2
_AT_ONCE = 8
_AWAY_S = 2.0
"""How long to ask for the kinds of an API: one whose server is away would take all patience, each time."""

_MADE_BY_OTHERS = ("endpoints", "endpointslices", "events")
"""Kinds whose objects carry the labels of what they belong to, and go with it."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that carries the label of a run."""

    run: str
    resource: Resource
    namespace: str | None
    name: str
    uid: str
    role: str = ""

    @property
    def path(self) -> str:
        """The object's path."""
        return self.resource.path(self.namespace, self.name)

    def __str__(self) -> str:
        inside = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource.kind} {self.name}{inside} (run {self.run})"


def find_leftovers(connection: Connection, run: str | None = None, namespace: str | None = None) -> list[Leftover]:
    """Return what runs made and is still there: of one run or of all, in one namespace or in the whole cluster.

    What another object owns is left out, and so is what lies in a namespace that is among them: it goes with that.
    Kinds that may not be listed are passed over.

    Raises:
        ApiError: nobody answers.
    """
    selector = RUN_LABEL if run is None else f"{RUN_LABEL}={run}"

    def listed(resource: Resource) -> list[Leftover]:
        try:
            found = connection.get(resource.path(namespace), labelSelector=selector).get("items") or ()
        except ApiError as error:
            if error.status in (403, 404, 405):
                return []
            raise
        return [_leftover(resource, item["metadata"]) for item in found if not _owned(item)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        usable = [one for one in _resources(connection, pool) if one.namespaced or namespace is None]
        found = [item for items in pool.map(listed, usable) for item in items]
    homes = {item.name for item in found if item.resource.kind == "Namespace"}
    return [item for item in found if item.namespace not in homes]


def made_by(connection: Connection, run: str, namespace: str | None = None) -> list[Leftover]:
    """Return what a run made, wherever it is; where the whole cluster may not be read, what is in ``namespace``.

    Raises:
        ApiError: nobody answers.
    """
    found = find_leftovers(connection, run)
    known = {item.uid for item in found} | {item.name for item in found if item.resource.kind == "Namespace"}
    inside = find_leftovers(connection, run, namespace) if namespace is not None else []
    return found + [item for item in inside if not known & {item.uid, str(item.namespace)}]


def remove(connection: Connection, leftovers: Iterable[Leftover], *, deadline_s: float = 120.0) -> list[str]:
    """Delete objects and wait until they are gone; return of each that is not why.

    Raises:
        ApiError: nobody answers.
    """
    problems: list[str] = []
    waiting: list[Leftover] = []
    for item in leftovers:
        try:
            if connection.delete(item.path, item.uid):
                waiting.append(item)
        except ApiError as error:
            if error.status not in (401, 403, 405):
                raise
            problems.append(f"{item}: {error.what}")
    deadline = time.monotonic() + deadline_s
    while waiting and time.monotonic() < deadline:
        waiting = [item for item in waiting if current(connection, item) is not None]
        time.sleep(_POLL_S if waiting else 0)
    return problems + [f"{item}: {held_by(body)}" for item in waiting if (body := current(connection, item))]


def _resources(connection: Connection, pool: Executor) -> Iterator[Resource]:
    """Yield every kind that can be listed and deleted, in the version that the server prefers."""
    groups = connection.get("/apis")["groups"]

    def asked(version: str) -> Sequence[dict[str, Any]]:
        root = "/apis" if "/" in version else "/api"
        return connection.get(f"{root}/{version}", patience_s=_AWAY_S)["resources"] or ()

    def served(version: str) -> Sequence[dict[str, Any]]:
        try:
            return asked(version)
        except ApiError as error:
            if error.status in (403, 404):
                return ()
        connection.get("/version")  # the cluster's own server is waited for
        try:
            return asked(version)
        except ApiError as error:
            if error.status in (403, 404, 503):  # an aggregated API whose server is away serves nothing of ours
                return ()
            raise

    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    for version, resources in zip(versions, pool.map(served, versions), strict=True):
        for one in resources:
            usable = {"list", "delete"} <= set(one["verbs"]) and "/" not in one["name"]
            if usable and one["name"] not in _MADE_BY_OTHERS:
                yield Resource(version, one["kind"], one["name"], one["namespaced"])


def _owned(item: dict[str, Any]) -> bool:
    return bool(item["metadata"].get("ownerReferences"))


def _leftover(resource: Resource, metadata: dict[str, Any]) -> Leftover:
    labels = metadata["labels"]
    place = (resource, metadata.get("namespace"), metadata["name"], metadata["uid"])
    return Leftover(labels[RUN_LABEL], *place, role=labels.get(ROLE_LABEL, ""))


def current(connection: Connection, item: Leftover) -> dict[str, Any] | None:
    """Return an object as it is now, None where it is gone."""
    try:
        body = connection.get(item.path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    return body if body["metadata"]["uid"] == item.uid else None


def held_by(body: dict[str, Any]) -> str:
    """Say what keeps an object that is to go."""
    held = [*(body["metadata"].get("finalizers") or ()), *((body.get("spec") or {}).get("finalizers") or ())]
    conditions = (body.get("status") or {}).get("conditions") or ()
    said = [one["message"] for one in conditions if one.get("status") == "True" and one.get("message")]
    return f"still there, held by {', '.join(held) or 'nothing that it names'}" + (
        f": {'; '.join(said)}" if said else ""
    )
