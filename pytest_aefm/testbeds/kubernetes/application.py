"""From an experiment's application to the manifests that are applied: found, or made of a topology, then edited."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from pytest_aefm.apps import find_app
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.topology import Topology, load_topology
from pytest_aefm.model import AppSpec
from pytest_aefm.testbeds.kubernetes.edits import CLUSTER_SCOPED, edit, edits_of
from pytest_aefm.testbeds.kubernetes.manifests import Manifest, load_manifests
from pytest_aefm.testbeds.kubernetes.mesh import MeshOptions, mesh_manifests

__all__ = ["default_namespace", "find_manifests", "find_topology", "prepared"]


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
