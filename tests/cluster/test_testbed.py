"""Experiments on a real cluster as users run them: deployed, disturbed, driven, judged, removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_aefm.errors import DeploymentError
from pytest_aefm.model import AppSpec, ClusterSpec, InterferenceSpec
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.cluster import cluster_nodes, on_this_machine
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.testbed import KubernetesTestbed
from tests.cluster.conftest import BASE_IMAGE, TestCluster
from tests.cluster.project import SHOP, Project
from tests.noise import NOISE


def left(connection: Connection, run: str) -> list[str]:
    """Return what a run left on the cluster."""
    return [str(item) for item in find_leftovers(connection, run)]


def test_an_experiment_runs(project: Project, connection: Connection) -> None:
    """Two levels of interference: deployed once, disturbed, judged; the report says where and what; nothing is left."""
    project.write(cpu=[0, 1], interference={"cpu": {"cpu_size": 0.5}})
    status, printed = project.run()
    assert status == 0, printed
    report = project.report()
    calm, disturbed = sorted(report["trials"], key=lambda trial: trial["factors"]["cpu"])
    assert {"passed"} == {trial["verdict"] for trial in report["trials"]}
    environment = disturbed["environment"]
    assert environment["testbed"] == "kubernetes"
    assert environment["server"].startswith("v1.")
    testbed_node = project.nodes[0]["name"]
    assert environment["nodes"][testbed_node]["roles"] == ["testbed"]
    (pod,) = environment["services"]["back"]["pods"]
    assert pod["node"] == testbed_node
    assert "sha256:" in pod["containers"]["service"]["image_id"]
    assert pod["containers"]["service"]["limits"] == {"cpu": "200m", "memory": str(128 * 2**20)}
    assert disturbed["metrics"]["restarts"] == disturbed["metrics"]["restarts(back)"] == 0
    (dose,) = disturbed["doses"]
    assert dose["ok"]
    assert calm["doses"] == []
    assert calm["environment"]["generation"] == disturbed["environment"]["generation"] == 1
    assert left(connection, report["run"]["id"]) == []


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on PATH, which makes port-forwards")
@pytest.mark.parametrize("allowed", [False, True])
def test_a_port_forward_counts_where_it_is_allowed(project: Project, allowed: bool) -> None:
    """The trial is invalid, or has a warning, and says so either way."""
    project.run("--aefm-entry", "port-forward", *(["--aefm-allow-forward"] if allowed else []))
    (trial,) = project.report()["trials"]
    assert ({"entry path"} if not allowed else set()) == {one["subject"] for one in trial["findings"]} - NOISE
    (check,) = (one for one in trial["checks"] if one["name"] == "entry path")
    assert (False, allowed) == (check["ok"], check["warning"])
    assert "port-forward" == trial["environment"].get("entry", trial["collectors"]["testbed"].get("entry"))


SEEDING = """
from pathlib import Path
from urllib.request import urlopen

from pytest_aefm.testbeds.kubernetes.connection import connect


def pytest_aefm_environment_ready(deployment):
    urlopen(deployment.url + "/ok", timeout=10).close()
    with open("seeded.txt", "a") as file:
        print(deployment.generation, file=file)


def pytest_aefm_case_finish(trial):
    \"\"\"Have somebody delete a service after the first case.\"\"\"
    namespace = trial.environment["namespace"]
    with connect(Path({kubeconfig!r})) as connection:
        path = f"/apis/apps/v1/namespaces/{{namespace}}/deployments/back"
        connection.delete(path, connection.get(path)["metadata"]["uid"])
"""


def test_data_is_seeded_whenever_it_is_deployed(project: Project) -> None:
    """What was deleted between two cases is deployed anew, and the hook that fills it is called for that, too."""
    project.write(rounds=2)
    (project.folder / "conftest.py").write_text(SEEDING.format(kubeconfig=str(project.cluster.kubeconfig)))
    project.run()
    report = project.report()
    assert ["1", "2"] == (project.folder / "seeded.txt").read_text().split()[:2]
    assert {one["subject"] for trial in report["trials"] for one in trial["findings"]} <= NOISE


def test_a_cluster_in_use_is_refused(project: Project, connection: Connection, lease: str) -> None:
    """The owner is named, with since when; nothing is deployed."""
    owner = ClusterLease(connection, lease, run="first", holder="somebody@somewhere")
    owner.acquire(0)
    try:
        status, printed = project.run()
    finally:
        owner.release()
    assert status == 1
    assert "in use by run first (somebody@somewhere) since " in printed
    namespaces = connection.get("/api/v1/namespaces", labelSelector=RUN_LABEL)["items"]
    assert not any("aefm-shop-" in item["metadata"]["name"] and "first" in str(item) for item in namespaces)


def test_what_does_not_get_ready_is_told_and_removed(project: Project, connection: Connection) -> None:
    """A wrong image breaks the case within 30 s, with pod and reason, and a second case at once."""
    project.write(rate=[10, 20])
    status, _ = project.run("--aefm-app-image", "localhost/no-such-image:1")
    assert status == 1
    report = project.report()
    assert ["broken", "broken"] == [trial["verdict"] for trial in report["trials"]]
    first, second = (trial["findings"][0]["message"] for trial in report["trials"])
    assert "container service: ErrImagePull" in first or "container service: ImagePullBackOff" in first
    assert int(first.partition("not ready after ")[2].partition(" s")[0]) < 30
    assert "failed before and is not tried again" in second
    assert left(connection, report["run"]["id"]) == []


@pytest.fixture
def testbed(
    cluster: TestCluster, mesh_image: str, lease: str, run_id: str, connection: Connection, tmp_path: Path
) -> Iterator[KubernetesTestbed]:
    """Return a testbed of its own run."""
    options = ClusterOptions(
        kubeconfig=cluster.kubeconfig,
        lease_namespace=lease,
        allow_shared=True,
        app_image=mesh_image,
        stress_image=BASE_IMAGE,
    )
    made = KubernetesTestbed(options, run_id, tmp_path / "run", tmp_path / "cache", ready_timeout_s=90)
    yield made
    assert made.close() == ()
    remove(connection, find_leftovers(connection, run_id), deadline_s=0)


def test_what_is_unchanged_costs_little(testbed: KubernetesTestbed, project: Project, connection: Connection) -> None:
    """An application and interference that stand already are found so in a moment; what died is deployed anew."""
    (project.folder / "shop.yaml").write_text(SHOP)
    nodes = {node["name"]: tuple(node["roles"]) for node in project.nodes}
    app = AppSpec("shop", topology=str(project.folder / "shop.yaml"), cluster=ClusterSpec(nodes))
    noise = (InterferenceSpec("cpu", 1, 0.3),)
    first = testbed.ensure_app(app)
    testbed.ensure_interference(noise)
    testbed.settle()
    spent = []
    for _ in range(3):
        began = time.monotonic()
        assert testbed.ensure_app(app).generation == first.generation
        testbed.ensure_interference(noise)
        testbed.settle()
        spent.append(time.monotonic() - began)
    print(f"unchanged: {', '.join(f'{one * 1e3:.0f} ms' for one in spent)}")
    assert min(spent) < 1.0  # 0.3 s where nothing else runs

    mark = testbed.mark()
    assert {"front", "back"} == {pod.workload for pod in mark.pods.pods.values()}
    (back,) = (pod for pod in mark.pods.pods.values() if pod.workload == "back")
    path = f"/api/v1/namespaces/{first.details['namespace']}/pods/{back.name}"
    connection.delete(path, next(uid for uid, pod in mark.pods.pods.items() if pod == back), grace_s=0)
    deadline = time.monotonic() + 30
    while testbed.ensure_app(app).services["back"]["pods"][0]["name"] == back.name:
        assert time.monotonic() < deadline


def test_nodes_have_roles_by_name_or_label(cluster: TestCluster, connection: Connection) -> None:
    """Those of the experiment win; without any all that take pods come, and one that is not there is refused."""
    name = f"{cluster.name}-worker-1"
    (only,) = cluster_nodes(connection, {name: ("testbed",)})
    assert (only.name, only.roles) == (name, ("testbed",))
    assert only.facts["kubelet"].startswith("v1.")
    every = cluster_nodes(connection)
    assert name in [node.name for node in every]
    assert f"{cluster.name}-control-plane" not in [node.name for node in every]
    assert on_this_machine(every) == tuple(node.name for node in every)
    with pytest.raises(DeploymentError, match=f"did you mean '{name}'"):
        cluster_nodes(connection, {f"{name}0": ("testbed",)})
