"""A pod of ours that the cluster took away or killed is told from one that failed by itself."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.testbeds.kubernetes.losses import disruption, ending, killing
from pytest_aefm.testbeds.kubernetes.stress_proof import fate

PREEMPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "default-scheduler: preempting to accommodate a higher priority pod",
}


def pod(phase: str, *, deleted: bool = False, **status: Any) -> dict[str, Any]:
    """Return a pod as the API server tells of it."""
    metadata = {"name": "p", "uid": "u", **({"deletionTimestamp": "2026-11-28T18:00:00Z"} if deleted else {})}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": phase, **status}}


def ended(reason: str, status: int) -> dict[str, Any]:
    """Return what a pod says of its only container, which has ended."""
    return {"containerStatuses": [{"name": "load", "state": {"terminated": {"reason": reason, "exitCode": status}}}]}


def test_a_pod_that_is_preempted_says_why() -> None:
    """While it still runs, and when it has failed of it; stressors' fates say the same."""
    why = "PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod"
    for one in (pod("Running", deleted=True, conditions=[PREEMPTED]), pod("Failed", conditions=[PREEMPTED])):
        assert why == disruption(one) == fate(one).trouble
        assert (f"is taken away: {why}", True) == ending(one)


def test_an_evicted_pod_says_why() -> None:
    """A kubelet that is short of memory leaves the pod there, failed with its reason."""
    one = pod("Failed", reason="Evicted", message="The node was low on resource: memory. ", **ended("Error", 137))
    assert "Evicted: The node was low on resource: memory." == disruption(one)


@pytest.mark.parametrize(("reason", "status"), [("OOMKilled", 137), ("OOMKilled", 1), ("Error", 143), ("Error", 137)])
def test_a_container_that_was_killed_is_no_failure_of_its_own(reason: str, status: int) -> None:
    """For want of memory, or by a signal that we did not send."""
    one = pod("Failed", **ended(reason, status))
    assert f"container load: {reason}, exit status {status}" == killing(one)
    assert (f"was killed: container load: {reason}, exit status {status}", True) == ending(one)


def test_what_failed_by_itself_was_not_taken() -> None:
    """A program that ends with an error is the experiment's matter."""
    one = pod("Failed", **ended("Error", 1))
    assert ("", "") == (disruption(one), killing(one))
    assert ("failed: Error, exit status 1", False) == ending(one)


def test_what_runs_or_has_done_its_work_is_not_missed() -> None:
    """Also where it is deleted after its work; one that is deleted before is."""
    assert ending(pod("Running")) is None
    assert ending(pod("Succeeded", deleted=True, **ended("Completed", 0))) is None
    assert ending(pod("Running", deleted=True, **ended("Completed", 0))) is None
    assert ("was deleted by somebody else", True) == ending(pod("Running", deleted=True))
    assert "" == disruption(pod("Succeeded", conditions=[PREEMPTED]))
