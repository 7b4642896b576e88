"""The pods of a run as they are now: one request for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.observing import PodMark, disturbing, pod_states

__all__ = ["list_pods", "pod_mark", "read_pods"]


def read_pods(connection: Connection, namespace: str, run: str) -> PodMark:
    """Read the pods of a run's application.

    Raises:
        ApiError: they may not be read, or nobody answers.
    """
    return pod_mark(list_pods(connection, namespace, run))


def list_pods(connection: Connection, namespace: str, run: str) -> list[dict[str, Any]]:
    """Return all pods of a run, those that disturb included.

    Raises:
        ApiError: they may not be read, or nobody answers.
    """
    items: list[dict[str, Any]] = connection.get(
        f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"{RUN_LABEL}={run}"
    )["items"]
    return items


def pod_mark(listed: Sequence[dict[str, Any]]) -> PodMark:
    """Return the pods of an application among those of its run."""
    return PodMark(pod_states(listed), disturbing(listed))
