"""What a cluster did to a pod of ours that did not end by itself: preempted, evicted, killed. Pure: JSON in, words out.

Such a pod is the apparatus's failure (a trial without it is invalid); one that failed by itself the experiment's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Loss", "disruption", "ending", "killing"]

Json = dict[str, Any]

_SIGNALLED = (137, 143)
"""Exit statuses of what SIGKILL and SIGTERM ended: pods of ours get neither from us while they are wanted."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A pod that is missed: its index in the Job, what became of it, and whether the cluster did that to it."""

    index: int
    what: str
    taken: bool


def disruption(pod: Json) -> str:
    """Say why a pod is taken away: preempted, evicted, its node lost; empty for one that is not."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return ""
    for one in status.get("conditions") or ():
        if one.get("type") == "DisruptionTarget" and one.get("status") == "True":
            return _joined(one.get("reason", "disrupted"), one.get("message"))
    if status.get("phase") == "Failed" and status.get("reason"):
        return _joined(status["reason"], status.get("message"))
    return ""


def killing(pod: Json) -> str:
    """Say which container was killed from outside, for want of memory or by a signal; empty where none was."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled" or ended.get("exitCode") in _SIGNALLED:
            return f"container {one['name']}: {ended.get('reason') or 'killed'}, exit status {ended.get('exitCode')}"
    return ""


def ending(pod: Json) -> tuple[str, bool] | None:
    """Say how a pod ended badly, and whether the cluster did it; None for one that runs or has done its work."""
    status = pod.get("status") or {}
    if why := disruption(pod):
        return f"is taken away: {why}", True
    if why := killing(pod):
        return f"was killed: {why}", True
    states = [one.get("state") or {} for one in status.get("containerStatuses") or ()]
    ended = [state["terminated"] for state in states if state.get("terminated")]
    if status.get("phase") == "Failed":
        why = ", ".join(f"{one.get('reason')}, exit status {one.get('exitCode')}" for one in ended)
        return f"failed: {why or 'no reason given'}", False
    if status.get("phase") == "Succeeded" or ended:
        return None
    return ("was deleted by somebody else", True) if "deletionTimestamp" in pod["metadata"] else None


def _joined(reason: str, message: str | None) -> str:
    return f"{reason}: {message.strip()}" if message else reason
