"""Accounts with the shipped roles, and with none: what they may, what is named, and that it is enough."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_aefm.testbeds.kubernetes.applying import apply_all
from pytest_aefm.testbeds.kubernetes.cleaning import clean
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, connect
from pytest_aefm.testbeds.kubernetes.converging import DeployedApp
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL, Edits, edit
from pytest_aefm.testbeds.kubernetes.manifests import parse_manifests
from pytest_aefm.testbeds.kubernetes.owners import owners
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
from pytest_aefm.testbeds.kubernetes.permissions import (
    LEASE_NAMESPACE,
    PERMISSIONS,
    Permission,
    missing_permissions,
    rbac_manifests,
)
from pytest_aefm.testbeds.kubernetes.preflight import Needs, Remark, examine_cluster
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from tests.cluster.conftest import TestCluster
from tests.cluster.project import Project
from tests.cluster.test_deploying import workload
from tests.noise import NOISE

BAR = pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes half a minute; AEFM_BARS=1 runs it")
Account = Callable[[str | None], Connection]


@pytest.fixture
def account(
    cluster: TestCluster, connection: Connection, namespace: str, run_id: str, tmp_path: Path
) -> Iterator[Account]:
    """Return what connects as a new account, which a text of RBAC is about, or without any role."""
    with ExitStack() as stack:

        def connected(rbac: str | None) -> Connection:
            name = f"aefm-{run_id}"
            bare = f"apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: aefm\n  namespace: {namespace}\n"
            text = (rbac or bare).replace("name: aefm\n", f"name: {name}\n").replace(LEASE_NAMESPACE, namespace)
            made = [item for item in parse_manifests(text, "rbac.yaml") if item.kind != "Namespace"]
            for item in made:
                item.body["metadata"]["labels"] = {RUN_LABEL: run_id, APP_LABEL: "rbac"}
            apply_all(connection, made)
            path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
            token = connection.create(path, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"})
            config = yaml.safe_load(cluster.kubeconfig.read_text())
            config["users"] = [{"name": user["name"], "user": token_of(token)} for user in config["users"]]
            file = tmp_path / "kubeconfig"
            file.write_text(yaml.safe_dump(config))
            return stack.enter_context(connect(file))

        yield connected


def token_of(request: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the user of a kubeconfig for a token that was asked for."""
    return {"token": request["status"]["token"]}


def until_it_holds(examine: Callable[[], object]) -> None:
    """Wait until a role has come to all of the API server."""
    deadline = time.monotonic() + 20
    while examine():
        assert time.monotonic() < deadline, examine()
        time.sleep(0.2)


def bad(remarks: list[Remark]) -> list[str]:
    """Return what keeps a run from going on."""
    return [f"{one.subject}: {one.found}" for one in remarks if one.state == "bad"]


def deploys(connection: Connection, namespace: str, run: str) -> None:
    """Deploy a small application, look at it again, and remove it."""
    deployed = DeployedApp(connection, "x", namespace, run, deadline_s=60)
    wanted = edit((workload("Deployment", "geo"),), Edits(namespace, run, "x"))
    assert deployed.converge(wanted)
    assert not deployed.converge(wanted)
    assert [] == deployed.remove()


def test_the_cluster_role_is_enough(account: Account, namespace: str, run_id: str) -> None:
    """Nothing is missing; a Lease, an application in a namespace of its own, and cleaning work."""
    connection, run = account(rbac_manifests()), f"{run_id}-b"
    until_it_holds(lambda: missing_permissions(connection, PERMISSIONS[-1:], None, namespace))
    assert [] == missing_permissions(connection, PERMISSIONS, None, namespace)
    remarks = examine_cluster(connection, Needs(lease_namespace=namespace))
    assert "permissions" in {one.subject for one in remarks if one.state == "ok"}
    lease = ClusterLease(connection, namespace, run=run)
    lease.acquire(0)
    home = f"aefm-{run}"
    deploys(connection, home, run)
    lease.release()
    assert ((), ()) == (clean(connection, run).found, clean(connection, run).sticks)
    with pytest.raises(ApiError, match="404"):
        connection.get(f"/api/v1/namespaces/{home}")


def test_the_namespaced_role_is_enough_for_a_namespace(account: Account, namespace: str, run_id: str) -> None:
    """What only the cluster knows is named with what is lost; all that a run must do works."""
    connection = account(rbac_manifests(namespace))
    until_it_holds(lambda: missing_permissions(connection, PERMISSIONS[:1], namespace, namespace))
    remarks = examine_cluster(connection, Needs(namespace=namespace, lease_namespace=namespace, run=run_id))
    assert [] == bad(remarks)
    named = {one.subject: one.found for one in remarks if one.subject.startswith("permission to")}
    assert "missing: facts of the nodes are absent" in named["permission to get, list nodes"]
    assert "missing: interference needs --aefm-allow-shared" in named["permission to list pods"]
    assert len([row for row in PERMISSIONS if (row.scope, row.use) == ("cluster", "reads")]) == len(named)
    lease = ClusterLease(connection, namespace, run=f"{run_id}-b")
    lease.acquire(0)
    assert [f"{run_id}-b"] == [owner.run for owner in owners(connection, namespace)]
    deploys(connection, namespace, f"{run_id}-b")
    lease.release()
    assert () == clean(connection, f"{run_id}-b", namespace).found
    with pytest.raises(ApiError, match="name a namespace with --namespace"):
        clean(connection, f"{run_id}-b")


def test_every_missing_verb_is_named(account: Account, namespace: str) -> None:
    """An account without a role: each verb on each resource, what is lost, and the line that mends it."""
    connection = account(None)
    missing = missing_permissions(connection, PERMISSIONS, None, namespace)
    asked = {(row, resource, verb) for row in PERMISSIONS for resource in row.resources for verb in row.verbs}
    assert asked == {(one.permission, one.resource, verb) for one in missing for verb in one.verbs}
    remarks = examine_cluster(connection, Needs(lease_namespace=namespace, interference=True))
    found = {one.subject: one for one in remarks if one.state == "bad"}
    for subject in (
        "permission to get, list, create, patch leases.coordination.k8s.io",
        "permission to get, list, create, patch, delete namespaces",
        "permission to get, list, watch, create, patch, delete jobs.batch",
        "permission to get pods/log",
    ):
        assert found[subject].found.startswith("missing: ")
        assert "aefm rbac | kubectl apply -f -" == found[subject].mend
    with pytest.raises(ApiError, match=r"403: leases\.coordination.* is forbidden: .*; aefm rbac prints the role"):
        ClusterLease(connection, namespace, run="r1").acquire(0)


def test_a_run_that_is_denied_says_so(account: Account, namespace: str, project: Project) -> None:
    """Before anything is deployed: what is forbidden to whom, and what prints the role that is needed."""
    account(None)
    kubeconfig = str(project.folder / "kubeconfig")
    status, _ = project.run("--aefm-kubeconfig", kubeconfig, "--aefm-lease-namespace", namespace, timeout_s=60)
    (trial,) = project.report()["trials"]
    assert (1, "broken") == (status, trial["verdict"])
    assert all(word in trial["reason"] for word in ("leases.coordination", "is forbidden", "aefm rbac")), trial[
        "reason"
    ]
    assert sum(trial["phases"].values()) < 30


def run_with_role(
    project: Project, connection: Connection, rows: list[Permission], namespace: str, *options: str
) -> dict[str, Any]:
    """Run two cases, one with interference, in the name of the account; return the report."""
    inside = namespace if options else None
    until_it_holds(lambda: missing_permissions(connection, rows, inside, namespace))
    roles = ["infra", "load"], ["testbed"]  # the other way round than elsewhere: tests may share a cluster
    nodes = [{**node, "roles": those} for node, those in zip(project.nodes, roles, strict=True)]
    project.write(cpu=[0, 1], interference={"cpu": {"cpu_size": 0.1}}, slos="none", nodes=nodes)
    kubeconfig = str(project.folder / "kubeconfig")
    command = ["--aefm-kubeconfig", kubeconfig, "--aefm-lease-namespace", namespace, *options]
    _, printed = project.run(*command, timeout_s=300)
    report = project.report()
    assert 2 == len([trial for trial in report["trials"] if "goodput" in trial["metrics"]]), printed
    findings = {one["subject"] for trial in report["trials"] for one in trial["findings"]}
    assert not findings - NOISE, printed  # what a busy machine does to a load is no matter of permissions
    assert [True] == [dose["ok"] for trial in report["trials"] for dose in trial["doses"]]
    return report


@BAR
def test_a_run_with_the_cluster_role_works(account: Account, namespace: str, project: Project) -> None:
    """Deployed in a namespace of its own, disturbed and measured: nothing is missing, nothing is left."""
    connection = account(rbac_manifests())
    report = run_with_role(project, connection, list(PERMISSIONS), namespace)
    environment = report["trials"][0]["environment"]
    assert not [text for text in environment["preflight"] if text.startswith("permission")]
    assert all("kernel" in node for node in environment["nodes"].values())
    assert [] == find_leftovers(connection, report["run"]["id"])


@BAR
def test_a_run_with_the_namespaced_role_works(account: Account, namespace: str, project: Project) -> None:
    """The same in a namespace that is there and admits the restricted profile alone; what it cannot do is named."""
    connection = account(rbac_manifests(namespace))
    rows = [row for row in PERMISSIONS if row.scope != "cluster"]
    report = run_with_role(project, connection, rows, namespace, "--aefm-namespace", namespace)
    named = report["trials"][0]["environment"]["preflight"]
    assert any(text.startswith("permission to get, list nodes: missing: facts of the nodes") for text in named)
    assert [] == find_leftovers(connection, report["run"]["id"], namespace)
