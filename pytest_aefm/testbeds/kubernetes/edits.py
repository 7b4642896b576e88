"""What an experiment changes in manifests before they are applied: pure functions, manifests in, manifests out.

They are AEFM's edits: namespace, resources, image, pull policy, replicas, nodes by role; and our labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.experiment.source import shorten
from pytest_aefm.model import AppSpec
from pytest_aefm.testbeds.kubernetes.manifests import INFRA, ROLE_LABEL, UNDER_TEST, Manifest, Steps

__all__ = [
    "APP_IMG",
    "APP_LABEL",
    "CLUSTER_SCOPED",
    "RUN_LABEL",
    "Edits",
    "edit",
    "edits_of",
    "labelled",
    "on_nodes",
    "with_image",
    "with_namespace",
    "with_pull_policy",
    "with_replicas",
    "with_resources",
]

RUN_LABEL, APP_LABEL = "aefm.dev/run", "aefm.dev/app"
APP_IMG = "APP_IMG"
"""The image's name in manifests that leave it to the experiment."""

CLUSTER_SCOPED = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "StorageClass"),
        ("storage.k8s.io", "VolumeAttachment"),
    }
)
"""(group, kind) of Kubernetes' own objects that lie in no namespace."""

Manifests = tuple[Manifest, ...]
Body = dict[str, Any]


@dataclass(frozen=True)
class Edits:
    """All that an experiment wants changed. ``nodes`` maps a role (infra, under_test) to names of nodes."""

    namespace: str
    run: str
    app: str
    image: str | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    cpu: str | None = None
    memory: str | None = None
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def edits_of(app: AppSpec, namespace: str, run: str, nodes: Iterable[tuple[str, Collection[str]]] = ()) -> Edits:
    """Return the edits that an application asks for; ``nodes`` are names with AEFM's roles, testbed and infra.

    Raises:
        ConfigurationError: nodes are named, and none of them has a role that pods need.
    """
    cpu, memory = app.pod_spec.get("cpu_size"), app.pod_spec.get("mem_size")
    named = list(nodes)
    by_role = {
        role: [name for name, roles in named if theirs in roles]
        for role, theirs in ((INFRA, "infra"), (UNDER_TEST, "testbed"))
    }
    return Edits(
        namespace=namespace,
        run=run,
        app=app.name,
        image=app.image,
        replicas=app.replicas,
        cpu=None if cpu is None else quantity(cpu, milli=True),
        memory=None if memory is None else quantity(memory),
        nodes=by_role if named else {},
    )


def quantity(value: Any, *, milli: bool = False) -> str:
    """Return a number as Kubernetes spells it: cores as ``250m`` where they are no whole number, bytes in whole."""
    if isinstance(value, str):
        return value
    if float(value).is_integer():
        return str(int(value))
    return f"{max(1, round(float(value) * 1000))}m" if milli else str(round(float(value)))


def edit(manifests: Manifests, edits: Edits, cluster_scoped: Collection[tuple[str, str]] = CLUSTER_SCOPED) -> Manifests:
    """Apply all edits.

    Raises:
        ConfigurationError: a manifest cannot be edited so, with file, document and field.
    """
    manifests = with_namespace(manifests, edits.namespace, cluster_scoped)
    manifests = with_replicas(manifests, edits.replicas)
    manifests = with_image(manifests, edits.image)
    manifests = with_resources(manifests, edits.cpu, edits.memory)
    manifests = with_pull_policy(manifests)
    manifests = on_nodes(manifests, edits.nodes)
    return labelled(manifests, edits.run, edits.app)


def with_namespace(
    manifests: Manifests, namespace: str, cluster_scoped: Collection[tuple[str, str]] = CLUSTER_SCOPED
) -> Manifests:
    """Put all that lies in a namespace into this one; bindings follow their service accounts.

    What a CustomResourceDefinition among the manifests calls cluster-scoped stays so.

    Raises:
        ConfigurationError: a Namespace is among them: a run has one of its own.
    """
    own = {
        (item.body["spec"]["group"], item.body["spec"]["names"]["kind"]) for item in manifests if _is_cluster_crd(item)
    }
    without = {*cluster_scoped, *own}
    accounts = {item.name for item in manifests if item.kind == "ServiceAccount"}

    def change(item: Manifest) -> Manifest:
        if (item.group, item.kind) == ("", "Namespace"):
            raise item.error(
                (), "a run deploys into one namespace, which is not among the manifests", None, "remove it"
            )
        scoped = (item.group, item.kind) in without
        return item.edited(lambda body: _put(body, namespace, scoped, accounts))

    return tuple(change(item) for item in manifests)


def _is_cluster_crd(item: Manifest) -> bool:
    """Whether it defines a kind that lies in no namespace; what is malformed the API server refuses."""
    spec = item.body.get("spec")
    if item.kind != "CustomResourceDefinition" or not isinstance(spec, dict) or spec.get("scope") != "Cluster":
        return False
    names = spec.get("names")
    return isinstance(names, dict) and "kind" in names and "group" in spec


def _put(body: Body, namespace: str, scoped: bool, accounts: Collection[str]) -> None:
    if not scoped:
        body["metadata"]["namespace"] = namespace
    if body["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
        return
    for subject in body.get("subjects") or ():
        account = isinstance(subject, dict) and subject.get("kind") == "ServiceAccount"
        if account and (subject.get("name") in accounts or not subject.get("namespace")):
            subject["namespace"] = namespace


def with_replicas(manifests: Manifests, replicas: Mapping[str, int]) -> Manifests:
    """Set the replicas of Deployments and StatefulSets by name.

    Raises:
        ConfigurationError: there is none of a name.
    """
    scalable = [item for item in manifests if item.kind in ("Deployment", "StatefulSet") and item.group == "apps"]
    names = {item.name for item in scalable}
    for name in replicas:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            hint = did_you_mean(name, names) or f"there are: {known}"
            raise ConfigurationError(f"replicas.{name}", "no Deployment or StatefulSet of this name", None, hint)

    def change(item: Manifest) -> Manifest:
        if item not in scalable or item.name not in replicas:
            return item
        spec = _mapping(item, ("spec",))
        return item.edited(lambda body: body.update(spec={**spec, "replicas": replicas[item.name]}))

    return tuple(change(item) for item in manifests)


def with_image(manifests: Manifests, image: str | None) -> Manifests:
    """Replace the image of containers whose image is APP_IMG.

    Raises:
        ConfigurationError: there is such a container, and the experiment names no image.
    """

    def change(item: Manifest, steps: Steps, container: Body) -> None:
        if container.get("image") == APP_IMG:
            if image is None:
                what = f"is {APP_IMG}, and the experiment names no image"
                raise item.error((*steps, "image"), what, None, "add app_img to the experiment")
            container["image"] = image

    return _each_container(manifests, change, init=True)


def with_pull_policy(manifests: Manifests, policy: str = "IfNotPresent") -> Manifests:
    """Set when images are pulled, for every container."""

    def change(item: Manifest, steps: Steps, container: Body) -> None:
        container["imagePullPolicy"] = policy

    return _each_container(manifests, change, init=True)


def with_resources(manifests: Manifests, cpu: str | None, memory: str | None) -> Manifests:
    """Set requests = limits of the containers under test; what is None stays as it is written."""
    wanted = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value is not None}

    def change(item: Manifest, steps: Steps, container: Body) -> None:
        if item.role != UNDER_TEST:
            return
        resources = _mapping_in(item, container, "resources", steps)
        for name in ("requests", "limits"):
            given = _mapping_in(item, resources, name, (*steps, "resources"))
            resources[name] = {**given, **wanted}
        container["resources"] = resources

    return _each_container(manifests, change, init=False) if wanted else manifests


def on_nodes(manifests: Manifests, nodes: Mapping[str, Sequence[str]]) -> Manifests:
    """Require that pods of a role run on its nodes, beside whatever affinity they have; no roles: no change.

    Raises:
        ConfigurationError: there are pods of a role, and no node for them.
    """
    if not nodes:
        return manifests

    def change(item: Manifest) -> Manifest:
        steps = item.template_steps
        if steps is None:
            return item
        names = nodes.get(item.role, ())
        if not names:
            role = "infra" if item.role == INFRA else "testbed"
            raise item.error(
                (), f"no node of the experiment has the role {role}", None, f"give {role} to one of its nodes"
            )
        requirement = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(names)}
        return item.edited(
            lambda body: _require(item, _at(item, body, (*steps, "spec")), requirement, (*steps, "spec"))
        )

    return tuple(change(item) for item in manifests)


def _require(item: Manifest, spec: Body, requirement: Body, steps: Steps) -> None:
    """Add a requirement to each node selector term: terms are alternatives, the expressions in one hold together."""
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = _mapping_in(item, spec, "affinity", steps)
    node = _mapping_in(item, affinity, "nodeAffinity", (*steps, "affinity"))
    required = _mapping_in(item, node, key, (*steps, "affinity", "nodeAffinity"))
    terms = required.get("nodeSelectorTerms") or [{}]
    if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
        where = (*steps, "affinity", "nodeAffinity", key, "nodeSelectorTerms")
        raise item.error(where, f"got {shorten(terms)}", "a list of mappings")
    required["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), requirement]} for term in terms
    ]
    node[key], affinity["nodeAffinity"], spec["affinity"] = required, node, affinity


def labelled(manifests: Manifests, run: str, app: str) -> Manifests:
    """Label every object, every pod that it makes, and every volume claim, by run, role and application."""

    def change(item: Manifest) -> Manifest:
        labels = {RUN_LABEL: run, ROLE_LABEL: item.role, APP_LABEL: app}

        def add(body: Body) -> None:
            _label(item, body, labels, ())
            steps = item.template_steps
            if steps:
                _label(item, _at(item, body, steps), labels, steps)
            if item.kind == "StatefulSet":
                claims = _at(item, body, ("spec",)).get("volumeClaimTemplates")
                for index, claim in _items(item, claims, ("spec", "volumeClaimTemplates")):
                    _label(item, claim, labels, ("spec", "volumeClaimTemplates", index))

        return item.edited(add)

    return tuple(change(item) for item in manifests)


def _label(item: Manifest, body: Body, labels: Mapping[str, str], steps: Steps) -> None:
    metadata = _mapping_in(item, body, "metadata", steps)
    metadata["labels"] = {**_mapping_in(item, metadata, "labels", (*steps, "metadata")), **labels}
    body["metadata"] = metadata


def _each_container(manifests: Manifests, change: Callable[[Manifest, Steps, Body], None], *, init: bool) -> Manifests:
    """Change every container of every pod template; ``init`` takes those that run before, too."""

    def all_of(item: Manifest) -> Manifest:
        steps = item.template_steps
        if steps is None:
            return item

        def walk(body: Body) -> None:
            spec = _at(item, body, (*steps, "spec"))
            for key in ("initContainers", "containers") if init else ("containers",):
                for index, container in _items(item, spec.get(key), (*steps, "spec", key)):
                    change(item, (*steps, "spec", key, index), container)

        return item.edited(walk)

    return tuple(all_of(item) for item in manifests)


def _items(item: Manifest, value: Any, steps: Steps) -> Iterator[tuple[int, Body]]:
    if value is None:
        return
    if not isinstance(value, list):
        raise item.error(steps, f"got {shorten(value)}", "a list")
    for index, one in enumerate(value):
        if not isinstance(one, dict):
            raise item.error((*steps, index), f"got {shorten(one)}", "a mapping")
        yield index, one


def _at(item: Manifest, body: Body, steps: Steps) -> Body:
    """Return the mapping at a place of a body, which must be there."""
    value: Any = body
    for depth, step in enumerate(steps, 1):
        value = value.get(step)
        if not isinstance(value, dict):
            raise item.error(steps[:depth], f"got {shorten(value)}", "a mapping")
    return value  # type: ignore[no-any-return]  # the loop has checked it


def _mapping(item: Manifest, steps: Steps) -> Body:
    return _at(item, item.body, steps)


def _mapping_in(item: Manifest, outer: Body, key: str, steps: Steps) -> Body:
    """Return a copy of the mapping under a key, empty where there is none."""
    value = outer.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise item.error((*steps, key), f"got {shorten(value)}", "a mapping")
    return dict(value)
