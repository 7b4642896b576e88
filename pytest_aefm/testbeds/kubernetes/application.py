"""From an experiment's application to the manifests that are applied: found, or made of a topology, then edited."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_aefm.apps import find_app, known_apps
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.model import SmokeRequest
from pytest_aefm.mesh.topology import Topology, load_topology
from pytest_aefm.model import AppSpec
from pytest_aefm.testbeds.kubernetes.edits import CLUSTER_SCOPED, edit, edits_of
from pytest_aefm.testbeds.kubernetes.manifests import Manifest, load_manifests
from pytest_aefm.testbeds.kubernetes.mesh import MeshOptions, mesh_manifests

__all__ = ["Wanted", "default_namespace", "find_manifests", "find_topology", "prepared", "wanted_app"]

_NODE_PORTS = range(30_000, 32_768)


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed: its manifests, the Service that users reach, requests that must be answered there.

    ``mesh`` says that its services are ours, and can be asked for what they have in flight.
    """

    manifests: tuple[Manifest, ...]
    entry: str
    smoke: tuple[SmokeRequest, ...]
    mesh: bool
    description: str = ""

    @property
    def selector(self) -> dict[str, str]:
        """The labels of the pods behind the entry."""
        services = (item.body for item in self.manifests if item.kind == "Service" and item.name == self.entry)
        return {name: str(value) for body in services for name, value in (body["spec"].get("selector") or {}).items()}


def wanted_app(
    app: AppSpec,
    *,
    image: str | None,
    namespace: str,
    run: str,
    nodes: Iterable[tuple[str, Collection[str]]],
    iterations_per_us: Callable[[], float],
    otlp: str | None = None,
) -> Wanted:
    """Return what an experiment's application is on a cluster; its files are named by whole paths.

    ``image`` wins over the experiment's own; ``iterations_per_us`` is asked for by topologies alone, and theirs is
    ``otlp``, the URL that takes traces.

    Raises:
        ConfigurationError: files are missing, edits do not fit, the image or the entry is not known.
    """
    app = replace(app, image=image or app.image)
    manifests = find_manifests(app, [Path()])
    if manifests is not None:
        smoke = load_topology(find_app(app.name).topology_path).smoke if app.name in known_apps() else ()
        edited = prepared(app, manifests, namespace=namespace, run=run, nodes=nodes)
        return Wanted(edited, _entry(app, edited), smoke, mesh=False)
    topology = find_topology(app, [Path()])
    if app.image is None:
        what = "the image of its services is not known"
        raise ConfigurationError(f"app {app.name!r}", what, None, "name it with --aefm-app-image, or as app_img")
    port = app.port if app.port in _NODE_PORTS else None
    mesh = MeshOptions(app.image, iterations_per_us(), otlp_endpoint=otlp, node_port=port)
    edited = prepared(app, None, topology=topology, mesh=mesh, namespace=namespace, run=run, nodes=nodes)
    return Wanted(edited, topology.entry, topology.smoke, True, topology.description)


def _entry(app: AppSpec, manifests: Sequence[Manifest]) -> str:
    """Find the Service that is reached from outside: the one with the experiment's port, else the only one.

    Raises:
        ConfigurationError: there is none, or there are several.
    """
    services = [item for item in manifests if item.kind == "Service" and item.group == ""]
    by_port = [item for item in services if app.port is not None and app.port in _ports(item)]
    outside = [item for item in services if item.body["spec"].get("type") in ("NodePort", "LoadBalancer")]
    for found in (by_port, [item for item in by_port if item in outside], outside):
        if len(found) == 1:
            return found[0].name
    what = f"{len(outside)} of its Services are reached from outside"
    hint = "say by 'port' which one, or make it a NodePort"
    raise ConfigurationError(f"app {app.name!r}: entry", what, "one Service of type NodePort or LoadBalancer", hint)


def _ports(service: Manifest) -> set[Any]:
    ports = service.body["spec"].get("ports") or ()
    return {one.get(key) for one in ports for key in ("port", "nodePort")}


def default_namespace(app: str, run: str) -> str:
    """Return the namespace of a run that names none: ``aefm-hotel-20261122-1``, at most 63 characters."""
    plain = re.sub("[^a-z0-9]+", "-", f"aefm-{app}-{run}".lower())
    return plain[:63].strip("-")


def find_manifests(app: AppSpec, folders: Iterable[Path]) -> tuple[Manifest, ...] | None:
    """Read the manifests that an application names, looked up in ``folders``; None where it names none.

    Raises:
        ConfigurationError: they are not there, or cannot be read.
    """
    if app.manifests is None:
        return None
    candidates = list(dict.fromkeys(folder / app.manifests for folder in folders))
    for candidate in candidates:
        if candidate.exists():
            return load_manifests(candidate)
    looked = ", ".join(str(candidate) for candidate in candidates)
    what = f"manifests {app.manifests!r} not found"
    raise ConfigurationError(f"app {app.name!r}: yaml_repo", what, f"a folder or file at one of {looked}")


def find_topology(app: AppSpec, folders: Iterable[Path]) -> Topology:
    """Read the topology of an application: its own file, looked up in ``folders``, or one that comes along.

    Raises:
        ConfigurationError: there is none.
    """
    written = app.topology or (app.name if app.name.endswith((".yaml", ".yml")) else None)
    if written is None:
        return load_topology(find_app(app.name).topology_path)
    candidates = list(dict.fromkeys(folder / written for folder in folders)) or [Path(written)]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        looked = ", ".join(str(candidate) for candidate in candidates)
        raise ConfigurationError(f"app {app.name!r}", "topology file not found", f"a file at one of {looked}")
    return load_topology(found)


def prepared(
    app: AppSpec,
    manifests: tuple[Manifest, ...] | None,
    *,
    topology: Topology | None = None,
    mesh: MeshOptions | None = None,
    namespace: str,
    run: str,
    nodes: Iterable[tuple[str, Collection[str]]] = (),
    cluster_scoped: Collection[tuple[str, str]] = CLUSTER_SCOPED,
) -> tuple[Manifest, ...]:
    """Return what is applied: ``manifests``, or those of ``topology``, with the experiment's edits.

    Raises:
        ConfigurationError: an edit does not fit, with file, document and field.
    """
    if manifests is None:
        assert topology is not None, "an application without manifests has a topology"
        assert mesh is not None, "a topology needs to be told how it is served"
        manifests = mesh_manifests(topology, mesh)
    return edit(manifests, edits_of(app, namespace, run, nodes), cluster_scoped)
