"""What nodes, pods, events and a cluster's Prometheus say of a window: pure parts, without a cluster."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Window
from pytest_aefm.options import ClusterOptions
from pytest_aefm.slo import parse
from pytest_aefm.testbeds import Node
from pytest_aefm.testbeds.kubernetes.application import wanted_app
from pytest_aefm.testbeds.kubernetes.cluster import facts, named, not_ready, on_this_machine
from pytest_aefm.testbeds.kubernetes.manifests import INFRA, UNDER_TEST, Manifest
from pytest_aefm.testbeds.kubernetes.observing import (
    PodMark,
    disturbing,
    pod_states,
    seen_events,
    service_facts,
    toll,
)
from pytest_aefm.testbeds.kubernetes.refusing import refuse_case
from pytest_aefm.testbeds.kubernetes.service_admission import admission

WINDOW = Window(1000.0, 50.0, 10.0)
SIZE = {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}


def pod(name: str = "geo-7d9-abc", uid: str = "u1", *, role: str = UNDER_TEST, restarts: int = 0, **more: Any) -> Any:
    """Return a pod of a Deployment's ReplicaSet, as the API server tells of it."""
    status = {
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "containerStatuses": [
            {"name": "service", "restartCount": restarts, "image": "mesh:1", "imageID": "sha256:1", **more}
        ],
    }
    labels = {"pod-template-hash": "7d9", "aefm.dev/role": role}
    owners = [{"kind": "ReplicaSet", "name": f"{name.partition('-')[0]}-7d9", "controller": True}]
    return {
        "metadata": {"name": name, "uid": uid, "labels": labels, "ownerReferences": owners},
        "spec": {"nodeName": "n1", "containers": [{"name": "service", "resources": SIZE}]},
        "status": status,
    }


def mark(*pods: Any) -> PodMark:
    """Return a mark of these pods."""
    return PodMark(pod_states(pods))


def failed(item: Any, reason: str) -> Any:
    """Return a pod that has failed for a reason."""
    changed = copy.deepcopy(item)
    changed["status"] |= {"phase": "Failed", "reason": reason, "message": "low on memory"}
    return changed


def test_a_quiet_window_has_no_restarts() -> None:
    """Zero for each workload and in total; where it ran, and what, is told."""
    metrics, services = toll(mark(pod(restarts=3)), mark(pod(restarts=3)))
    assert metrics == {"restarts": 0.0, "restarts(geo)": 0.0}
    (only,) = services["geo"]["pods"]
    assert (only["node"], only["containers"]["service"]["image_id"]) == ("n1", "sha256:1")
    assert service_facts(mark(pod()))["geo"]["role"] == UNDER_TEST


def test_an_oom_kill_is_a_restart_with_its_reason() -> None:
    """The container's last end says why."""
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    metrics, services = toll(mark(pod(restarts=1)), mark(pod(restarts=2, lastState=ended)))
    assert metrics["restarts"] == metrics["restarts(geo)"] == 1
    assert services["geo"]["oom_kills"] == 1
    assert services["geo"]["ends"] == ["pod geo-7d9-abc, container service: OOMKilled, exit status 137"]


def test_a_container_that_ended_and_waits_counts() -> None:
    """Before the kubelet starts it again its count is as it was."""
    ended = {"terminated": {"reason": "Error", "exitCode": 3}}
    metrics, _ = toll(mark(pod()), mark(pod(state=ended)))
    assert metrics["restarts(geo)"] == 1


@pytest.mark.parametrize("gone", [True, False])
def test_an_evicted_pod_counts_once(gone: bool) -> None:
    """Whether it is still listed as failed or not: its successor is no second restart."""
    after = [pod("geo-7d9-new", "u2")] + ([] if gone else [failed(pod(), "Evicted")])
    metrics, services = toll(mark(pod()), mark(*after))
    assert metrics["restarts(geo)"] == 1
    assert services["geo"]["evictions"] == (0 if gone else 1)


def test_infra_is_counted_by_itself() -> None:
    """What is not under test does not violate the default SLO, and can be asked for; alone it says nothing of that."""
    metrics, _ = toll(mark(pod("db-7d9-x", role=INFRA)), mark(pod("db-7d9-x", role=INFRA, restarts=1)))
    assert metrics == {"restarts(db)": 1.0}
    with_geo, _ = toll(mark(pod(), pod("db-7d9-x", "u2", role=INFRA)), mark(pod()))
    assert with_geo == {"restarts": 0.0, "restarts(geo)": 0.0, "restarts(db)": 1.0}


def test_pods_that_disturb_are_seen_until_they_are_gone() -> None:
    """Those on their way out, too; what has ended disturbs no more."""
    here, leaving, ended = (pod(f"aefm-cpu-{name}", role="interference") for name in ("here", "leaving", "ended"))
    leaving["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z"
    ended["status"]["phase"] = "Failed"
    assert ("aefm-cpu-here", "aefm-cpu-leaving") == disturbing([pod(), here, leaving, ended])


def test_pods_of_jobs_are_none_of_the_application() -> None:
    """Stressors and load are pods of Jobs."""
    item = pod()
    item["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "stress", "controller": True}]
    assert pod_states([item]) == {}


def deployment(resources: dict[str, Any]) -> Manifest:
    """Return the Deployment of geo with a container of these resources."""
    container = {"name": "service", "image": "mesh:1", "resources": resources}
    spec = {"template": {"metadata": {}, "spec": {"containers": [container]}}}
    return Manifest({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "geo"}, "spec": spec})


@pytest.mark.parametrize(
    "asked",
    [SIZE, {"limits": SIZE["limits"]}, {kind: {"cpu": 0.5, "memory": "64Mi"} for kind in ("requests", "limits")}],
    ids=["as written", "requests by default", "another spelling"],
)
def test_what_was_admitted_as_asked_is_no_news(asked: dict[str, Any]) -> None:
    """However it is spelled."""
    assert list(admission([deployment(asked)], mark(pod()))) == []


def test_what_admission_changed_is_named() -> None:
    """A LimitRange or a webhook may change what a service is allowed."""
    (check,) = admission([deployment({"requests": {"cpu": "250m"}})], mark(pod()))
    assert check.warning
    assert "geo: requests cpu 250m became cpu 500m, memory 64Mi" in check.message


def test_a_proxy_beside_a_service_is_named() -> None:
    """As a container, or as an init container that stays; the service's own are no news."""
    item = pod()
    item["spec"]["initContainers"] = [{"name": "linkerd-proxy", "restartPolicy": "Always"}, {"name": "linkerd-init"}]
    item["spec"]["containers"].append({"name": "istio-proxy"})
    (check,) = admission([deployment(SIZE)], mark(item))
    assert (False, True) == (check.ok, check.warning)
    assert "the cluster runs istio-proxy beside geo, linkerd-proxy beside geo" in check.message


def event(at: str, name: str = "geo-7d9-abc", reason: str = "BackOff", kind: str = "Warning") -> dict[str, Any]:
    """Return an event about a pod."""
    about = {"kind": "Pod", "name": name}
    return {"lastTimestamp": at, "involvedObject": about, "reason": reason, "type": kind, "message": "hm"}


def test_events_of_the_window_are_told() -> None:
    """Warnings, and what autoscalers and evictions did; of our objects, in the window."""
    inside, outside = "1970-01-01T00:16:45Z", "1970-01-01T00:18:00Z"  # 1005 s and 1080 s
    told = seen_events(
        [
            event(inside),
            event(outside),
            event(inside, name="other"),
            event(inside, reason="Pulled", kind="Normal"),
            event(inside, reason="SuccessfulRescale", kind="Normal"),
        ],
        WINDOW,
        ["geo"],
    )
    assert told == ["Pod geo-7d9-abc: BackOff: hm", "Pod geo-7d9-abc: SuccessfulRescale: hm"]


def node(status: str = "True", **spec: Any) -> dict[str, Any]:
    """Return a node as the API server tells of it."""
    ready = {"type": "Ready", "status": status, "reason": "KubeletNotReady", "message": "hm", "lastTransitionTime": "T"}
    info = {"kernelVersion": "6.1", "kubeletVersion": "v1.34.4", "bootID": "b"}
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}]
    found = {"conditions": [ready], "nodeInfo": info, "addresses": addresses, "capacity": {"cpu": "2"}}
    return {"metadata": {"name": "n1"}, "spec": spec, "status": found}


def test_facts_of_a_node() -> None:
    """What a reader of a report needs; what is not known is absent."""
    found = facts(node())
    assert (found["kernel"], found["kubelet"], found["address"], found["cpu"]) == ("6.1", "v1.34.4", "10.0.0.1", "2")
    assert found["ready"] is True
    assert "memory" not in found


def test_a_node_that_is_not_ready_is_named() -> None:
    """With since when, and why."""
    assert not_ready(node()) == []
    assert not_ready(node("Unknown")) == ["node n1 is NotReady since T (KubeletNotReady: hm)"]
    assert not_ready(node(unschedulable=True)) == ["node n1 takes no pods (cordoned)"]


def test_nodes_by_role_and_machine() -> None:
    """Names of those with a role; those that were booted with this machine run on it."""
    nodes = (Node("a", ("testbed", "infra"), {"boot_id": "x"}), Node("b", ("load",), {}))
    assert (named(nodes, "infra"), named(nodes, "load")) == (("a",), ("b",))
    assert on_this_machine(nodes, "x") == ("a",)
    assert on_this_machine(nodes, "y") == ()


def plan(app: AppSpec, image: str | None = "mesh:1") -> Any:
    """Return what is wanted of an application."""
    return wanted_app(app, image=image, namespace="ns", run="r", nodes=(), iterations_per_us=lambda: 30.0)


def test_services_of_a_topology_send_traces_where_they_are_told_to() -> None:
    """Each of them, by its own configuration, and each second; without an address they send none."""
    url = "http://jaeger.monitor:4318/v1/traces"
    for told in (url, None):
        wanted = wanted_app(
            AppSpec("hotel"),
            image="mesh:1",
            namespace="ns",
            run="r",
            nodes=(),
            iterations_per_us=lambda: 30.0,
            otlp=told,
        )
        made = [json.loads(item.body["data"]["service.json"]) for item in wanted.manifests if item.kind == "ConfigMap"]
        assert {(told, 1000 if told else None)} == {
            (one["otlp_endpoint"], one.get("export_interval_ms")) for one in made
        }


def test_a_topology_has_its_entry_and_smoke() -> None:
    """And an image, for which there is no default."""
    found = plan(AppSpec("hotel"))
    assert (found.entry, found.mesh, len(found.smoke)) == ("frontend", True, 4)
    with pytest.raises(ConfigurationError, match="--aefm-app-image"):
        plan(AppSpec("hotel"), None)


SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {type: NodePort, ports: [{port: 5000}]}
---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {type: %s, ports: [{port: 16686}]}
"""


@pytest.mark.parametrize(
    ("port", "kind", "entry"),
    [(None, "ClusterIP", "front"), (5000, "NodePort", "front"), (16686, "NodePort", "jaeger")],
)
def test_the_entry_of_manifests_is_found(tmp_path: Any, port: int | None, kind: str, entry: str) -> None:
    """By the experiment's port, or because one Service only is reached from outside."""
    (tmp_path / "app.yaml").write_text(SERVICES % ("jaeger", kind))
    assert plan(AppSpec("x", manifests=str(tmp_path / "app.yaml"), port=port)).entry == entry


def test_an_entry_that_is_not_plain_is_refused(tmp_path: Any) -> None:
    """Two Services that are reached from outside need a port that says which."""
    (tmp_path / "app.yaml").write_text(SERVICES % ("jaeger", "NodePort"))
    with pytest.raises(ConfigurationError, match="2 of its Services are reached from outside"):
        plan(AppSpec("x", manifests=str(tmp_path / "app.yaml")))


def case(*slos: str, cpu: int = 0) -> Case:
    """Return a case with these SLOs and this level of interference."""
    load = LoadSpec("search.lua", 10, 5)
    return Case(
        id="x",
        experiment="x",
        testbed="kubernetes",
        app=AppSpec("hotel"),
        interference=(InterferenceSpec("cpu", cpu),),
        load=load,
        factors={},
        slos=tuple(parse(text) for text in slos),
    )


@pytest.mark.parametrize(
    ("refused", "options", "words"),
    [
        (case(cpu=1), ClusterOptions(), "interference 'cpu': the image of its pods is not known; name it with"),
        (case(cpu=1), ClusterOptions(stress_image="x", namespace="n"), "--aefm-allow-shared"),
        (case(), ClusterOptions(load_from="cluster"), "--aefm-load-image"),
        (case("cpu(rate) < 80%"), ClusterOptions(), "no Prometheus is known; name it with --aefm-prometheus"),
        (case("self_time(rate, p95) < 5ms"), ClusterOptions(prometheus="http://x"), "no Jaeger is known"),
    ],
    ids=["no image", "shared", "no image of load", "no Prometheus", "no traces"],
)
def test_what_cannot_be_done_is_refused_first(refused: Case, options: ClusterOptions, words: str) -> None:
    """With the option that would help."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        refuse_case(refused, options)


def test_what_can_be_done_is_not_refused() -> None:
    """Level 0 needs no image; the experiment may know Prometheus."""
    refuse_case(case("p50 < 1s"), ClusterOptions())
    refuse_case(case("cpu(rate) < 80%", cpu=1), ClusterOptions(stress_image="x", prometheus="http://x"))
