"""Faults of a mesh's services on a cluster: felt, proven, and over soon after nobody keeps them."""

from __future__ import annotations

from functools import partial

from pytest_aefm.model import AppSpec, ClusterSpec, InterferenceSpec
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.connection import connect
from pytest_aefm.testbeds.kubernetes.faulting import PodFaults
from pytest_aefm.testbeds.kubernetes.run_pods import read_pods
from pytest_aefm.testbeds.kubernetes.testbed import KubernetesTestbed
from tests.cluster.conftest import TestCluster
from tests.cluster.project import Project, wait_for


def test_a_slow_service_is_felt_and_proven(project: Project) -> None:
    """Each request waits 30 ms longer at level 1, and not at level 0, whichever comes first."""
    project.write(fault=[0, 1], interference={"fault": {"service": "back", "delay_ms": 30}}, rounds=2)
    status, printed = project.run()
    assert status == 0, printed
    trials = project.report()["trials"]
    assert [] == [one for trial in trials for one in trial["doses"] if not one["ok"]]
    p50 = {level: [one["metrics"]["p50"] for one in trials if one["factors"]["fault"] == level] for level in (0, 1)}
    assert min(p50[1]) >= 30 + min(p50[0])
    assert max(p50[0]) < 30 + min(p50[0])


def test_what_nobody_keeps_is_over(cluster: TestCluster, project: Project, run_id: str) -> None:
    """A service forgets its faults, as it does when the process that set them was killed."""
    options = ClusterOptions(
        kubeconfig=cluster.kubeconfig, lease_namespace=project.lease, allow_shared=True, app_image=project.image
    )
    nodes = {node["name"]: tuple(node["roles"]) for node in project.nodes}
    app = AppSpec("shop", topology=str(project.folder / "shop.yaml"), cluster=ClusterSpec(nodes))
    testbed = KubernetesTestbed(options, run_id, project.folder / "run", project.folder / "cache")
    try:
        namespace = testbed.ensure_app(app).details["namespace"]
        with connect(cluster.kubeconfig) as connection:
            pods = partial(read_pods, connection, namespace, run_id)
            faults = PodFaults(connection, namespace=namespace, pods=pods, grace_s=3.0, every_s=1000.0)
            faults.converge([InterferenceSpec("fault", 1, service="back", delay_ms=30.0)])

            def delay_ms() -> float:
                (reading,) = faults.read()
                (report,) = reading.reports.values()
                assert report is not None
                return report["faults"].get("delay_ms", 0.0)

            assert 30.0 == delay_ms()
            assert 0.5 < wait_for("it stays", lambda: delay_ms() == 0.0, 10.0)
    finally:
        assert () == testbed.close()
