"""What dead runs left is removed, by label and uid; what a living run made is not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from pytest_aefm.cli import main
from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.applying import ensure_namespace
from pytest_aefm.testbeds.kubernetes.cleaning import clean
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.owners import owners
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from tests.cluster.conftest import TestCluster
from tests.cluster.project import Project
from tests.cluster.test_ownership import other_process


def config_map(connection: Connection, namespace: str, name: str, run: str | None) -> None:
    """Make an object of a run, or of nobody of ours."""
    labels = {RUN_LABEL: run} if run else {}
    connection.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name, "labels": labels}})


def names(connection: Connection, namespace: str) -> set[str]:
    """Return the names of the ConfigMaps of a namespace, but that of its own."""
    listed = connection.get(f"/api/v1/namespaces/{namespace}/configmaps")["items"]
    return {item["metadata"]["name"] for item in listed} - {"kube-root-ca.crt"}


@pytest.fixture
def stuck(connection: Connection, run_id: str) -> Iterator[str]:
    """Return a namespace that does not go as long as the test runs."""
    name = f"aefm-stuck-{run_id}"
    ensure_namespace(connection, name, {RUN_LABEL: run_id})
    path = f"/api/v1/namespaces/{name}/configmaps"
    connection.create(path, {"metadata": {"name": "held", "finalizers": ["example.org/never"]}})
    yield name
    connection.patch(f"{path}/held", {"metadata": {"finalizers": None}})
    clean(connection, run_id, deadline_s=0)


def test_only_the_dead_are_cleaned(cluster: TestCluster, connection: Connection, namespace: str, run_id: str) -> None:
    """A run that holds a Lease and renews it keeps all; one whose process ended loses all; others' are not touched."""
    alive, dead = f"{run_id}-alive", f"{run_id}-dead"
    held = ClusterLease(connection, namespace, run=alive, duration_s=3)
    held.acquire(0)
    for name, run in (("alive", alive), ("dead", dead), ("foreign", None)):
        config_map(connection, namespace, name, run)
    told: list[str] = []
    looked = clean(connection, None, namespace, dry_run=True, tell=told.append)
    assert (["dead"], [alive]) == ([item.name for item in looked.found], [owner.run for owner in looked.spared])
    assert any(f"held by run {alive} (" in text for text in told)
    assert {"alive", "dead", "foreign"} == names(connection, namespace)

    assert ["dead"] == [item.name for item in clean(connection, None, namespace).found]
    assert {"alive", "foreign"} == names(connection, namespace)
    with pytest.raises(DeploymentError, match=f"run {alive}: lives: run {alive} .*; end it first"):
        clean(connection, alive)
    held.release()
    assert ["alive"] == [item.name for item in clean(connection, alive).found]
    assert {"foreign"} == names(connection, namespace)


def test_after_a_kill_all_is_cleaned(
    cluster: TestCluster, connection: Connection, namespace: str, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Namespace and what lies outside of it; the Lease is free for the next. Exit status 0."""
    run, home = f"{run_id}-killed", f"aefm-home-{run_id}"
    ensure_namespace(connection, home, {RUN_LABEL: run})
    config_map(connection, home, "geo", run)
    command = ["clean", "--kubeconfig", str(cluster.kubeconfig), "--run", run]
    with other_process(cluster, namespace, run) as process:
        assert 1 == main(command)
        assert f"aefm: run {run}: lives: run {run} (" in capsys.readouterr().err
        process.kill()
        process.wait()
    assert 0 == main([*command, "--dry-run"])
    assert f"would remove: Namespace {home} (run {run})\n" == capsys.readouterr().out
    assert [run] == [owner.run for owner in owners(connection, namespace)]
    assert 0 == main(command)
    assert f"deleted: Namespace {home} (run {run})\n" == capsys.readouterr().out
    assert ([], []) == (owners(connection, namespace), find_leftovers(connection, run))
    assert 0 == main(command)
    assert "nothing to remove\n" == capsys.readouterr().out


def test_what_sticks_is_told(cluster: TestCluster, connection: Connection, stuck: str, run_id: str) -> None:
    """With the finalizer that holds it."""
    cleaned = clean(connection, run_id, deadline_s=5)
    (problem,) = cleaned.sticks
    assert f"Namespace {stuck} (run {run_id}): still there, held by kubernetes" in problem
    assert "example.org/never" in problem


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes a minute; AEFM_BARS=1 runs it")
def test_a_run_that_was_killed_while_it_disturbs_is_cleaned(
    cluster: TestCluster, connection: Connection, namespace: str, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, by hand: application, interference and namespace; nothing of another namespace."""
    config_map(connection, namespace, "foreign", None)
    project.write(cpu=[1], interference={"cpu": {"cpu_size": 0.2}}, duration="60s")
    runs = project.folder / ".aefm" / "runs"

    def disturbing() -> bool:
        selectors = (f"{RUN_LABEL}={path.name},{ROLE_LABEL}=interference" for path in runs.glob("*"))
        return any(connection.get("/api/v1/pods", labelSelector=selector)["items"] for selector in selectors)

    with project.start("-q") as process:
        deadline = time.monotonic() + 120
        while not disturbing():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.kill()
        process.communicate()
    (run,) = (path.name for path in runs.iterdir())
    began = time.monotonic()
    assert 0 == main(["clean", "--kubeconfig", str(cluster.kubeconfig), "--run", run])
    printed = capsys.readouterr().out
    print(f"{printed}cleaned after {time.monotonic() - began:.1f} s")
    assert "deleted: Namespace aefm-shop-" in printed
    assert ([], {"foreign"}) == (find_leftovers(connection, run), names(connection, namespace))
    assert [] == connection.get("/api/v1/pods", labelSelector=f"{RUN_LABEL}={run}")["items"]
