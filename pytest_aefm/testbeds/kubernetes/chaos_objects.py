"""An experiment's template for Chaos Mesh becomes objects of a run: in its namespace, of its pods alone. Pure.

They belong to a Job that the dead-man switch keeps: where that ends, the cluster removes them, and Chaos Mesh undoes
what they did. Their specs cannot be changed, so that no deadline of their own could be put off.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.deadman import GRACE_S
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL, Manifest, parse_manifests
from pytest_aefm.testbeds.kubernetes.restricted import container_security, pod_security

__all__ = ["GROUP", "keeper_job", "make_objects", "read_template"]

GROUP, KINDS = "chaos-mesh.org", ("StressChaos", "NetworkChaos")
_PLACE = "interference.chaos.manifest"
_BACKSTOP = "4h"
"""When an object ends by itself, whatever became of its keeper and of the cluster's controllers."""

Json = dict[str, Any]


def read_template(spec: InterferenceSpec, namespace: str) -> list[Manifest]:
    """Return the objects that a template stands for at a level, as they are written.

    Raises:
        ConfigurationError: the text is none, or an object is not one that may be made here.
    """
    try:
        text = string.Template(spec.manifest).substitute(level=spec.count, namespace=namespace)
    except (KeyError, ValueError) as error:
        what = f"unknown placeholder {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(_PLACE, what, "$level and $namespace; $$ for a dollar") from None
    found = parse_manifests(text, _PLACE)
    if not found:
        raise ConfigurationError(_PLACE, "has no object", " or ".join(KINDS))
    for item in found:
        _refuse(item, namespace)
    return found


def _refuse(item: Manifest, namespace: str) -> None:
    if item.group != GROUP or item.kind not in KINDS:
        raise item.error((), f"is of {item.api_version}", f"{' or '.join(KINDS)} of {GROUP}")
    if item.namespace not in (None, namespace):
        raise item.error(("metadata", "namespace"), f"is {item.namespace}", f"none: it is made in {namespace}")
    spec = item.body.get("spec") or {}
    for key in ("duration", "scheduler"):
        if key in spec:
            raise item.error(("spec", key), "is set", None, "leave it out: it lasts as long as its cases do")
    for steps, selector in _selectors(spec):
        names = selector.get("namespaces") or [namespace]
        if list(names) != [namespace]:
            raise item.error((*steps, "namespaces"), f"names {', '.join(map(str, names))}", f"{namespace} alone")
        if others := sorted({"nodes", "nodeSelectors", "pods"} & selector.keys()):
            expected = "labelSelectors, fieldSelectors and the like, which hold for the run's own pods"
            raise item.error((*steps, others[0]), "names pods of others", expected)


def _selectors(spec: Json) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Yield what selects the pods that are disturbed, and those at the other end, each with where it is written."""
    yield ("spec", "selector"), spec.get("selector") or {}
    if spec.get("target"):
        yield ("spec", "target", "selector"), spec["target"].get("selector") or {}


def make_objects(spec: InterferenceSpec, namespace: str, run: str, keeper: Json) -> list[Manifest]:
    """Return a template's objects as they are applied; they go with ``keeper``, a Job.

    Raises:
        ConfigurationError: see :func:`read_template`.
    """
    owner = {"apiVersion": "batch/v1", "kind": "Job", "blockOwnerDeletion": True}
    owner |= {name: keeper["metadata"][name] for name in ("name", "uid")}

    def edit(body: Json) -> None:
        metadata = body["metadata"]
        metadata |= {"namespace": namespace, "ownerReferences": [owner]}
        metadata["labels"] = {**(metadata.get("labels") or {}), **_labels(run)}
        chaos = body.setdefault("spec", {})
        chaos["duration"] = _BACKSTOP
        chaos["selector"] = {**(chaos.get("selector") or {}), "namespaces": [namespace]}
        if chaos.get("target"):
            target = chaos["target"]
            target["selector"] = {**(target.get("selector") or {}), "namespaces": [namespace]}

    return [item.edited(edit) for item in read_template(spec, namespace)]


def keeper_job(name: str, namespace: str, run: str) -> Json:
    """Return a Job without pods that lives as long as it is kept, and takes what belongs to it along."""
    container = {"name": "none", "image": "none", "securityContext": container_security()}
    pod = {"restartPolicy": "Never", "securityContext": pod_security(), "containers": [container]}
    spec = {
        "parallelism": 0,
        "backoffLimit": 0,
        "activeDeadlineSeconds": round(GRACE_S),
        "ttlSecondsAfterFinished": 0,
        "template": {"metadata": {"labels": _labels(run)}, "spec": pod},
    }
    metadata = {"name": name, "namespace": namespace, "labels": _labels(run)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _labels(run: str) -> dict[str, str]:
    return {RUN_LABEL: run, ROLE_LABEL: INTERFERENCE, APP_LABEL: INTERFERENCE}
