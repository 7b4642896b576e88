"""What objects say of themselves, read: ready, on the way, or beyond help."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_aefm.testbeds.kubernetes.health import failures, lacking, restarted

Json = dict[str, Any]


def item(kind: str, spec: Json | None = None, *, generation: int = 2, **status: Any) -> Json:
    """Return an object whose controller has seen all of it, unless ``status`` says otherwise."""
    metadata = {"name": "x", "uid": "u", "generation": generation}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": {"observedGeneration": 2, **status}}


def condition(kind: str, status: str = "True", **more: str) -> list[Json]:
    """Return conditions of which there is one."""
    return [{"type": kind, "status": status, **more}]


TWO = {"replicas": 2}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (item("Deployment", TWO, replicas=2, updatedReplicas=2, availableReplicas=2), None),
        (item("Deployment", TWO, generation=3, replicas=2, updatedReplicas=2, availableReplicas=2),
         "its controller has not seen it yet"),
        (item("Deployment", TWO, replicas=2, updatedReplicas=1, availableReplicas=2), "1/2 updated"),
        (item("Deployment", TWO, replicas=3, updatedReplicas=2, availableReplicas=3), "1 old still there"),
        (item("Deployment", TWO, replicas=2, updatedReplicas=2), "0/2 available"),
        (item("Deployment", {"replicas": 0}), None),
        (item("Deployment"), "0/1 updated"),
        (item("StatefulSet", TWO, replicas=2, updatedReplicas=2, availableReplicas=1), "1/2 available"),
        (item("StatefulSet", {**TWO, "updateStrategy": {"type": "OnDelete"}}, replicas=2, readyReplicas=2), None),
        (item("DaemonSet", desiredNumberScheduled=2, currentNumberScheduled=2, updatedNumberScheduled=2,
              numberAvailable=2), None),
        (item("DaemonSet", desiredNumberScheduled=2, currentNumberScheduled=2, updatedNumberScheduled=1,
              numberAvailable=2), "1/2 updated"),
        (item("Job"), "not complete"),
        (item("Job", conditions=condition("Complete")), None),
        (item("Job", {"suspend": True}), None),
        (item("Pod", phase="Pending"), "Pending"),
        (item("Pod", phase="Running", conditions=condition("Ready", "False")), "Running"),
        (item("Pod", phase="Running", conditions=condition("Ready")), None),
        (item("Pod", phase="Succeeded"), None),
        (item("CustomResourceDefinition"), "not established"),
        (item("CustomResourceDefinition", conditions=condition("Established")), None),
        (item("ConfigMap"), None),
    ],
)  # fmt: skip
def test_ready_is_what_controllers_say(found: Json, expected: str | None) -> None:
    """Each kind has its own words for it."""
    assert expected == lacking(found)


def pod(*containers: Json, owner: str = "ReplicaSet", init: tuple[Json, ...] = (), **status: Any) -> Json:
    """Return a pod with the states of its containers."""
    metadata = {"name": "geo-1", "uid": "p", "ownerReferences": [{"kind": owner}]}
    statuses = {"containerStatuses": list(containers), "initContainerStatuses": list(init)}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": "Pending", **statuses, **status}}


def waiting(reason: str, message: str = "why", **more: Any) -> Json:
    """Return the state of a container that waits."""
    return {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}, **more}


ENDED = {"terminated": {"reason": "Error", "exitCode": 3}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(waiting("ContainerCreating")), []),
        (pod(waiting("PodInitializing")), []),
        (pod(waiting("ErrImagePull")), ["pod geo-1, container main: ErrImagePull: why"]),
        (pod(init=(waiting("ImagePullBackOff"),)), ["pod geo-1, container main: ImagePullBackOff: why"]),
        (pod(waiting("CreateContainerConfigError")), ["pod geo-1, container main: CreateContainerConfigError: why"]),
        (pod(waiting("CrashLoopBackOff", restartCount=1, lastState=ENDED)), []),
        (pod(waiting("CrashLoopBackOff", restartCount=2, lastState=ENDED)),
         ["pod geo-1, container main: CrashLoopBackOff: Error, exit status 3"]),
        (pod({"name": "main", "restartCount": 2, "state": ENDED}),
         ["pod geo-1, container main: CrashLoopBackOff: Error, exit status 3"]),
        (pod({"name": "main", "restartCount": 0, "state": ENDED}), []),
        (pod({"name": "main", "restartCount": 5, "state": ENDED}, owner="Job"), []),
        (pod({"name": "main", "restartCount": 5, "state": {"running": {}}}), []),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), ["pod geo-1: Evicted: low on memory"]),
        (pod(conditions=condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes")),
         ["pod geo-1: Unschedulable: 0/3 nodes"]),
        (pod(conditions=condition("PodScheduled", "False", reason="SchedulingGated")), []),
    ],
)  # fmt: skip
def test_what_does_not_heal_in_pods(found: Json, expected: list[str]) -> None:
    """Where, why, and what was said of it; what may still come right is none."""
    assert expected == [str(failure) for failure in failures([], [found], [])]


def event(reason: str, uid: str) -> Json:
    """Return an event about an object."""
    return {"reason": reason, "message": "said", "involvedObject": {"uid": uid}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (item("Deployment", conditions=condition("ReplicaFailure", reason="FailedCreate", message="quota")),
         ["Deployment x: FailedCreate: quota"]),
        (item("StatefulSet"), ["StatefulSet x: FailedCreate: said"]),
        (item("StatefulSet", replicas=1, updatedReplicas=1, availableReplicas=1), []),
        (item("Job", conditions=condition("Failed", reason="BackoffLimitExceeded", message="often")),
         ["Job x: BackoffLimitExceeded: often", "Job x: FailedCreate: said"]),
    ],
)  # fmt: skip
def test_what_does_not_heal_in_controllers(found: Json, expected: list[str]) -> None:
    """Some say it in a condition, some in events alone; events about others are not theirs."""
    events = [event("FailedCreate", "u"), event("FailedCreate", "other"), event("Scheduled", "u")]
    assert expected == [str(failure) for failure in failures([found], [], events)]


def test_the_gravest_comes_first() -> None:
    """What is final now goes before what may pass within seconds; pods on their way out do not count."""
    unscheduled = pod(conditions=condition("PodScheduled", "False", reason="Unschedulable"))
    mounting = pod()
    going = pod(waiting("ErrImagePull"))
    going["metadata"] = {**going["metadata"], "deletionTimestamp": "now"}
    found = failures([], [mounting, unscheduled, pod(waiting("ErrImagePull")), going], [event("FailedMount", "p")])
    reasons = [failure.reason for failure in found]
    assert ("ErrImagePull", 1, "FailedMount") == (reasons[0], reasons.count("ErrImagePull"), reasons[-1])


def test_a_pod_for_which_room_is_made_is_given_time() -> None:
    """Pods of a lower priority are on their way out for it."""
    waits = pod(conditions=condition("PodScheduled", "False", reason="Unschedulable"))
    assert ["Unschedulable"] == [failure.reason for failure in failures([], [waits], [])]
    waits["status"]["nominatedNodeName"] = "n1"
    assert [] == failures([], [waits], [])


def test_a_busy_kubelet_is_given_time() -> None:
    """It has not read a ConfigMap yet, which is no fault of anybody's."""
    late = event("FailedMount", "p") | {"message": 'failed for volume "config": failed to sync configmap cache'}
    assert [] == failures([], [pod()], [late])


def test_what_runs_again_is_not_trusted_at_once() -> None:
    """Only where no readiness probe speaks for it, and a Job does not count for itself."""
    main, side = {"name": "main", "restartCount": 1}, {"name": "side", "restartCount": 0}
    assert [("main", 1)] == restarted(pod(main, side))
    assert [] == restarted(pod(main, owner="Job"))
    probed = pod(main)
    probed["spec"] = {"containers": [{"name": "main", "readinessProbe": {"exec": {}}}]}
    assert [] == restarted(probed)
