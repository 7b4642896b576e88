"""What lets our pods into a namespace of PodSecurity's ``restricted`` profile. Pure."""

from __future__ import annotations

from typing import Any

__all__ = ["container_security", "pod_security"]

_USER = 65532
"""The user of our images: see ``docker/``."""


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
