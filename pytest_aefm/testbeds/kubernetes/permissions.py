"""Every permission that the testbed uses: one table, of which the shipped roles are written and accounts are examined.

Two modes: with the cluster role each run makes a namespace of its own; with the namespaced role all of it happens in
one that is there, and what only the cluster knows stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.testbeds.kubernetes.connection import Connection

__all__ = ["LEASE_NAMESPACE", "PERMISSIONS", "Missing", "Permission", "missing_permissions", "rbac_manifests"]

LEASE_NAMESPACE = "aefm-system"
ACCOUNT = "aefm"

_APPLY = ("get", "list", "watch", "create", "patch", "delete")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_AT_ONCE = 4
_NAME = re.compile("[a-z]([a-z0-9-]{0,61}[a-z0-9])?")  # a digit first would be legal, and a number in YAML


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on resources of one group; ``why`` they are used, and what is ``lost`` without.

    ``scope``: ``run`` is the run's namespace, ``lease`` that of the Lease, ``cluster`` all of it. ``use``: ``always``,
    ``namespace`` (the run makes its own), ``kinds`` (manifests have such objects), ``doses`` (interference, load from
    inside), ``forward`` (entry by port-forward), ``reads`` (the run goes on without).
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    lost: str
    scope: str = "run"
    use: str = "always"


def _further(scope: str, why: str, resources: Mapping[str, tuple[str, ...]]) -> Iterator[Permission]:
    """Yield what manifests need that have such objects; roles among them grant no more than the account has."""
    lost = "manifests with such objects cannot be deployed"
    for group, names in resources.items():
        yield Permission(group, names, _APPLY, why, lost, scope, "kinds")


PERMISSIONS: tuple[Permission, ...] = (
    Permission(
        "coordination.k8s.io", ("leases",), ("get", "list", "create", "patch"),
        "one run at a time on a cluster", "no run can begin", "lease",
    ),
    Permission(
        "", ("namespaces",), ("get",),
        "see whether a namespace is there, or on its way out", "no run can begin",
    ),
    Permission(
        "", ("namespaces",), ("get", "list", "create", "patch", "delete"),
        "a namespace for each run; deleted by uid, only what carries the label of a run",
        "each run needs a namespace that is there: --aefm-namespace", "cluster", "namespace",
    ),
    Permission(
        "", ("pods", "services", "configmaps"), _APPLY,
        "an application's objects", "no application can be deployed",
    ),
    Permission(
        "apps", ("deployments", "statefulsets", "daemonsets"), _APPLY,
        "an application's workloads", "no application can be deployed",
    ),
    Permission(
        "", ("events",), ("list", "watch"),
        "why a pod does not get ready", "no deployment can be awaited",
    ),
    Permission(
        "discovery.k8s.io", ("endpointslices",), ("list", "watch"),
        "whether a Service has a pod that is ready", "no deployment can be awaited",
    ),
    Permission(
        "batch", ("jobs",), _APPLY,
        "interference and load are Jobs that end by themselves", "no interference, no load from inside the cluster",
        use="doses",
    ),
    Permission(
        "", ("pods/log",), ("get",),
        "doses and results of load are read from logs; a failed deployment quotes them",
        "no interference, no load from inside the cluster, and no log in messages", use="doses",
    ),
    Permission(
        "chaos-mesh.org", ("stresschaos", "networkchaos"), _APPLY,
        "what an experiment has Chaos Mesh do", "no interference of the kind chaos", use="reads",
    ),
    *_further("run", "further objects of an application", {
        "": ("secrets", "serviceaccounts", "persistentvolumeclaims"),
        "batch": ("cronjobs",),
        "networking.k8s.io": ("ingresses", "networkpolicies"),
        "policy": ("poddisruptionbudgets",),
        "autoscaling": ("horizontalpodautoscalers",),
        "rbac.authorization.k8s.io": ("roles", "rolebindings"),
    }),
    *_further("cluster", "an application's objects outside of namespaces", {
        "": ("persistentvolumes",),
        "apiextensions.k8s.io": ("customresourcedefinitions",),
        "scheduling.k8s.io": ("priorityclasses",),
        "storage.k8s.io": ("storageclasses",),
        "rbac.authorization.k8s.io": ("clusterroles", "clusterrolebindings"),
    }),
    Permission(
        "", ("pods/portforward",), ("get", "create"),
        "reach an application that has no entry from outside", "no --aefm-entry port-forward", use="forward",
    ),
    Permission(
        "", ("pods/proxy",), ("get", "create"),
        "faults of a mesh's services, and how requests spread over the pods of its entry",
        "no interference of the kind fault, and requests per pod of the entry are not recorded", use="reads",
    ),
    Permission(
        "", ("resourcequotas", "limitranges"), ("list",),
        "what a namespace admits is said before it refuses", "a quota is found when it refuses pods", use="reads",
    ),
    Permission(
        "apps", ("replicasets",), ("list",),
        "which workload a pod belongs to", "pods are told apart by their labels alone", use="reads",
    ),
    Permission(
        "autoscaling.k8s.io", ("verticalpodautoscalers",), ("list",),
        "what changes pods in the middle of a run", "a vertical autoscaler is not noticed", use="reads",
    ),
    Permission(
        "keda.sh", ("scaledobjects",), ("list",),
        "what changes replicas in the middle of a run", "KEDA is not noticed", use="reads",
    ),
    Permission(
        "", ("nodes",), ("get", "list"),
        "facts of the nodes, whether they are Ready and alike, their addresses",
        "facts of the nodes are absent, NotReady ones are not noticed, and an entry by NodePort needs its address",
        "cluster", "reads",
    ),
    Permission(
        "", ("pods",), ("list",),
        "whose pods share a node with interference, and what room they leave",
        "interference needs --aefm-allow-shared, and what does not fit is found late", "cluster", "reads",
    ),
    Permission(
        "", ("events",), ("list",),
        "pressure on nodes", "pressure on nodes is not recorded", "cluster", "reads",
    ),
    Permission(
        "apps", ("deployments",), ("list",),
        "autoscalers and deschedulers of the cluster", "an autoscaler of nodes or a descheduler is not noticed",
        "cluster", "reads",
    ),
    Permission(
        "coordination.k8s.io", ("leases",), ("list",),
        "which runs live, before what dead ones left is removed", "aefm clean needs --namespace", "cluster", "reads",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Missing:
    """Verbs on a resource that an account lacks, of one row of the table."""

    permission: Permission
    resource: str
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        group = f".{self.permission.group}" if self.permission.group else ""
        return f"{', '.join(self.verbs)} {self.resource}{group}"


def missing_permissions(
    connection: Connection, rows: Iterable[Permission], namespace: str | None, lease_namespace: str
) -> list[Missing]:
    """Ask the server what of ``rows`` this account may not do; ``namespace`` None: in all namespaces.

    Raises:
        ApiError: it cannot be asked.
    """
    wanted = list(rows)
    if _may(connection, "*", "*", "*", "", ""):
        return []
    asked = [(row, resource, verb) for row in wanted for resource, verb in product(row.resources, row.verbs)]

    def allowed(one: tuple[Permission, str, str]) -> bool:
        row, resource, verb = one
        inside = {"run": namespace or "", "lease": lease_namespace, "cluster": ""}[row.scope]
        name = inside if resource == "namespaces" else ""
        return _may(connection, verb, row.group, resource, inside, name)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip(asked, pool.map(allowed, asked), strict=True))
    found = []
    for row in wanted:
        for resource in row.resources:
            verbs = tuple(verb for verb in row.verbs if not answers[row, resource, verb])
            found += [Missing(row, resource, verbs)] if verbs else []
    return found


def _may(connection: Connection, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
    main, _, sub = resource.partition("/")
    wish = {"verb": verb, "group": group, "resource": main, "subresource": sub, "namespace": namespace, "name": name}
    spec = {"resourceAttributes": {key: value for key, value in wish.items() if value}}
    kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    return bool((connection.create(_REVIEWS, {**kind, "spec": spec}).get("status") or {}).get("allowed"))


def rbac_manifests(namespace: str | None = None) -> str:
    """Return the account and its role as YAML: for one namespace that is there, or for the whole cluster.

    Raises:
        ConfigurationError: no namespace can have this name.
    """
    if namespace is not None and not _NAME.fullmatch(namespace):
        raise ConfigurationError("namespace", repr(namespace), "small letters, digits and -, a letter first")
    home = namespace or LEASE_NAMESPACE
    scopes = ("run", "lease", "cluster") if namespace is None else ("run", "lease")
    rows = [row for row in PERMISSIONS if row.scope in scopes]
    role, binding = ("ClusterRole", "ClusterRoleBinding") if namespace is None else ("Role", "RoleBinding")
    where = [] if namespace is None else [f"  namespace: {namespace}"]
    api = "apiVersion: rbac.authorization.k8s.io/v1"
    if namespace is None:
        lines = [
            "# What pytest-aefm needs where each run has a namespace of its own. Kinds that are defined by others",
            "# (custom resources) need rules beside these.",
            *("apiVersion: v1", "kind: Namespace", "metadata:", f"  name: {home}", "---"),
        ]
    else:
        lines = [
            f"# What pytest-aefm needs where all runs use one namespace: --aefm-namespace {namespace}",
            f"# --aefm-lease-namespace {namespace}. Nodes, and what lies outside of the namespace, stay unknown.",
        ]
    lines += ["apiVersion: v1", "kind: ServiceAccount", "metadata:", f"  name: {ACCOUNT}", f"  namespace: {home}"]
    lines += ["---", api, f"kind: {role}", "metadata:", f"  name: {ACCOUNT}", *where, "rules:"]
    for row in rows:
        lines += _rule(row)
    lines += ["---", api, f"kind: {binding}", "metadata:", f"  name: {ACCOUNT}", *where]
    lines += ["roleRef:", "  apiGroup: rbac.authorization.k8s.io", f"  kind: {role}", f"  name: {ACCOUNT}"]
    lines += ["subjects:", "  - kind: ServiceAccount", f"    name: {ACCOUNT}", f"    namespace: {home}"]
    return "\n".join(lines) + "\n"


def _rule(row: Permission) -> Sequence[str]:
    group, resources, verbs = row.group or '""', ", ".join(row.resources), ", ".join(row.verbs)
    return (
        f"  # {row.why}",
        f"  - apiGroups: [{group}]",
        f"    resources: [{resources}]",
        f"    verbs: [{verbs}]",
    )
