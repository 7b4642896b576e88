"""Objects of Chaos Mesh on a real API server: its definitions are there, its controller is a stand-in of ours.

Whether Chaos Mesh does what it is told is not tested here: its images cannot be pulled.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.chaos import ChaosStressors
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource, connect
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from tests.cluster.conftest import TestCluster
from tests.cluster.project import Project, wait_for
from tests.noise import NOISE

GROUP, CHAOS = "chaos-mesh.org", Resource("chaos-mesh.org/v1alpha1", "NetworkChaos", "networkchaos", True)
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
DELAY = """
apiVersion: chaos-mesh.org/v1alpha1
kind: NetworkChaos
metadata: {name: slow}
spec: {action: delay, mode: all, selector: {labelSelectors: {app: back}}, delay: {latency: "${level}0ms"}}
"""


def definition(kind: str) -> dict[str, Any]:
    """Return the definition of a kind as Chaos Mesh names it, without its schema."""
    plural = kind.lower()
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    names = {"kind": kind, "plural": plural, "singular": plural, "listKind": f"{kind}List"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    metadata = {"name": f"{plural}.{GROUP}"}
    return {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind, "metadata": metadata, "spec": spec}


class Controller(threading.Thread):
    """Says of every object that it is injected, and lets it go when it is deleted, as Chaos Mesh's controller does."""

    def __init__(self, cluster: TestCluster) -> None:
        super().__init__(daemon=True)
        self._connection, self._end = connect(cluster.kubeconfig), threading.Event()

    def run(self) -> None:
        """Look ten times a second."""
        while not self._end.wait(0.1):
            with contextlib.suppress(ApiError):
                for item in self._connection.get(CHAOS.path())["items"]:
                    self._serve(item)

    def stop(self) -> None:
        """End it."""
        self._end.set()
        self.join()
        self._connection.close()

    def _serve(self, item: dict[str, Any]) -> None:
        metadata = item["metadata"]
        path = CHAOS.path(metadata["namespace"], metadata["name"])
        if "deletionTimestamp" in metadata:
            held = [one for one in metadata.get("finalizers") or () if one != "chaos-mesh/records"]
            self._connection.patch(path, {"metadata": {"finalizers": held or None}})
        elif "status" not in item:
            conditions = [{"type": "Selected", "status": "True"}, {"type": "AllInjected", "status": "True"}]
            records = [{"id": "back-1", "injectedCount": 1, "recoveredCount": 0}]
            status = {"conditions": conditions, "experiment": {"containerRecords": records}}
            self._connection.patch(path, {"metadata": {"finalizers": ["chaos-mesh/records"]}, "status": status})


@pytest.fixture
def chaos_mesh(cluster: TestCluster, connection: Connection) -> Iterator[None]:
    """Have its definitions on the cluster, and a controller."""
    made = [connection.create(DEFINITIONS.path(), definition(kind)) for kind in ("NetworkChaos", "StressChaos")]
    controller = Controller(cluster)
    controller.start()

    def served() -> bool:
        with contextlib.suppress(ApiError):
            return bool(connection.get(CHAOS.path())["kind"])
        return False

    def defined() -> bool:
        listed = connection.get(DEFINITIONS.path())["items"]
        return any(item["spec"]["group"] == GROUP for item in listed)

    try:
        wait_for("no definitions", served, 20)
        yield
    finally:
        for one in made:
            connection.delete(DEFINITIONS.path(name=one["metadata"]["name"]), one["metadata"]["uid"])
        wait_for("definitions stay", lambda: not defined(), 60)  # the server says 404 of their objects earlier
        controller.stop()


def levels(connection: Connection, namespace: str) -> list[str]:
    """Return how slow the objects of a namespace make things."""
    try:
        return [item["spec"]["delay"]["latency"] for item in connection.get(CHAOS.path(namespace))["items"]]
    except ApiError:
        return []


def chaos(level: int) -> tuple[InterferenceSpec, ...]:
    """Return a disturbance of a level."""
    return (InterferenceSpec("chaos", level, manifest=DELAY),)


def test_a_cluster_without_it_is_refused(project: Project, connection: Connection) -> None:
    """Before anything is deployed, with what is missing."""
    project.write(chaos=[1], interference={"chaos": {"manifest": DELAY}})
    status, _ = project.run()
    (trial,) = project.report()["trials"]
    assert (1, "broken") == (status, trial["verdict"])
    assert "does not serve NetworkChaos of chaos-mesh.org/v1alpha1; install Chaos Mesh there" in trial["reason"]
    assert [] == find_leftovers(connection, project.report()["run"]["id"])


@pytest.mark.usefixtures("chaos_mesh")
def test_it_is_made_changed_and_removed(connection: Connection, namespace: str, run_id: str) -> None:
    """One object of each level in turn, labelled and bounded; another level takes its place; then there is none."""
    dead_man = DeadMan(connection)
    stressors = ChaosStressors(connection, dead_man, namespace=namespace, run=run_id)
    try:
        stressors.converge(chaos(1))
        (item,) = connection.get(CHAOS.path(namespace), labelSelector=f"aefm.dev/run={run_id}")["items"]
        made = item["spec"]
        assert ("10ms", "4h", [namespace]) == (
            made["delay"]["latency"],
            made["duration"],
            made["selector"]["namespaces"],
        )
        (dose,) = stressors.prove(stressors.read(), stressors.read())
        assert dose.ok, dose.message
        stressors.converge(chaos(2))
        assert ["20ms"] == levels(connection, namespace)
        stressors.converge(())
        assert [] == levels(connection, namespace)
    finally:
        assert [] == stressors.stop()
        dead_man.close()


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes minutes: AEFM_BARS is not set")
@pytest.mark.usefixtures("chaos_mesh")
def test_it_ends_without_its_keeper(connection: Connection, namespace: str, run_id: str) -> None:
    """As long as the keeper lives it does, beyond the first deadline; then it is gone within 60 s."""
    dead_man = DeadMan(connection)
    stressors = ChaosStressors(connection, dead_man, namespace=namespace, run=run_id)
    stressors.converge(chaos(1))
    with pytest.raises(AssertionError):
        wait_for("it lives", lambda: not levels(connection, namespace), 60)
    dead_man.close()
    gone = wait_for("it lives on", lambda: not levels(connection, namespace), 75)
    print(f"gone after {gone:.1f} s")
    assert gone <= 60


@pytest.mark.usefixtures("chaos_mesh")
def test_an_experiment_names_it(project: Project, connection: Connection) -> None:
    """As a factor: at level 1 its dose is proven, at level 0 there is none, and nothing is left."""
    project.write(chaos=[0, 1], interference={"chaos": {"manifest": DELAY}})
    project.run()
    trials = {trial["factors"]["chaos"]: trial for trial in project.report()["trials"]}
    assert {one["subject"] for trial in trials.values() for one in trial["findings"]} <= NOISE
    doses = [(one["kind"], one["count"], one["ok"]) for one in trials[1]["doses"]]
    assert ([], [("chaos", 1, True)]) == (trials[0]["doses"], doses)
    assert [] == [str(item) for item in find_leftovers(connection, project.report()["run"]["id"])]
