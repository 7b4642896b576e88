"""A cluster, looked at before a run: what is in order is said in a line, what is not is named with what mends it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.cli import main
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL, Edits, edit
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.preflight import Needs, Remark, examine_cluster
from tests.cluster.conftest import TestCluster
from tests.cluster.test_deploying import workload


def by_subject(remarks: list[Remark]) -> dict[str, Remark]:
    """Return remarks by subject."""
    return {one.subject: one for one in remarks}


def make(connection: Connection, namespace: str, api: str, kind: str, name: str, **body: Any) -> None:
    """Make an object in a namespace, of nobody of ours."""
    path = connection.resource(api, kind).path(namespace)
    connection.create(path, {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **body})


def test_a_cluster_in_order(connection: Connection, cluster: TestCluster, namespace: str, run_id: str) -> None:
    """Server, permissions, nodes, room and namespace are well; nothing of this is bad."""
    manifests = edit((workload("Deployment", "geo"),), Edits(namespace, run_id, "x"))
    workers = [f"{cluster.name}-worker-1", f"{cluster.name}-worker-2"]
    needs = Needs(namespace=namespace, nodes=workers, manifests=manifests, interference=True, run=run_id)
    remarks = examine_cluster(connection, needs)
    found = by_subject(remarks)
    for subject in ("server", "permissions", "nodes", "room", f"namespace {namespace}", "leftovers"):
        assert "ok" == found[subject].state, found[subject]
    assert found["server"].found.startswith("Kubernetes v1.")
    assert found["nodes"].found.startswith(f"{', '.join(workers)}: Ready and alike: cores ")
    assert {"ok"} == {one.state for one in remarks}


def test_what_is_in_the_way_is_named(connection: Connection, namespace: str, run_id: str) -> None:
    """A quota that is too small, defaults, policies, an autoscaler, a node that is not there, a pod too large."""
    make(connection, namespace, "v1", "ResourceQuota", "small", spec={"hard": {"pods": "1"}})
    limit = {"type": "Container", "default": {"cpu": "100m"}}
    make(connection, namespace, "v1", "LimitRange", "defaults", spec={"limits": [limit]})
    make(connection, namespace, "networking.k8s.io/v1", "NetworkPolicy", "deny", spec={"podSelector": {}})
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "geo"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    scale = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 4, "metrics": [metric]}
    make(connection, namespace, "autoscaling/v2", "HorizontalPodAutoscaler", "grow", spec=scale)
    make(
        connection, namespace, "v1", "ConfigMap", "old", metadata={"name": "old", "labels": {RUN_LABEL: f"{run_id}-x"}}
    )
    large = {"requests": {"cpu": "500"}, "limits": {"cpu": "500"}}
    manifests = (workload("Deployment", "geo"), workload("Deployment", "big", resources=large))
    needs = Needs(namespace=namespace, manifests=edit(manifests, Edits(namespace, run_id, "x")), run=run_id)
    found = by_subject(examine_cluster(connection, needs))

    assert "bad" == found["ResourceQuota small"].state
    assert "pods 0 of 1 used, 2 needed" == found["ResourceQuota small"].found
    assert "default cpu 100m for each container" in found["LimitRange defaults"].found
    assert found["network policies"].found.startswith("deny: ")
    assert "may set from 1 to 4 replicas of 'geo' in mid-run" == found["HorizontalPodAutoscaler grow"].found
    assert "no node is as large as a pod of Deployment 'big' requests" == found["room"].found
    assert "ConfigMap old" == found[f"left by run {run_id}-x"].found
    assert f"aefm clean --run {run_id}-x --namespace {namespace}" == found[f"left by run {run_id}-x"].mend


def test_nodes_and_namespaces_that_are_not_there(connection: Connection, run_id: str) -> None:
    """Both are bad, and what would help is said."""
    needs = Needs(namespace=f"aefm-none-{run_id}", nodes=["no-such-node"], run=run_id)
    found = by_subject(examine_cluster(connection, needs))
    assert ("bad", "is not in the cluster") == (found["node no-such-node"].state, found["node no-such-node"].found)
    missing = found[f"namespace aefm-none-{run_id}"]
    assert ("bad", f"kubectl create namespace aefm-none-{run_id}") == (missing.state, missing.mend)


def test_what_manifests_need_is_asked_for(connection: Connection, namespace: str, run_id: str) -> None:
    """Kinds beside the usual are looked at only where manifests have them."""
    policy = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": {}}
    headers = connection._transport.client.default_headers
    headers["Impersonate-User"] = f"system:serviceaccount:{namespace}:default"
    try:
        found = by_subject(examine_cluster(connection, Needs(namespace=namespace, manifests=[Manifest(policy)])))
    finally:
        del headers["Impersonate-User"]
    named = [subject for subject in found if subject.startswith("permission to") and "watch, create" in subject]
    assert "permission to get, list, watch, create, patch, delete poddisruptionbudgets.policy" in named
    assert not [subject for subject in named if "ingresses" in subject or "cronjobs" in subject]


def test_the_doctor_looks_at_a_cluster(cluster: TestCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`aefm doctor --kubeconfig FILE` prints what it found of this machine, then of the cluster."""
    main(["doctor", "--kubeconfig", str(cluster.kubeconfig)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    server: Kubernetes v1.") for line in lines)
    assert any(line.startswith("ok    permissions: ") for line in lines)
