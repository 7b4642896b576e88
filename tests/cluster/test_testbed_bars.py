"""What is promised of experiments on a cluster, measured: how soon a case starts, how failures are told, what is left.

Each takes long: AEFM_BARS=1 runs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_aefm.model import AppSpec, ClusterSpec, InterferenceSpec
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from pytest_aefm.testbeds.kubernetes.testbed import KubernetesTestbed
from tests.cluster.conftest import BASE_IMAGE, TestCluster
from tests.cluster.project import Project, wait_for

pytestmark = pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes minutes: AEFM_BARS is not set")


def kubectl(cluster: TestCluster, *arguments: str, body: Any = None) -> str:
    """Run kubectl, with a manifest on its input."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl on PATH")
    command = [found, "--kubeconfig", str(cluster.kubeconfig), *arguments]
    text = None if body is None else json.dumps(body)
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=120).stdout


# --- bar 1 -----------------------------------------------------------------------------------------------------------


def test_interference_is_felt_and_passes(project: Project, connection: Connection) -> None:
    """The hotel's search at two rates, with and without a neighbour that wants the CPU, twice."""
    if shutil.which("taskset") and os.cpu_count() != 1:
        project.prefix = ["taskset", "-c", "1"]  # the services' node has the first
    project.write(
        app="hotel",
        script="hotel/search.lua",
        rate=[5, 10],
        cpu=[0, 1],
        rounds=2,
        warmup="1s",
        duration="6s",
        pod_spec={"cpu_size": 0.1, "mem_size": "128Mi"},
        interference={"cpu": {"cpu_size": 1}},
        slos=["p50 < 2s", "goodput >= 95%"],
    )
    status, printed = project.run(timeout_s=400)
    assert status == 0, printed
    report = project.report()
    p = {tuple(t["factors"][name] for name in ("round", "rate", "cpu")): t["metrics"] for t in report["trials"]}
    felt = {
        (turn, rate): max(p[turn, rate, 1][name] / p[turn, rate, 0][name] for name in ("p50", "p99"))
        for turn in (1, 2)
        for rate in (5, 10)
    }
    print(f"p50 or p99 with interference over without, by round and rate: {felt}")
    assert all(ratio > 1.2 for ratio in felt.values())
    assert [] == [str(item) for item in find_leftovers(connection, report["run"]["id"])]


# --- bar 2 -----------------------------------------------------------------------------------------------------------

_TURNS = 9


def test_a_case_starts_soon(cluster: TestCluster, project: Project, connection: Connection, run_id: str) -> None:
    """From 0 to 1 takes at most 1.5 times what kubectl needs for the same pods, from 1 to 2 no more; nothing 0.3 s."""
    options = ClusterOptions(
        kubeconfig=cluster.kubeconfig,
        lease_namespace=project.lease,
        allow_shared=True,
        app_image=project.image,
        stress_image=BASE_IMAGE,
    )
    nodes = {node["name"]: tuple(node["roles"]) for node in project.nodes}
    app = AppSpec("shop", topology=str(project.folder / "shop.yaml"), cluster=ClusterSpec(nodes))
    testbed = KubernetesTestbed(options, run_id, project.folder / "run", project.folder / "cache")

    # A kubelet looks once a second for what has started. What begins right after such a look, as a measurement that
    # follows another does, always meets the same part of that second: each begins at a moment of its own instead.
    phases = random.Random(7)

    def case(level: int) -> float:
        time.sleep(phases.random())
        began = time.monotonic()
        testbed.ensure_app(app)
        testbed.ensure_interference((InterferenceSpec("cpu", level, 0.2),))
        testbed.settle()
        testbed.ensure_app(app)
        return time.monotonic() - began

    try:
        case(0)
        unchanged = statistics.median(case(0) for _ in range(_TURNS))
        ups, scales, byhand = [], [], []
        for turn in range(_TURNS):
            ups.append(case(1))
            scales.append(case(2))
            namespace = testbed.ensure_app(app).details["namespace"]
            time.sleep(phases.random())
            byhand.append(by_hand(cluster, connection, namespace, f"{run_id}-{turn}"))
            case(0)
        up, scale, hand = map(statistics.median, (ups, scales, byhand))
        print(f"0 -> 1 {up:.2f} s, 1 -> 2 {scale:.2f} s, kubectl {hand:.2f} s, unchanged {unchanged:.2f} s")
        assert unchanged <= 0.3
        assert up <= 1.5 * hand
        assert scale <= 1.5 * hand
    finally:
        assert testbed.close() == ()


def by_hand(cluster: TestCluster, connection: Connection, namespace: str, name: str) -> float:
    """Return the seconds that kubectl takes for a copy of the first Job of interference there, with one pod."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    job = connection.get(path, labelSelector=f"{ROLE_LABEL}={INTERFERENCE}")["items"][0]
    labels = {"by-hand": name}
    template = job["spec"]["template"]
    template["metadata"] = {"labels": labels}
    spec = {"parallelism": 1, "backoffLimit": 0, "template": template}
    metadata = {"name": f"hand-{name}", "namespace": namespace, "labels": labels}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    began = time.monotonic()
    kubectl(cluster, "apply", "-f", "-", body=body)
    while not kubectl(cluster, "-n", namespace, "get", "pods", "-l", f"by-hand={name}", "-o", "name").strip():
        pass
    kubectl(cluster, "-n", namespace, "wait", "--for=condition=Ready", "pod", "-l", f"by-hand={name}", "--timeout=60s")
    taken = time.monotonic() - began
    kubectl(cluster, "-n", namespace, "delete", "job", f"hand-{name}", "--wait=true", "--cascade=foreground")
    return taken


# --- bar 3 -----------------------------------------------------------------------------------------------------------


def deploy(project: Project, container: dict[str, Any], **pod: Any) -> list[str]:
    """Have an application of one such container."""
    template = {"metadata": {"labels": {"app": "geo"}}, "spec": {"containers": [container], **pod}}
    spec = {"selector": {"matchLabels": {"app": "geo"}}, "template": template}
    service = {"type": "NodePort", "selector": {"app": "geo"}, "ports": [{"port": 80}]}
    bodies = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "geo"}, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "geo"}, "spec": service},
    ]
    (project.folder / "app").mkdir()
    (project.folder / "app" / "geo.yaml").write_text(yaml.safe_dump_all(bodies))
    project.write(app="geo", file_paths={"yaml_repo": "app"})
    return []


def crash(project: Project, connection: Connection) -> list[str]:
    """Have a program that ends with an error."""
    del connection
    command = ["sh", "-c", "echo no database at db:5432; exit 3"]
    return deploy(project, {"name": "main", "image": BASE_IMAGE, "command": command})


def too_large(project: Project, connection: Connection) -> list[str]:
    """Ask for more than a node has."""
    del connection
    project.write(pod_spec={"cpu_size": 50})
    return []


def no_config_map(project: Project, connection: Connection) -> list[str]:
    """Mount a ConfigMap that nobody has."""
    del connection
    container: dict[str, Any] = {"name": "main", "image": BASE_IMAGE, "command": ["sleep", "600"]}
    container |= {"volumeMounts": [{"name": "config", "mountPath": "/config"}]}
    return deploy(project, container, volumes=[{"name": "config", "configMap": {"name": "nobody-made-it"}}])


def no_quota(project: Project, connection: Connection) -> list[str]:
    """Use a namespace whose quota has no room."""
    name = f"quota-{project.lease}"
    connection.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    connection.create(f"/api/v1/namespaces/{name}/resourcequotas", quota)
    project.options += ["--aefm-namespace", name]
    return []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (crash, ["CrashLoopBackOff", "no database at db:5432"]),
        (too_large, ["room", "smaller requests"]),
        (no_config_map, ["FailedMount", "nobody-made-it"]),
        (no_quota, ["quota"]),
    ],
    ids=["crashing container", "unschedulable", "missing ConfigMap", "quota"],
)
def test_a_failure_is_told(
    spoil: Callable[[Project, Connection], list[str]], words: list[str], project: Project, connection: Connection
) -> None:
    """In under 30 s, in words, and nothing is left."""
    options = spoil(project, connection)
    try:
        status, _ = project.run(*options)
        assert status == 1
        report = project.report()
        (trial,) = report["trials"]
        assert trial["verdict"] == "broken"
        message = trial["findings"][0]["message"]
        assert all(word in message for word in words), message
        assert sum(trial["phases"].values()) < 30
        assert [] == [str(item) for item in find_leftovers(connection, report["run"]["id"])]
    finally:
        for item in connection.get("/api/v1/namespaces")["items"]:
            if item["metadata"]["name"] == f"quota-{project.lease}":
                connection.delete(f"/api/v1/namespaces/quota-{project.lease}", item["metadata"]["uid"])


def processes(cluster: TestCluster, node: str, program: str) -> list[int]:
    """Return the processes of a node of the cluster that are this program."""
    if os.environ.get("AEFM_TEST_CLUSTER_NAME"):
        pytest.skip("stops processes of the cluster, and so needs one of its own: unset AEFM_TEST_CLUSTER_NAME")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            first = folder.joinpath("cmdline").read_bytes().split(b"\0")[0].decode()
            home = folder.joinpath("cgroup").read_text()
            if Path(first).name == program and f"testcluster/{cluster.name}/{cluster.name}-{node}" in home:
                found.append(int(folder.name))
    assert found, f"no {program} on {node}"
    return found


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes, and let them go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def journal_of(project: Project) -> str:
    """Return what a run has written down so far."""
    return "".join(path.read_text() for path in project.folder.glob(".aefm/runs/*/journal.jsonl"))


def test_a_silent_api_server_is_outlived(cluster: TestCluster, project: Project, connection: Connection) -> None:
    """It says nothing for 10 s in the middle of a load: the run goes on, and nothing is left."""
    pids = processes(cluster, "control-plane", "kube-apiserver")
    project.write(cpu=[1], interference={"cpu": {"cpu_size": 0.2}}, duration="25s", rounds=2)
    with project.start("-q") as process:
        wait_for("no load", lambda: '"phase":"load"' in journal_of(project), 120)
        time.sleep(3)
        with stopped(pids):
            time.sleep(10)
        printed, _ = process.communicate(timeout=180)
    print(printed)
    report = project.report()
    assert {"passed"} >= {trial["verdict"] for trial in report["trials"]} - {"invalid"}
    assert [] == [str(item) for item in find_leftovers(connection, report["run"]["id"])]


def test_a_silent_kubelet_is_named(cluster: TestCluster, project: Project, connection: Connection) -> None:
    """Its node is NotReady once the grace period (40 s) is over, and named within 10 s more than a case takes."""
    pids = processes(cluster, "worker-1", "kubelet")
    project.write(duration="3s", rounds=25)
    with project.start("-q") as process:
        wait_for("no load", lambda: '"phase":"load"' in journal_of(project), 120)
        with stopped(pids):
            named = wait_for("not named", lambda: "is NotReady since" in journal_of(project), 90)
        printed, _ = process.communicate(timeout=180)
    print(printed, f"named after {named:.1f} s")
    report = project.report()
    assert named < 40 + 10 + 12
    assert [] == [str(item) for item in find_leftovers(connection, report["run"]["id"])]


# --- ended by hand ---------------------------------------------------------------------------------------------------


@pytest.fixture
def running(project: Project) -> Iterator[subprocess.Popen[str]]:
    """Return a run of a long case with interference."""
    project.write(cpu=[1], interference={"cpu": {"cpu_size": 0.2}}, duration="40s", rounds=2)
    with project.start("-q") as process:
        yield process
        process.kill()
        assert process.stdout is not None
        print(process.stdout.read())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_leaves_nothing(
    number: int, running: subprocess.Popen[str], project: Project, connection: Connection
) -> None:
    """In the middle of a load, with interference: what is there goes before pytest ends, with exit status 2."""
    wait_for("no load", lambda: '"phase":"load"' in journal_of(project), 120)
    (run,) = (path.name for path in (project.folder / ".aefm" / "runs").iterdir())
    disturbing = f"{RUN_LABEL}={run},{ROLE_LABEL}={INTERFERENCE}"
    running.send_signal(number)
    wait_for("disturbed still", lambda: not connection.get("/api/v1/pods", labelSelector=disturbing)["items"], 90)
    running.send_signal(signal.SIGTERM)  # it does not keep it from tidying up
    assert running.wait(120) == 2
    assert [] == [str(item) for item in find_leftovers(connection, run)]
