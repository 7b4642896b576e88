"""A probe says which ways are open to pods, from a namespace of the restricted profile, and leaves nothing there."""

from __future__ import annotations

import pytest

from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.preflight_needs import Remark
from pytest_aefm.testbeds.kubernetes.probing import Walker, Way, probe
from tests.cluster.conftest import BASE_IMAGE
from tests.cluster.project import Project
from tests.noise import NOISE

API = Way("the API", "kubernetes.default.svc", 443)


def walker(image: str = BASE_IMAGE) -> Walker:
    """Return one in whose stead ways are tried."""
    return Walker("a pod of load", {"aefm.dev/role": "load"}, (), image)


def said(remarks: list[Remark]) -> list[str]:
    """Return remarks as lines."""
    return [f"{one.state} {one.subject}: {one.found}" for one in remarks]


def left(connection: Connection, namespace: str) -> list[str]:
    """Return the pods and Jobs of a namespace."""
    paths = (f"/api/v1/namespaces/{namespace}/pods", f"/apis/batch/v1/namespaces/{namespace}/jobs")
    return [item["metadata"]["name"] for path in paths for item in connection.get(path)["items"]]


def test_ways_are_tried(connection: Connection, namespace: str, run_id: str) -> None:
    """One that is open, a name alone, a name that nobody knows, a port where nobody listens."""
    ways = [API, Way("names", API.host), Way("nobody", "nobody.invalid", 80, needs=True), Way("a port", API.host, 81)]
    expected = [
        "ok way to the API: a pod of load reaches kubernetes.default.svc:443",
        "ok way to names: a pod of load reaches kubernetes.default.svc",
        "bad way to nobody: a pod of load cannot look up nobody.invalid:80",
    ]
    *first, last = said(probe(connection, namespace, run_id, walker(), ways))
    assert expected == first
    assert last.startswith("warn way to a port: a pod of load ")
    assert [] == left(connection, namespace)


@pytest.mark.parametrize(
    ("quota", "image", "why"),
    [(None, "localhost/no-such-image:1", "Image"), ("0", BASE_IMAGE, "exceeded quota")],
    ids=["no image", "quota"],
)
def test_a_probe_that_cannot_be_made_is_named(
    connection: Connection, namespace: str, run_id: str, quota: str | None, image: str, why: str
) -> None:
    """It is no reason to stop: the way may be open. Nothing is left of it."""
    if quota is not None:
        body = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": quota}}}
        path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        connection.create(path, {"apiVersion": "v1", "kind": "ResourceQuota", **body})
    (line,) = said(probe(connection, namespace, run_id, walker(image), [API]))
    assert line.startswith("warn probe of network policies: cannot be made: ")
    assert why in line
    assert [] == left(connection, namespace)


def test_a_run_tries_its_ways_where_policies_are(project: Project, connection: Connection, namespace: str) -> None:
    """The collector of traces that nobody has is warned of before any load; the entry is reached, and measured."""
    policy = {"metadata": {"name": "all"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}}
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    connection.create(path, {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **policy})
    nowhere = "http://no-collector.invalid:4318/v1/traces"
    project.run("--aefm-namespace", namespace, "--aefm-otlp", nowhere)
    (trial,) = project.report()["trials"]
    assert {one["subject"] for one in trial["findings"]} <= NOISE
    told = "way to the traces' collector: a pod like the entry's cannot look up no-collector.invalid:4318"
    assert told in trial["environment"]["preflight"]
