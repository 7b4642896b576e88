"""What lets our pods into a namespace of PodSecurity's ``restricted`` profile, and keeps proxies out of them. Pure."""

from __future__ import annotations

from typing import Any

__all__ = ["UNMESHED_ANNOTATIONS", "UNMESHED_LABELS", "container_security", "pod_security"]

_USER = 65532
"""The user of our images: see ``docker/``."""

UNMESHED_LABELS = {"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"}
UNMESHED_ANNOTATIONS = {
    **UNMESHED_LABELS,
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
