"""What lets our pods into a namespace of PodSecurity's ``restricted`` profile, and keeps proxies out of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["container_security", "only_on", "pod_security", "unmeshed"]

_USER = 65532
"""The user of our images: see ``docker/``."""

_UNMESHED_LABELS = {"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"}
_UNMESHED_ANNOTATIONS = {
    **_UNMESHED_LABELS,
    "linkerd.io/inject": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}
"""What tells Istio, Kuma, Linkerd and Consul to put no proxy beside a pod: some read labels, some annotations."""


def pod_security() -> dict[str, Any]:
    """Return the ``securityContext`` of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Return the ``securityContext`` of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def unmeshed(labels: Mapping[str, str], annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a pod's metadata: these labels and annotations, and those that keep proxies away."""
    return {
        "labels": {**labels, **_UNMESHED_LABELS},
        "annotations": {**_UNMESHED_ANNOTATIONS, **(annotations or {})},
    }


def only_on(nodes: Iterable[str], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``nodeAffinity`` of a pod that runs on these nodes alone, where ``others`` hold, too."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [here, *others]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": terms}
