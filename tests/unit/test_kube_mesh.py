"""A topology becomes manifests: what they hold is what aefm-mesh reads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_aefm.apps import find_app
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.topology import load_topology, parse_topology
from pytest_aefm.testbeds.kubernetes.edits import Edits, edit
from pytest_aefm.testbeds.kubernetes.manifests import Manifest, dump, parse_manifests
from pytest_aefm.testbeds.kubernetes.mesh import MESH_PORT, MeshOptions, mesh_manifests

OPTIONS = MeshOptions("mesh:1", 30.0, otlp_endpoint="http://jaeger:4318/v1/traces", node_port=30628)
TWO = """\
app: two
entry: front
smoke: [{path: /a}]
services:
  front:
    replicas: 3
    cpu_limit: 0.5
    memory_limit: 100Mi
    endpoints: [{path: /a, steps: [{call: {service: back, endpoint: /b}}]}]
  back:
    endpoints: [{path: /b, steps: [{cpu_us: 10}]}]
"""


@pytest.fixture
def two() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the bodies of a small application by kind and name."""
    return {(one.kind, one.name): one.body for one in mesh_manifests(parse_topology(TWO), OPTIONS)}


def test_each_service_has_its_three_objects() -> None:
    """Every service of the hotel is a ConfigMap, a Service and a Deployment, all under test."""
    topology = load_topology(find_app("hotel").topology_path)
    found = mesh_manifests(topology, OPTIONS)
    wanted = {(kind, name) for name in topology.services for kind in ("ConfigMap", "Service", "Deployment")}
    assert (wanted, len(wanted)) == ({(one.kind, one.name) for one in found}, len(found))
    assert {"under_test"} == {one.role for one in found}


def test_services_call_each_other_by_name(two: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The configuration is a resolved service that listens everywhere and calls its peers through their Services."""
    config = json.loads(two["ConfigMap", "front"]["data"]["service.json"])
    assert ("0.0.0.0", MESH_PORT) == (config["host"], config["port"])
    assert {"back": {"urls": [f"http://back:{MESH_PORT}"]}} == config["peers"]
    assert ("http://jaeger:4318/v1/traces", 30.0) == (config["otlp_endpoint"], config["iterations_per_us"])


def test_only_the_entry_is_reached_from_outside(two: dict[tuple[str, str], dict[str, Any]]) -> None:
    """The entry is a NodePort of the number that was asked for."""
    front, back = two["Service", "front"]["spec"], two["Service", "back"]["spec"]
    assert ("NodePort", 30628, "ClusterIP") == (front["type"], front["ports"][0]["nodePort"], back["type"])
    assert "nodePort" not in back["ports"][0]


def test_services_select_their_own_pods(two: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Selectors match the labels of exactly the pods of the same name."""
    for name in ("front", "back"):
        spec = two["Deployment", name]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        assert labels == spec["selector"]["matchLabels"] == two["Service", name]["spec"]["selector"]
        assert name == labels["app.kubernetes.io/name"]


def test_pods_ask_for_what_they_may_use(two: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Requests are limits: what the topology says, one core and a quarter of a gibibyte by default."""
    front, back = (two["Deployment", name]["spec"]["template"]["spec"]["containers"][0] for name in ("front", "back"))
    assert {"cpu": "500m", "memory": str(100 * 2**20)} == front["resources"]["limits"] == front["resources"]["requests"]
    assert {"cpu": "1", "memory": "256Mi"} == back["resources"]["limits"] == back["resources"]["requests"]
    assert 3 == two["Deployment", "front"]["spec"]["replicas"]


def test_a_changed_service_makes_new_pods_and_no_others() -> None:
    """The pod template changes with the configuration of its own service only."""
    before = mesh_manifests(parse_topology(TWO), OPTIONS)
    after = mesh_manifests(parse_topology(TWO.replace("cpu_us: 10", "cpu_us: 20")), OPTIONS)
    changed = {(one.kind, one.name) for one, other in zip(before, after, strict=True) if one != other}
    assert {("ConfigMap", "back"), ("Deployment", "back")} == changed


def test_the_same_topology_makes_the_same_manifests() -> None:
    """Nothing in them depends on when or where they are made; they survive being printed."""
    hotel = load_topology(find_app("hotel").topology_path)
    first, second = (edit(mesh_manifests(hotel, OPTIONS), Edits("ns", "r", "hotel")) for _ in range(2))
    assert first == second == tuple(parse_manifests(dump(first), "printed"))


def test_nothing_is_reachable_from_outside_by_chance() -> None:
    """Without a number the cluster chooses the entry's port."""
    found = mesh_manifests(parse_topology(TWO), replace(OPTIONS, node_port=None))
    ports = [port(one) for one in found if one.kind == "Service"]
    assert [{"name", "port", "targetPort", "protocol"}] * 2 == [set(one) for one in ports]


def port(service: Manifest) -> dict[str, Any]:
    """Return the one port of a Service."""
    (found,) = service.body["spec"]["ports"]
    assert isinstance(found, dict)
    return found


def test_a_name_that_no_service_can_have_is_refused() -> None:
    """Kubernetes wants a letter first."""
    with pytest.raises(ConfigurationError, match=r"app 'two': services\.2nd: no name for a Service"):
        mesh_manifests(parse_topology(TWO.replace("back", "2nd")), OPTIONS)
