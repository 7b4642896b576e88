"""Who is to try which ways where network policies are."""

from __future__ import annotations

from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.application import Wanted
from pytest_aefm.testbeds.kubernetes.manifests import parse_manifests
from pytest_aefm.testbeds.kubernetes.probing import Walker, Way
from pytest_aefm.testbeds.kubernetes.ways import plan_walks

FRONT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec: {template: {metadata: {labels: {app: front, tier: web}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 8080}]}
"""
WANTED = Wanted(tuple(parse_manifests(FRONT, "x.yaml")), "front", (), True)
URL = "http://front.shop.svc:8080"
LIKE_ENTRY = Walker("a pod like the entry's", {"app": "front", "tier": "web"}, (), "bash:1")


def walks(options: ClusterOptions) -> list[tuple[Walker, list[Way]]]:
    """Return what is to be tried."""
    return list(plan_walks(options, WANTED, URL, ("n2",), "bash:1"))


def test_a_service_looks_up_names() -> None:
    """With all labels of the entry's pods, for policies may go by any of them."""
    assert [(LIKE_ENTRY, [Way("names (DNS)", "kubernetes.default.svc")])] == walks(ClusterOptions())


def test_load_from_inside_needs_the_entry() -> None:
    """It is tried from the nodes of the load, in whose pods' stead."""
    (walker, ways), _ = walks(ClusterOptions(load_from="cluster"))
    assert [Way("the entry", "front.shop.svc", 8080, needs=True)] == ways
    assert ({"aefm.dev/role": "load", "aefm.dev/app": "aefm-load"}, ("n2",)) == (walker.labels, walker.nodes)


def test_traces_need_their_collector() -> None:
    """At its port, or the usual one."""
    ((_, ways),) = walks(ClusterOptions(otlp="https://traces.example/v1/traces"))
    assert [Way("the traces' collector", "traces.example", 443)] == ways[1:]
