"""What is said of a cluster before a run: from objects as an API server gives them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_aefm.testbeds.kubernetes.amounts import amount, in_words, pod_asks
from pytest_aefm.testbeds.kubernetes.manifests import Manifest, parse_manifests
from pytest_aefm.testbeds.kubernetes.preflight_needs import Needs, Remark, wanted_pods
from pytest_aefm.testbeds.kubernetes.preflight_nodes import examine_nodes, examine_room
from pytest_aefm.testbeds.kubernetes.preflight_rules import (
    examine_controllers,
    examine_limits,
    examine_meshes,
    examine_policies,
    examine_quotas,
    examine_scalers,
)
from pytest_aefm.testbeds.kubernetes.preflight_sources import examine_prometheus, examine_sources
from tests.unit.kube_server import Answering, serving

Json = dict[str, Any]


def node(
    name: str, *, cpu: str = "4", memory: str = "8Gi", kernel: str = "6.1", ready: str = "True", **spec: Any
) -> Json:
    """Return a node."""
    size = {"cpu": cpu, "memory": memory, "pods": "110"}
    conditions = [{"type": "Ready", "status": ready, "message": "kubelet stopped posting"}]
    info = {"kernelVersion": kernel, "architecture": "amd64", "kubeletVersion": "v1.34.4"}
    status = {"capacity": size, "allocatable": size, "conditions": conditions, "nodeInfo": info}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def deployment(name: str, replicas: int, cpu: str, memory: str = "1Gi") -> Manifest:
    """Return a Deployment whose pods ask for this."""
    text = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  template: {{spec: {{containers: [{{name: a, resources: {{limits: {{cpu: {cpu}, memory: {memory}}}}}}}]}}}}
"""
    return parse_manifests(text, "x.yaml")[0]


def said(remarks: Iterable[Remark]) -> list[str]:
    """Return remarks as lines."""
    return [f"{one.state} {one.subject}: {one.found}" for one in remarks]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250m", 0.25), ("2", 2), (4, 4), ("64Mi", 2**26), ("1.5Gi", 1.5 * 2**30), ("1e3", 1000), ("2k", 2000),
     ("100n", 1e-7), ("0", 0), ("1E", 1e18)],
)  # fmt: skip
def test_amounts_are_read(text: object, expected: float) -> None:
    """As Kubernetes writes them."""
    assert expected == pytest.approx(amount(text))


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1Kib", "m"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="not an amount"):
        amount(text)


def test_amounts_are_told_to_persons() -> None:
    """In the unit of their kind."""
    amounts = {"requests.cpu": 0.25, "cpu": 2.0, "memory": 2.0**29, "limits.memory": 1.5 * 2**30, "pods": 3.0}
    assert ["250m cores", "2 cores", "512 MiB", "1.5 GiB", "3"] == [in_words(*one) for one in amounts.items()]


def test_a_pod_asks_as_the_scheduler_counts() -> None:
    """Containers together, or the largest init container; sidecars stay; a limit stands for a missing request."""

    def asks(cpu: str, **more: Any) -> Json:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec: Json = {"containers": [asks("100m"), {"resources": {"limits": {"cpu": "200m"}}}]}
    assert {"cpu": pytest.approx(0.3)} == pod_asks(spec)
    spec["initContainers"] = [asks("1"), asks("500m")]
    assert {"cpu": pytest.approx(1.0)} == pod_asks(spec)
    spec["initContainers"] = [asks("1", restartPolicy="Always")]
    assert {"cpu": pytest.approx(1.3)} == pod_asks({**spec, "overhead": {"cpu": "0"}})
    assert {"cpu": pytest.approx(0.2)} == pod_asks(spec, "limits")


def test_nodes_that_are_well_are_told_in_one_line() -> None:
    """What a reader wants to know of them is in it."""
    nodes = [node("a"), node("b"), node("c", taints=[{"key": "gpu", "effect": "NoSchedule"}])]
    (line,) = said(examine_nodes(nodes, Needs()))
    assert "ok nodes: a, b: Ready and alike: cores 4, kernel 6.1, kubelet v1.34.4, memory 8.0 GiB" == line


def test_a_node_in_trouble_is_named() -> None:
    """Missing, NotReady, cordoned, tainted: each with what helps; nodes that are not used do not matter."""
    taints = [{"key": "gpu", "effect": "NoSchedule"}, {"key": "node.kubernetes.io/x", "effect": "NoExecute"}]
    nodes = [
        node("a", ready="Unknown"),
        node("b", unschedulable=True),
        node("c", taints=taints),
        node("d", ready="False"),
    ]
    remarks = list(examine_nodes(nodes, Needs(nodes=["a", "b", "c", "aa"])))
    assert [
        "bad node aa: is not in the cluster",
        "bad node a: NotReady: kubelet stopped posting",
        "bad node b: is cordoned: it takes no pods",
        "warn node c: tainted gpu:NoSchedule: pods that do not tolerate it are not placed there",
    ] == said(remarks)
    assert all(one.mend for one in remarks)
    assert "did you mean 'a'?" in remarks[0].mend


def test_differences_of_nodes_are_told() -> None:
    """Which differ in what; a little memory is no difference."""
    alike = [node("a"), node("b", memory="8100Mi")]
    assert ["ok"] == [one.state for one in examine_nodes(alike, Needs())]
    nodes = [node("a"), node("b", kernel="6.5", cpu="8"), node("c", memory="16Gi")]
    (line,) = said(examine_nodes(nodes, Needs()))
    assert line.startswith(
        "warn nodes: differ: cores: 4 on a and c, 8 on b; kernel: 6.1 on a and c, 6.5 on b; memory: "
    )


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (Needs(interference=True), ["testbed: none: interference has no node that it may disturb"]),
        (Needs(interference=True, nodes=["a"]), []),
        (Needs(load_pods=2, roles={"testbed": ["a"]}), ["load: none: load from inside"]),
        (Needs(load_pods=2, roles={"testbed": ["a"], "load": ["a", "b"]}), ["load: a: has the role testbed"]),
        (Needs(load_pods=2, roles={"testbed": ["a"], "load": ["b"]}), []),
    ],
)  # fmt: skip
def test_roles_that_a_run_needs(needs: Needs, expected: list[str]) -> None:
    """Interference disturbs only what is named; load never shares a node with what it measures."""
    bad = [line for line in said(examine_nodes([node("a"), node("b")], needs)) if line.startswith("bad ")]
    assert len(expected) == len(bad)
    assert all(text in line for text, line in zip(expected, bad, strict=True))


def test_room_is_counted_by_requests() -> None:
    """What runs already is subtracted, what ended is not; each pod needs one node that holds it."""
    nodes = [node("a", cpu="2"), node("b", cpu="2")]
    spec = {"nodeName": "a", "containers": [{"resources": {"requests": {"cpu": "1"}}}]}
    running, ended = {"spec": spec, "status": {"phase": "Running"}}, {"spec": spec, "status": {"phase": "Succeeded"}}

    def room(*manifests: Manifest, pods: Iterable[Json] = (running, ended), **more: Any) -> list[str]:
        return said(examine_room(nodes, pods, Needs(manifests=manifests, **more)))

    assert ["ok room: for 3 pods, by what they request"] == room(deployment("geo", 3, "1"))
    assert ["warn room: too little is left for these pods: 1 of Deployment 'geo'"] == room(deployment("geo", 4, "1"))
    assert ["ok room: for 4 pods, by what they request"] == room(deployment("geo", 4, "1"), pods=())
    assert ["bad room: no node is as large as a pod of Deployment 'big' requests"] == room(deployment("big", 1, "3"))
    assert ["warn room: too little is left for these pods: 1 of Deployment 'geo'"] == room(
        deployment("geo", 2, "1"), roles={"testbed": ["a"]}
    )


def test_pods_of_manifests_are_counted() -> None:
    """By kind: replicas, parallelism, one a node; what makes no pods has none."""
    text = """
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, spec: {template: {spec: {containers: []}}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {parallelism: 3, template: {spec: {containers: []}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: z}, spec: {replicas: 0, template: {spec: {containers: []}}}}
"""
    assert [2, 3, 1, 0] == [one.count for one in wanted_pods(parse_manifests(text, "x.yaml"), 2)]


def test_quotas_that_are_too_small_are_bad() -> None:
    """What is used, what there may be, what is needed."""
    hard = {"pods": "10", "requests.cpu": "2", "limits.memory": "4Gi", "services": "5"}
    quota = {"metadata": {"name": "q"}, "status": {"hard": hard, "used": {"pods": "1", "requests.cpu": "500m"}}}
    wanted = list(wanted_pods([deployment("geo", 4, "500m", "512Mi")], 1))
    assert ["bad ResourceQuota q: requests.cpu 500m of 2 used, 2 cores needed"] == said(examine_quotas([quota], wanted))
    (line,) = said(examine_quotas([quota], []))
    assert line.startswith("ok ResourceQuota q: pods 1 of 10 used")
    full = {"metadata": {"name": "q"}, "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}}}
    assert ["bad ResourceQuota q: pods 1 of 1 used, none left"] == said(examine_quotas([full], []))


def test_what_a_namespace_does_to_pods_is_told() -> None:
    """Defaults and limits by value, network policies by name."""
    limit = {"type": "Container", "default": {"cpu": "100m"}, "max": {"memory": "1Gi"}}
    (line,) = said(examine_limits([{"metadata": {"name": "l"}, "spec": {"limits": [limit]}}]))
    assert line.endswith("max memory 1Gi for each container; default cpu 100m for each container")
    assert [] == said(examine_policies([]))
    (line,) = said(examine_policies([{"metadata": {"name": "deny"}}, {"metadata": {"name": "dns"}}]))
    assert line.startswith("warn network policies: deny, dns: ")


def scaler(kind: str, name: str, **spec: Any) -> Json:
    """Return what scales the Deployment geo."""
    target = "targetRef" if kind == "VerticalPodAutoscaler" else "scaleTargetRef"
    return {"kind": kind, "metadata": {"name": name}, "spec": {target: {"kind": "Deployment", "name": "geo"}, **spec}}


def test_what_scales_what_is_under_test_is_named() -> None:
    """Pinned ones do nothing; those of others do not matter; the manifests' own do."""
    objects = [
        scaler("HorizontalPodAutoscaler", "h", minReplicas=1, maxReplicas=5),
        scaler("HorizontalPodAutoscaler", "pinned", minReplicas=2, maxReplicas=2),
        scaler("VerticalPodAutoscaler", "v"),
        scaler("VerticalPodAutoscaler", "off", updatePolicy={"updateMode": "Off"}),
        scaler("ScaledObject", "k", maxReplicaCount=9),
    ]
    expected = [
        "warn HorizontalPodAutoscaler h: may set from 1 to 5 replicas of 'geo' in mid-run",
        "warn VerticalPodAutoscaler v: (mode Auto) may evict or resize pods of 'geo' in mid-run",
        "warn ScaledObject k: may set from 0 to 9 replicas of 'geo' in mid-run",
    ]
    assert expected == said(examine_scalers(objects, None))
    assert expected == said(examine_scalers(objects, [deployment("geo", 1, "1")]))
    assert [] == said(examine_scalers(objects, [deployment("rate", 1, "1")]))
    own = {**scaler("HorizontalPodAutoscaler", "own", maxReplicas=3), "apiVersion": "autoscaling/v2"}
    (line,) = said(examine_scalers([], [deployment("geo", 1, "1"), Manifest(own)]))
    assert "from 1 to 3" in line


def test_what_moves_pods_is_named() -> None:
    """By name or image, in whatever namespace; one that is off does nothing."""

    def made(name: str, image: str, replicas: int = 1) -> Json:
        template = {"spec": {"containers": [{"image": image}]}}
        return {"metadata": {"name": name, "namespace": "ops"}, "spec": {"replicas": replicas, "template": template}}

    found = [made("mover", "registry.k8s.io/descheduler/descheduler:v0.30"), made("cluster-autoscaler", "x", 0),
             made("karpenter", "y"), made("web", "nginx")]  # fmt: skip
    assert [("descheduler", "mover"), ("karpenter", "karpenter")] == [
        (one.subject, one.found.split()[1]) for one in examine_controllers(found)
    ]


class Clock(Answering):
    """Answers as a Prometheus whose clock is ``skew_s`` ahead and that has so many ``series`` of containers."""

    skew_s, series = 0.0, 12

    def do_GET(self) -> None:
        """Answer an instant query."""
        asked = urlsplit(self.path)
        if asked.path != "/api/v1/query":
            self.send_error(404)
            return
        (query,) = parse_qs(asked.query)["query"]
        now_s = time.time() + self.skew_s
        scalar, vector = [now_s, str(now_s)], [{"metric": {}, "value": [now_s, str(self.series)]}]
        self.answer({"status": "success", "data": {"result": scalar if query == "time()" else vector}})


@pytest.fixture
def prometheus() -> Iterator[str]:
    """Return the URL of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Clock) as server, serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}/"


def test_a_prometheus_is_asked_for_its_time(prometheus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of its own would give the figures of another window; without cAdvisor there are none of pods."""
    well = examine_prometheus(prometheus)
    assert ("ok", "Prometheus") == (well.state, well.subject)
    monkeypatch.setattr(Clock, "series", 0)
    assert "it has no container_cpu_usage_seconds_total" in examine_prometheus(prometheus).found
    for skew_s in (-30.0, 30.0):
        monkeypatch.setattr(Clock, "skew_s", skew_s)
        (line,) = said([examine_prometheus(prometheus)])
        assert f"warn Prometheus: {prometheus}: its clock is {'+' if skew_s > 0 else '-'}" in line


def test_a_prometheus_that_does_not_answer_is_bad(prometheus: str) -> None:
    """Nobody there, or somebody else."""
    for url in ("http://127.0.0.1:9", f"{prometheus}elsewhere"):
        assert "bad" == examine_prometheus(url).state


class Traces(Answering):
    """Answers ``paths``, as Jaeger, Tempo or a collector of traces."""

    paths: Mapping[str, Any] = {}

    def do_GET(self) -> None:
        """Answer a question."""
        self._say(self.paths.get(urlsplit(self.path).path))

    def do_POST(self) -> None:
        """Take traces."""
        self._say(self.paths.get(self.path))

    def _say(self, content: Any) -> None:
        self.answer(content, 200 if content is not None else 404)


@pytest.fixture
def traces() -> Iterator[str]:
    """Return the URL of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Traces) as server, serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize(
    ("version", "paths"),
    [
        ("v1", {"/api/services": {"data": ["front", "back"]}}),
        ("v3", {"/api/v3/services": {"services": ["front", "x"]}}),
    ],
)
def test_a_jaeger_is_asked_by_what_it_serves(
    traces: str, version: str, paths: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its services are read as every version has them, or by v3 where only that is served."""
    monkeypatch.setattr(Traces, "paths", paths)
    expected = f"ok Jaeger: {traces}: answers by {version}, has traces of 2 services"
    assert [expected] == said(examine_sources(Needs(jaeger=traces)))


def test_a_jaeger_that_does_not_answer_is_bad(traces: str) -> None:
    """Nobody there, or somebody else; one that the application brings along is not there yet."""
    for url in ("http://127.0.0.1:9", traces):
        (line,) = said(examine_sources(Needs(jaeger=url)))
        assert line.startswith(f"bad Jaeger: {url}: ")
    (line,) = said(examine_sources(Needs(jaeger=traces, manifests=[deployment("jaeger", 1, "1")])))
    assert line.startswith("warn Jaeger")


def test_a_tempo_is_searched(traces: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a run does; where it is asked, Jaeger is not. Somebody else is no Tempo."""
    (line,) = said(examine_sources(Needs(tempo=traces, jaeger=traces)))
    assert line.startswith(f"bad Tempo: {traces}: ")
    monkeypatch.setattr(Traces, "paths", {"/api/search": {"traces": []}})
    assert [f"ok Tempo: {traces}: answers, has no traces yet"] == said(examine_sources(Needs(tempo=traces)))


def test_a_collector_of_traces_is_sent_none(traces: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes them, one that does not, and one whose name only the cluster knows."""
    monkeypatch.setattr(Traces, "paths", {"/v1/traces": {}})
    (line,) = said(examine_sources(Needs(otlp=f"{traces}/v1/traces")))
    assert line == f"ok traces' collector: {traces}/v1/traces: takes traces"
    (line,) = said(examine_sources(Needs(otlp=traces)))
    assert line.startswith(f"warn traces' collector: {traces}: ")
    (line,) = said(examine_sources(Needs(otlp="http://collector.monitor.invalid:4318/v1/traces")))
    assert line.endswith("a name of the cluster's, which is not known here: not asked")


def test_service_meshes_are_named() -> None:
    """By the namespace's labels, or by those of pods; what turns them off asks for nothing."""
    labels = {"istio-injection": "enabled"}
    namespace: Json = {"metadata": {"name": "shop", "labels": labels}}
    (line,) = said(examine_meshes(namespace, []))
    assert "warn service mesh: Istio puts proxies beside services, by namespace shop (istio-injection=enabled)" in line
    item = deployment("geo", 1, "1")
    item.body["spec"]["template"]["metadata"] = {"annotations": {"linkerd.io/inject": "enabled"}}
    (line,) = said(examine_meshes({}, [item]))
    assert "Linkerd puts proxies" in line
    assert "'geo' (linkerd.io/inject=enabled)" in line
    labels |= {"istio-injection": "disabled", "kuma.io/sidecar-injection": "disabled"}
    assert [] == said(examine_meshes(namespace, [deployment("geo", 1, "1")]))
