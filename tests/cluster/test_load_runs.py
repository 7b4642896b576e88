"""Experiments whose load comes from inside the cluster, as users run them; and what becomes of load when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_aefm.testbeds.kubernetes.amounts import amount
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.priority import wait_known
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from pytest_aefm.testbeds.kubernetes.restricted import container_security, pod_security
from tests.cluster.conftest import BASE_IMAGE
from tests.cluster.project import Project, wait_for
from tests.noise import NOISE


@pytest.fixture
def inside(project: Project, load_image: str) -> Project:
    """Return a project whose load comes from two pods."""
    project.options += ["--aefm-load-from", "cluster", "--aefm-load-pods", "2", "--aefm-load-image", load_image]
    return project


def test_an_experiment_is_driven_from_inside(inside: Project, connection: Connection) -> None:
    """Its requests come from pods on the node of role load; the report has the figures of each; nothing is left.

    How they spread over the pods of the entry is told, with the warm-up and the probes before.
    """
    inside.write(replicas={"front": 2})
    inside.run()
    report = inside.report()
    (trial,) = report["trials"]
    assert {one["subject"] for one in trial["findings"]} <= NOISE
    pods = trial["load"]["details"]["pods"]
    assert [30, 30] == [pod["offered"] for pod in pods]
    assert {inside.nodes[1]["name"]} == {pod["node"] for pod in pods}
    assert 60 == trial["load"]["offered"] == sum(trial["load"]["outcomes"].values())
    assert trial["load"]["outcomes"]["success"] == trial["load"]["latency"]["success"]["count"]
    assert all(pod["tcp"]["sent"] > 0 for pod in pods)
    counted = trial["effect"]["load_path"]["entry_requests"]
    assert 2 == len(counted)
    assert 70 <= sum(counted.values()) < 100
    assert "entry spread" in {check["name"] for check in trial["checks"]}
    assert {"load start skew", "load clock"} <= {check["name"] for check in trial["checks"] if check["ok"]}
    assert [] == [str(item) for item in find_leftovers(connection, report["run"]["id"])]


class Loaded:
    """A run with a long load."""

    def __init__(self, project: Project, connection: Connection) -> None:
        self.connection = connection
        project.write(duration="100s")
        self.process: subprocess.Popen[str] = project.start("-q")

    def await_load(self, project: Project) -> None:
        """Wait until the load runs."""
        wait_for("no run", lambda: any((project.folder / ".aefm" / "runs").glob("*")), 60)
        self.id = next(path.name for path in (project.folder / ".aefm" / "runs").iterdir())
        # The smoke requests are a load of their own: the second Job is the one that lasts.
        wait_for("no load", lambda: any(name.endswith("-2") for name in self.running()), 300)
        time.sleep(3)

    def running(self) -> set[str]:
        """Return the names of the Jobs of load whose pods run."""
        selector = f"{RUN_LABEL}={self.id},{ROLE_LABEL}=load"
        pods = self.connection.get("/api/v1/pods", labelSelector=selector)["items"]
        return {pod["metadata"]["labels"]["job-name"] for pod in pods if pod["status"].get("phase") == "Running"}

    def left(self) -> list[str]:
        """Return what the run has left."""
        return [str(item) for item in find_leftovers(self.connection, self.id)]


@pytest.fixture
def run(inside: Project, connection: Connection) -> Iterator[Loaded]:
    """Return a run in the middle of a long load."""
    made = Loaded(inside, connection)
    try:
        made.await_load(inside)
        yield made
    finally:
        made.process.kill()
        made.process.wait(30)
        assert made.process.stdout is not None
        made.process.stdout.close()


def test_load_that_is_preempted_is_invalid(
    inside: Project, run: Loaded, connection: Connection, run_id: str, namespace: str
) -> None:
    """A pod of somebody else's, more important and too large for what is left, takes its place: no verdict of ours."""
    name, classes = f"important-{run_id}", "/apis/scheduling.k8s.io/v1/priorityclasses"
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    made = connection.create(classes, {**kind, "metadata": {"name": name}})
    try:
        pod = _greedy(connection, inside.nodes[1]["name"], name)
        wait_known(connection, namespace, pod)
        connection.create(f"/api/v1/namespaces/{namespace}/pods", pod)
        printed, _ = run.process.communicate(timeout=120)
        (trial,) = inside.report()["trials"]
        assert ("invalid", "error") == (trial["verdict"], trial["outcome"]), printed
        assert "is taken away: PreemptionByScheduler" in trial["reason"]
        assert [] == run.left()
    finally:
        connection.delete(f"{classes}/{name}", made["metadata"]["uid"])


def _greedy(connection: Connection, node: str, priority: str) -> dict[str, Any]:
    """Return a pod that leaves less of a node's cores than a pod of load requests."""
    cores = amount(connection.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]["cpu"])
    security = container_security()
    container = {"name": "main", "image": BASE_IMAGE, "command": ["sleep", "60"], "securityContext": security}
    container["resources"] = {"requests": {"cpu": f"{cores - 0.1:.3f}"}}
    affinity = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    term = {"nodeSelectorTerms": [{"matchExpressions": [affinity]}]}
    spec = {
        "priorityClassName": priority,
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}},
        "securityContext": pod_security(),
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "greedy"}, "spec": spec}


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes minutes: AEFM_BARS is not set")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_load_of_an_interrupted_run_ends_at_once(number: signal.Signals, run: Loaded) -> None:
    """Ctrl-C and SIGTERM end load and all the rest."""
    run.process.send_signal(number)
    gone = wait_for("still loaded", lambda: not run.running(), 30)
    run.process.communicate(timeout=60)
    print(f"load gone after {gone:.1f} s")
    assert 2 == run.process.returncode
    assert [] == run.left()
