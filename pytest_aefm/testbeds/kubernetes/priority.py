"""The lowest place in a cluster for what disturbs or drives: PriorityClasses of the run's own, where that is allowed.

Pods of anybody else may take the place of such a pod, and it takes nobody's.
"""

from __future__ import annotations

import time
from typing import Any

from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.removing import Leftover

__all__ = ["make_priority", "wait_known"]

_CLASSES = Resource("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", False)
_VALUE = -1000
_KNOWN_S, _POLL_S = 5.0, 0.05


def make_priority(connection: Connection, run: str, role: str) -> Leftover | None:
    """Make the PriorityClass of a run for a role (interference, load); None where this account may not.

    Raises:
        ApiError: nobody answers.
    """
    name = f"aefm-{run}-{role}".lower()
    body = {
        "apiVersion": _CLASSES.api_version,
        "kind": _CLASSES.kind,
        "metadata": {"name": name, "labels": {RUN_LABEL: run, ROLE_LABEL: role, APP_LABEL: role}},
        "value": _VALUE,
        "preemptionPolicy": "Never",
        "globalDefault": False,
        "description": "Pods of pytest-aefm that disturb or drive: anybody else's come first.",
    }
    try:
        made = connection.apply(_CLASSES.path(name=name), body, MANAGER)
    except ApiError as error:
        if error.status in (401, 403):
            return None
        raise
    return Leftover(run, _CLASSES, None, name, made["metadata"]["uid"])


def wait_known(connection: Connection, namespace: str, template: dict[str, Any]) -> None:
    """Wait until a pod of a template would be admitted: a class that was made just now takes a moment.

    What is refused for another reason, or not to be tried, is left to whoever makes the pod.

    Raises:
        ApiError: nobody answers.
    """
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "generateName": "aefm-try-"}}
    path, deadline = f"/api/v1/namespaces/{namespace}/pods", time.monotonic() + _KNOWN_S
    while time.monotonic() < deadline:
        try:
            connection.create(path, {**pod, "spec": template["spec"]}, dryRun="All")
            return
        except ApiError as error:
            if not 400 <= error.status < 500:
                raise
            if "PriorityClass" not in error.what:
                return
        time.sleep(_POLL_S)
