"""Disturbances on a cluster: from what is asked to Jobs, and which nodes may be disturbed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.stress_check import foreign_pods, misfit
from pytest_aefm.testbeds.kubernetes.stress_pods import StressOptions, demand, plan_clients, plan_jobs
from pytest_aefm.testbeds.kubernetes.stress_start import changed

MIB = 2**20
NODES = ("a", "b", "c")
IMAGE = StressOptions("stress:1")


def program(job: dict[str, Any]) -> list[str]:
    """Return what a Job's container runs, after the sampler and its port."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return list(container["command"][5:])


def test_one_job_per_node_and_kind() -> None:
    """Parallelism is the dose; kinds that ask for nothing make nothing."""
    specs = [InterferenceSpec("cpu", 2), InterferenceSpec("mem_capacity", 3), InterferenceSpec("mem_bandwidth", 0)]
    jobs = plan_jobs(specs, NODES[:2])
    assert [(job.node, job.stressor.spec.kind, job.parallelism) for job in jobs] == [
        ("a", "cpu", 2),
        ("b", "cpu", 2),
        ("a", "mem_capacity", 3),
        ("b", "mem_capacity", 3),
    ]


def test_a_job_ends_by_itself_and_asks_for_what_it_may_use() -> None:
    """It has a deadline from the start, is never tried again, and requests are limits."""
    (job,) = plan_jobs([InterferenceSpec("cpu", 2, 0.5, 300 * MIB)], ["a"])
    body = job.manifest("ns", "run1", replace(IMAGE, priority_class="low"))
    spec, pod = body["spec"], body["spec"]["template"]["spec"]
    assert (spec["parallelism"], spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (2, 0, 45)
    assert "completions" not in spec
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    never = {one["key"] for one in term["matchExpressions"] if one["operator"] == "DoesNotExist"}
    assert "node-role.kubernetes.io/control-plane" in never
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"], pod["priorityClassName"]) == (
        "Never",
        False,
        "low",
    )
    (container,) = pod["containers"]
    size = {"cpu": "500m", "memory": "314572800"}
    assert container["resources"] == {"requests": size, "limits": size}
    labels = {"aefm.dev/run": "run1", "aefm.dev/role": "interference", "aefm.dev/app": "interference"}
    assert labels.items() <= body["metadata"]["labels"].items() & body["spec"]["template"]["metadata"]["labels"].items()


def test_under_a_quota_no_duty_cycle() -> None:
    """Under a pod's quota workers ask for whole cores, and each is to get its part of the quota."""
    (job,) = plan_jobs([InterferenceSpec("cpu", 1, 1.5)], ["a"])
    arguments = "stress-ng --cpu 2 --cpu-method loop --timeout 14400s"
    assert program(job.manifest("ns", "run1", IMAGE)) == arguments.split()
    assert (job.stressor.workers, job.stressor.worker_cores) == (2, 0.75)
    (job,) = plan_jobs([InterferenceSpec("mem_bandwidth", 1, 0.5)], ["a"])
    assert job.stressor.worker_cores == 0.5


def test_a_name_is_of_all_but_the_parallelism() -> None:
    """A Job of the same name can be scaled; all else makes another one."""
    names = {
        plan_jobs([spec], [node])[0].name(run, options)
        for spec in (InterferenceSpec("cpu", 1), InterferenceSpec("cpu", 2), InterferenceSpec("cpu", 1, 2))
        for node in ("node-1.example.org", "node-2.example.org")
        for run in ("r1", "r2")
        for options in (IMAGE, StressOptions("stress:2"))
    }
    assert len(names) == 2 * 2 * 2 * 2
    long = plan_jobs([InterferenceSpec("mem_bandwidth", 1)], ["n" * 200 + ".Example.org"])[0].name("r", IMAGE)
    assert len(long) <= 57
    assert long.startswith("aefm-mem-bandwidth-nnn")


def test_a_ring_sends_to_the_next_node() -> None:
    """A server on each node, and a client with all streams to the next node's, the last one's to the first."""
    spec = InterferenceSpec("network", 2, throughput="100M")
    servers = plan_jobs([spec], NODES)
    assert [job.parallelism for job in servers] == [1, 1, 1]
    assert program(servers[0].manifest("ns", "r", replace(IMAGE, network_image="iperf:1"))) == (
        ["iperf3", "--server", "--port", "5201", "--interval", "0"]
    )
    clients = plan_clients([spec], NODES, {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"})
    assert [(job.node, job.target) for job in clients] == [("a", "b"), ("b", "c"), ("c", "a")]
    arguments = program(clients[0].manifest("ns", "r", IMAGE))
    assert arguments[:3] == ["iperf3", "--client", "10.0.0.2"]
    assert arguments[arguments.index("--parallel") + 1] == "2"
    body = servers[0].manifest("ns", "r", replace(IMAGE, network_image="iperf:1"))
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "iperf:1"


def test_demand_counts_both_ends_of_a_ring() -> None:
    """Each node has a client and a server, whatever the number of streams."""
    specs = [InterferenceSpec("cpu", 2, 0.5, 100 * MIB), InterferenceSpec("network", 7, 0.25, MIB, "1M")]
    assert demand(specs) == (1.5, 202 * MIB, 4)


def node(cpu: str = "2", memory: str = "1Gi", pods: str = "110") -> dict[str, Any]:
    """Return a node with so much to give."""
    return {"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods}}}


def pod(namespace: str = "shop", *, owner: str = "ReplicaSet", phase: str = "Running", **labels: str) -> dict[str, Any]:
    """Return a pod of half a core and 256 MiB."""
    requests = {"cpu": "500m", "memory": "256Mi"}
    metadata = {"name": "p", "namespace": namespace, "ownerReferences": [{"kind": owner}], "labels": labels}
    spec = {"containers": [{"resources": {"requests": requests}}]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


OURS = {"aefm.dev/run": "r1", "aefm.dev/role": "interference"}


@pytest.mark.parametrize(
    ("spec", "pods", "message"),
    [
        (InterferenceSpec("cpu", 2, 1, MIB), [], ""),
        (InterferenceSpec("cpu", 2, 1, MIB), [pod(phase="Succeeded")], ""),
        (InterferenceSpec("cpu", 2, 1, MIB), [pod(**OURS)], ""),
        (
            InterferenceSpec("cpu", 2, 1, MIB),
            [pod()],
            "the dose does not fit: 2 cores are asked for, and its other pods' requests leave 1.5 cores",
        ),
        (
            InterferenceSpec("mem_capacity", 2, 0.1, 400 * MIB),
            [pod()],
            "the dose does not fit: 800 MiB of memory are asked for, and its other pods' requests leave 668 MiB",
        ),
        (
            InterferenceSpec("cpu", 111, 0.01, 1024),
            [],
            "the dose does not fit: 111 pods are asked for, and its other pods' requests leave 110",
        ),
    ],
)
def test_a_dose_fits_beside_what_others_request(
    spec: InterferenceSpec, pods: list[dict[str, Any]], message: str
) -> None:
    """Allocatable less requests, and less what the kubelet keeps free; our own stressors make room."""
    assert misfit([spec], node(), pods, "r1") == message


def test_pods_of_others_are_told() -> None:
    """Neither the experiment's namespace nor the run's pods, nor what the cluster runs everywhere."""
    pods = [pod("ns"), pod("kube-system"), pod("logs", owner="DaemonSet"), pod("x", **OURS), pod("y", phase="Failed")]
    assert list(foreign_pods(pods, "ns", "r1")) == []
    assert list(foreign_pods([*pods, pod(), pod("x", **{"aefm.dev/run": "r2"})], "ns", "r1")) == ["shop/p", "x/p"]


def test_dram_needs_a_known_cache() -> None:
    """The last-level caches of nodes are not known."""
    with pytest.raises(ConfigurationError, match="dram is not available"):
        plan_jobs([InterferenceSpec("mem_bandwidth", 1, mem_size=2**30, dram=True)], ["a"])


def test_what_admission_changed_is_told() -> None:
    """Requests and limits as asked for, however they are spelled, and no container more."""
    (job,) = plan_jobs([InterferenceSpec("cpu", 1, 1, 256 * MIB)], ["a"])
    spec = job.manifest("ns", "r", IMAGE)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    same = {"cpu": "1000m", "memory": "256Mi"}
    assert changed(spec, {"containers": [{**container, "resources": {"requests": same, "limits": same}}]}) == ""
    less = {"requests": same, "limits": {**same, "cpu": "500m"}}
    told = "admission changed stressor: limits.cpu 1 became 500m"
    assert changed(spec, {"containers": [{**container, "resources": less}]}) == told
    proxy = {"name": "proxy", "image": "x"}
    assert changed(spec, {"containers": [container, proxy]}) == "admission added the container proxy"
