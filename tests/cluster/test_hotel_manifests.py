"""An API server takes the hotel's manifests as AEFM's experiment has them; its images need not be there for that."""

from __future__ import annotations

from pathlib import Path

from pytest_aefm.experiment import load
from pytest_aefm.testbeds.kubernetes.application import find_manifests, prepared
from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import Connection

FILE = Path(__file__).parents[2] / "experiments" / "kubernetes" / "hotel.yaml"


def test_every_manifest_is_admitted(connection: Connection, namespace: str, run_id: str) -> None:
    """All objects pass a dry run on the server's side, and their pods where PodSecurity is restricted."""
    case = next(iter(load(FILE).cases()))
    manifests = find_manifests(case.app, [FILE.parent])
    nodes = [("worker-1", ("testbed",)), ("worker-2", ("infra",))]
    edited = prepared(case.app, manifests, namespace=namespace, run=run_id, nodes=nodes)
    assert 38 == len(edited)
    for item in edited:
        path = connection.resource(item.api_version, item.kind).path(namespace, item.name)
        connection.apply(path, item.body, MANAGER, dry_run=True)
        if item.kind == "Deployment":
            template = item.body["spec"]["template"]
            metadata = {**template["metadata"], "name": item.name, "namespace": namespace}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            connection.create(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
    assert [] == connection.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
