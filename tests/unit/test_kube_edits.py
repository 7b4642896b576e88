"""An experiment's edits change what they say and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.cli import main
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import AppSpec
from pytest_aefm.testbeds.kubernetes.application import default_namespace
from pytest_aefm.testbeds.kubernetes.edits import (
    CLUSTER_SCOPED,
    Edits,
    edit,
    edits_of,
    labelled,
    on_nodes,
    with_image,
    with_namespace,
    with_pull_policy,
    with_replicas,
    with_resources,
)
from pytest_aefm.testbeds.kubernetes.manifests import Manifest, parse_manifests

APP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: geo, namespace: elsewhere}
spec:
  template:
    metadata: {labels: {app: geo}}
    spec:
      initContainers: [{name: wait, image: APP_IMG}]
      containers:
        - {name: geo, image: APP_IMG, resources: {limits: {cpu: 2, nvidia.com/gpu: 1}}}
        - {name: side, image: "side:1", imagePullPolicy: Always}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mongo, labels: {aefm.dev/role: infra}}
spec:
  template: {spec: {containers: [{name: mongo, image: "mongo:4"}]}}
  volumeClaimTemplates: [{metadata: {name: data}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: seed}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: seed, image: APP_IMG}]}}}}}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: reader}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}, {kind: ServiceAccount, name: o, namespace: other},
           {kind: User, name: me}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: moons.example.org}
spec: {group: example.org, scope: Cluster, names: {kind: Moon, plural: moons}}
---
{apiVersion: example.org/v1, kind: Moon, metadata: {name: io}}
"""


@pytest.fixture
def app() -> tuple[Manifest, ...]:
    """Return manifests of every kind that edits tell apart."""
    return tuple(parse_manifests(APP, "app.yaml"))


def pod(manifests: tuple[Manifest, ...], name: str) -> dict[str, Any]:
    """Return the pod's spec of the object of a name."""
    (item,) = (one for one in manifests if one.name == name)
    value: Any = item.body
    for step in (*(item.template_steps or ()), "spec"):
        value = value[step]
    assert isinstance(value, dict)
    return value


def test_namespace_takes_all_that_lies_in_one(app: tuple[Manifest, ...]) -> None:
    """Cluster-scoped objects stay out, also those of a kind that a definition beside them calls so."""
    found = {one.name: one.namespace for one in with_namespace(app, "here")}
    assert (
        dict.fromkeys(("geo", "mongo", "seed", "reader"), "here")
        | dict.fromkeys(("disk", "readers", "moons.example.org", "io"))
        == found
    )


def test_bindings_follow_their_accounts(app: tuple[Manifest, ...]) -> None:
    """A subject that is one of the manifests' accounts is bound where it now lies; others are left alone."""
    (binding,) = (one for one in with_namespace(app, "here") if one.name == "readers")
    assert ["here", "other", None] == [subject.get("namespace") for subject in binding.body["subjects"]]


def test_a_namespace_among_the_manifests_is_refused() -> None:
    """A run deletes only a namespace that it made."""
    with pytest.raises(
        ConfigurationError, match=r"x:1 \(document 1\): Namespace 'a': a run deploys into one namespace"
    ):
        with_namespace(tuple(parse_manifests("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", "x")), "here")


def test_image_replaces_app_img_only(app: tuple[Manifest, ...]) -> None:
    """Containers, those that run before, and those of jobs get the image; others keep theirs."""
    edited = with_image(app, "hotel:2")
    geo = pod(edited, "geo")
    assert ["hotel:2"] == [one["image"] for one in geo["initContainers"]]
    assert ["hotel:2", "side:1"] == [one["image"] for one in geo["containers"]]
    assert ["hotel:2"] == [one["image"] for one in pod(edited, "seed")["containers"]]


def test_app_img_without_an_image_is_refused(app: tuple[Manifest, ...]) -> None:
    """The message says where it is written and which key is missing."""
    with pytest.raises(ConfigurationError) as caught:
        with_image(app, None)
    where = "app.yaml:1 (document 1): Deployment 'geo': spec.template.spec.initContainers[0].image"
    what = "is APP_IMG, and the experiment names no image; add app_img to the experiment"
    assert f"{where}: {what}" == str(caught.value)


def test_resources_are_those_under_test(app: tuple[Manifest, ...]) -> None:
    """Requests equal limits under test, other resources stay; infra keeps what it has."""
    edited = with_resources(app, "100m", "200Mi")
    first, second = (one["resources"] for one in pod(edited, "geo")["containers"])
    wanted = {"cpu": "100m", "memory": "200Mi"}
    assert {"requests": wanted, "limits": {**wanted, "nvidia.com/gpu": 1}} == first
    assert {"requests": wanted, "limits": wanted} == second
    assert "resources" not in pod(edited, "mongo")["containers"][0]


def test_only_the_resource_that_is_given_changes(app: tuple[Manifest, ...]) -> None:
    """Memory alone leaves the processor as written."""
    (first, _) = (one["resources"] for one in pod(with_resources(app, None, "1Gi"), "geo")["containers"])
    assert {"limits": {"cpu": 2, "nvidia.com/gpu": 1, "memory": "1Gi"}, "requests": {"memory": "1Gi"}} == first


def test_sizes_are_spelt_as_quantities() -> None:
    """A part of a core is in thousandths, at least one; bytes are whole; texts are left alone."""
    spec = {"cpu_size": 0.1, "mem_size": 200 * 2**20}
    assert ("100m", str(200 * 2**20)) == sizes(spec)
    assert ("1m", "200Mi") == sizes({"cpu_size": 0.0001, "mem_size": "200Mi"})
    assert ("2", None) == sizes({"cpu_size": 2.0})


def sizes(pod_spec: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the processor and memory that edits have for a pod_spec."""
    edits = edits_of(AppSpec("x", pod_spec=pod_spec), "ns", "1")
    return edits.cpu, edits.memory


def test_replicas_by_name(app: tuple[Manifest, ...]) -> None:
    """Deployments and StatefulSets take replicas by name."""
    edited = with_replicas(app, {"geo": 4, "mongo": 0})
    assert [4, 0, None] == [one.body["spec"].get("replicas") for one in edited[:3]]


def test_replicas_of_nothing_are_refused(app: tuple[Manifest, ...]) -> None:
    """A misspelt name is answered with the nearest."""
    with pytest.raises(ConfigurationError, match=r"replicas\.geos: no Deployment .* did you mean 'geo'\?"):
        with_replicas(app, {"geos": 1})


def test_roles_have_nodes_of_their_own(app: tuple[Manifest, ...]) -> None:
    """Pods are required to run on the nodes of their role."""
    edits = edits_of(AppSpec("x"), "ns", "1", [("n1", ("testbed", "infra")), ("n2", ("testbed",))])
    edited = on_nodes(app, edits.nodes)
    found = {name: required(pod(edited, name))[0]["matchExpressions"][0]["values"] for name in ("geo", "mongo", "seed")}
    assert {"geo": ["n1", "n2"], "mongo": ["n1"], "seed": ["n1", "n2"]} == found


def required(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the node selector terms of a pod."""
    found = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert isinstance(found, list)
    return found


def test_affinity_that_is_there_holds_still() -> None:
    """Terms are alternatives: each gets the requirement beside its own; preferences and pod affinity stay."""
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    own = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"matchFields": []}]
    affinity = {"nodeAffinity": {key: {"nodeSelectorTerms": own}, "p": 1}, "podAntiAffinity": {"x": 1}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"affinity": affinity}}
    before = copy.deepcopy(body)
    (edited,) = on_nodes((Manifest(body),), {"under_test": ["n1"]})
    ours = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
    spec = edited.body["spec"]
    assert [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}, ours]},
        {"matchFields": [], "matchExpressions": [ours]},
    ] == required(spec)
    assert (1, {"x": 1}) == (spec["affinity"]["nodeAffinity"]["p"], spec["affinity"]["podAntiAffinity"])
    assert before == body


def test_a_role_without_a_node_is_refused(app: tuple[Manifest, ...]) -> None:
    """Nodes were named, none for infra: its pods would never be scheduled."""
    edits = edits_of(AppSpec("x"), "ns", "1", [("n1", ("testbed",))])
    with pytest.raises(ConfigurationError, match="StatefulSet 'mongo': no node of the experiment has the role infra"):
        on_nodes(app, edits.nodes)


def test_labels_are_on_everything(app: tuple[Manifest, ...]) -> None:
    """Objects, their pods and their volume claims say run, role and application; other labels stay."""
    edited = labelled(app, "r1", "hotel")
    for one in edited:
        expected = {"aefm.dev/run": "r1", "aefm.dev/role": one.role, "aefm.dev/app": "hotel"}
        assert expected == one.body["metadata"]["labels"]
    ours = {"aefm.dev/run": "r1", "aefm.dev/role": "under_test", "aefm.dev/app": "hotel"}
    assert {"app": "geo", **ours} == edited[0].body["spec"]["template"]["metadata"]["labels"]
    assert "r1" == edited[1].body["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]["aefm.dev/run"]


def test_images_are_pulled_only_where_they_are_missing(app: tuple[Manifest, ...]) -> None:
    """Every container has the policy IfNotPresent, whatever was written."""
    edited = with_pull_policy(app)
    geo = pod(edited, "geo")
    assert {"IfNotPresent"} == {one["imagePullPolicy"] for one in [*geo["containers"], *geo["initContainers"]]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("[]", "spec: got []; expected a mapping"),
        ("{template: {spec: {containers: geo}}}", "spec.template.spec.containers: got 'geo'; expected a list"),
        ("{template: {spec: {containers: [geo]}}}", "spec.template.spec.containers[0]: got 'geo'; expected a mapping"),
        ("{template: {spec: {containers: [{resources: 1}]}}}",
         "spec.template.spec.containers[0].resources: got 1; expected a mapping"),
        ("{template: {spec: {affinity: 1}}}", "spec.template.spec.affinity: got 1; expected a mapping"),
        ("{template: {metadata: 1, spec: {}}}", "spec.template.metadata: got 1; expected a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_is_refused(spec: str, message: str) -> None:
    """The message names file, document, object and field."""
    text = f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: geo}}\nspec: {spec}"
    edits = Edits("ns", "1", "x", cpu="1", nodes={"under_test": ["n1"]})
    with pytest.raises(ConfigurationError) as caught:
        edit(tuple(parse_manifests(text, "geo.yaml")), edits)
    assert f"geo.yaml:1 (document 1): Deployment 'geo': {message}" == str(caught.value)


_EDITS: list[Callable[[tuple[Manifest, ...]], tuple[Manifest, ...]]] = [
    lambda found: with_namespace(found, "here"),
    lambda found: with_image(found, "hotel:2"),
    with_pull_policy,
    lambda found: with_resources(found, "1", "1Gi"),
    lambda found: with_replicas(found, {"geo": 2}),
    lambda found: labelled(found, "r1", "hotel"),
]


@given(st.lists(st.sampled_from(_EDITS), max_size=8))
def test_edits_are_pure_and_settle(edits: list[Callable[[tuple[Manifest, ...]], tuple[Manifest, ...]]]) -> None:
    """In any order edits leave their input alone, and doing the last one again changes nothing."""
    found = tuple(parse_manifests(APP, "app.yaml"))
    for change in edits:
        before = copy.deepcopy(found)
        edited = change(found)
        assert before == found
        assert edited == change(edited)
        found = edited
    assert len(found) == len(parse_manifests(APP, "app.yaml"))


def test_kinds_of_another_group_are_left_alone() -> None:
    """A Deployment that is not Kubernetes' own has no pod template that we know of."""
    text = "{apiVersion: example.org/v1, kind: Deployment, metadata: {name: x}, spec: {template: 1}}"
    (edited,) = edit(tuple(parse_manifests(text, "x")), Edits("ns", "1", "x", cpu="1"), CLUSTER_SCOPED)
    assert 1 == edited.body["spec"]["template"]


def test_the_namespace_of_a_run_is_a_legal_name() -> None:
    """Whatever the application is called, at most 63 lower-case letters, digits and dashes."""
    assert "aefm-my-shop-20261122-1" == default_namespace("My_Shop", "20261122-1")
    assert 63 >= len(default_namespace("x" * 80, "1"))


EXPERIMENT = """\
app: shop
file_paths: {yaml_repo: manifests}
app_img: shop:2
pod_spec: {cpu_size: 0.1, mem_size: 200Mi}
nodes: [{name: n1, roles: [testbed, infra]}]
script: hotel/search.lua
rate: [20]
duration: 20s
slos: none
"""


def test_aefm_manifests_prints_what_would_be_applied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`aefm manifests` finds the folder beside the experiment and prints its edited documents."""
    for role, name in (("infra", "mongo"), ("under_test", "geo")):
        folder = tmp_path / "manifests" / role
        folder.mkdir(parents=True)
        body = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{image: APP_IMG}}]}}"
        (folder / f"{name}.yaml").write_text(body)
    (tmp_path / "shop.yaml").write_text(EXPERIMENT)
    assert 0 == main(["manifests", str(tmp_path / "shop.yaml"), "--run", "r1"])
    infra, geo = parse_manifests(capsys.readouterr().out, "printed")
    assert ("infra", "under_test") == (infra.role, geo.role)
    assert ("aefm-shop-r1", "shop:2") == (geo.namespace, geo.body["spec"]["containers"][0]["image"])
    assert {"cpu": "100m", "memory": "200Mi"} == geo.body["spec"]["containers"][0]["resources"]["limits"]


def test_aefm_manifests_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there is one line, and exit status 1."""
    (tmp_path / "shop.yaml").write_text(EXPERIMENT)
    assert 1 == main(["manifests", str(tmp_path / "shop.yaml")])
    assert f"manifests 'manifests' not found; expected a folder or file at one of {tmp_path}" in capsys.readouterr().err
