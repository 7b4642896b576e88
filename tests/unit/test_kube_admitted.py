"""What a LimitRange or a webhook made of a pod of ours is told, and the server's own defaults are not."""

from __future__ import annotations

import copy
from typing import Any

from pytest_aefm.load.parts import divide
from pytest_aefm.model import InterferenceSpec, LoadSpec
from pytest_aefm.testbeds.kubernetes.admitted import admission_check, altered, resized, strangers
from pytest_aefm.testbeds.kubernetes.load_pods import LoadPods
from pytest_aefm.testbeds.kubernetes.stress_pods import StressOptions, plan_jobs

LOAD = LoadSpec("x.lua", rate_rps=10, duration_s=1)
Json = dict[str, Any]


def load_spec() -> Json:
    """Return a pod of load as it is asked for."""
    pods = LoadPods("aefm-load-r1-1", "shop", "r1", "load:1", ("n2",), divide(LOAD, 1), "http://x", 60, "aefm-r1-load")
    return dict(pods.template["spec"])


def stress_spec() -> Json:
    """Return a stressor as it is asked for."""
    (job,) = plan_jobs([InterferenceSpec("cpu", 1, 0.5, 2**28)], ["n1"])
    return dict(job.manifest("shop", "r1", StressOptions("stress:1"))["spec"]["template"]["spec"])


def admitted(asked: Json) -> Json:
    """Return a pod as a server admits it that changes nothing: its defaults, and what a Job's controller adds."""
    spec = copy.deepcopy(asked)
    spec |= {"nodeName": "n1", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "priority": -1000}
    spec |= {"serviceAccountName": "default", "preemptionPolicy": "Never"}
    every = [{"key": f"node.kubernetes.io/{name}", "operator": "Exists"} for name in ("not-ready", "unreachable")]
    spec["tolerations"] = [{**one, "effect": "NoExecute", "tolerationSeconds": 300} for one in every]
    container = spec["containers"][0]
    container["env"] = [*container.get("env", ()), {"name": "JOB_COMPLETION_INDEX", "valueFrom": {}}]
    container |= {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
    limits = container["resources"]["limits"]
    container["resources"]["limits"] = {name: {"500m": "0.5"}.get(value, value) for name, value in limits.items()}
    return spec


def told(asked: Json, spec: Json) -> list[str]:
    """Return all that is told of a pod."""
    return strangers(asked, spec) + resized(asked, spec) + altered(asked, spec)


def test_a_pod_that_was_admitted_as_it_is_tells_nothing() -> None:
    """Defaults, an index, and another spelling of an amount are no changes."""
    for asked in (load_spec(), stress_spec()):
        assert [] == told(asked, admitted(asked))
    assert [] == list(admission_check("load", []))


def test_a_size_that_was_changed_is_told() -> None:
    """Lowered, or added where none was asked for: a limit of CPU throttles the generator."""
    asked = load_spec()
    spec = admitted(asked)
    spec["containers"][0]["resources"]["limits"] = {"memory": "256Mi", "cpu": "1"}
    assert ["load: limits.cpu none became 1", "load: limits.memory 512Mi became 256Mi"] == told(asked, spec)


def test_a_request_that_is_not_written_is_as_its_limit() -> None:
    """The server writes it."""
    limits = {"limits": {"cpu": "1"}}
    asked = {"containers": [{"name": "a", "resources": limits}]}
    given = {"containers": [{"name": "a", "resources": {**limits, "requests": {"cpu": "1"}}}]}
    assert [] == told(asked, given)


def test_a_container_that_was_added_is_named() -> None:
    """A proxy as a container or as a sidecar runs beside ours; one that runs before ours does not."""
    asked = stress_spec()
    spec = admitted(asked)
    spec["containers"].insert(0, {"name": "istio-proxy"})
    spec["initContainers"] = [{"name": "linkerd-proxy", "restartPolicy": "Always"}, {"name": "linkerd-init"}]
    assert ["istio-proxy", "linkerd-proxy"] == strangers(asked, spec)
    assert ["the init container linkerd-init was added"] == altered(asked, spec)


def test_place_and_rights_that_were_changed_are_told() -> None:
    """Another affinity, a node selector, a toleration, another user, another program."""
    asked = load_spec()
    spec = admitted(asked)
    spec["affinity"]["nodeAffinity"] = {}
    spec["nodeSelector"] = {"pool": "small"}
    spec["tolerations"].append({"key": "spot", "operator": "Exists"})
    spec["securityContext"]["runAsUser"] = 0
    spec["containers"][0]["image"] = "mirror/load:1"
    changes = altered(asked, spec)
    assert ["affinity", "nodeSelector", "securityContext", "tolerations", "load:"] == [
        one.partition(" ")[0] for one in changes
    ]
    assert "load: image load:1 became mirror/load:1" == changes[-1]
    (check,) = admission_check("load", changes)
    assert (False, True, "admission of load") == (check.ok, check.warning, check.name)


def test_a_priority_that_was_not_admitted_is_told() -> None:
    """Where the class of ours became another."""
    asked = load_spec()
    assert ["priorityClassName aefm-r1-load became none"] == altered(
        asked, {name: value for name, value in admitted(asked).items() if name != "priorityClassName"}
    )
