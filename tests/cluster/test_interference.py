"""Interference on a real cluster: begun, scaled, proven from the pods' logs, refused, ended by the dead-man switch."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pytest_aefm.errors import InterferenceError
from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.testbeds.kubernetes.applying import apply_all, ensure_namespace
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, connect
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import parse_manifests
from pytest_aefm.testbeds.kubernetes.permissions import (
    LEASE_NAMESPACE,
    PERMISSIONS,
    missing_permissions,
    rbac_manifests,
)
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.stress_pods import plan_jobs
from pytest_aefm.testbeds.kubernetes.stressing import PodStressors, StressOptions
from tests.cluster.conftest import BASE_IMAGE, ROOT, TestCluster
from tests.cluster.test_ownership import Wire

MIB = 2**20
CPU = InterferenceSpec("cpu", 1, 0.2, 64 * MIB)
IMAGE = StressOptions(BASE_IMAGE)


@pytest.fixture
def workers(cluster: TestCluster) -> tuple[str, str]:
    """Return the names of both workers."""
    return f"{cluster.name}-worker-1", f"{cluster.name}-worker-2"


Make = Callable[..., PodStressors]


@pytest.fixture
def make(connection: Connection, namespace: str, run_id: str, workers: tuple[str, str]) -> Iterator[Make]:
    """Return what makes stressors of this run; all of them are stopped."""
    dead_man, made = DeadMan(connection), list[PodStressors]()

    def one(nodes: tuple[str, ...] = workers[1:], options: StressOptions = IMAGE) -> PodStressors:
        place = {"namespace": namespace, "run": run_id}
        made.append(PodStressors(connection, dead_man, **place, nodes=nodes, options=options, deadline_s=180))
        return made[-1]

    yield one
    problems = [problem for stressors in made for problem in stressors.stop()]
    assert not dead_man.trouble
    dead_man.close()
    assert not problems


def over(stressors: PodStressors, seconds: float = 1.5) -> dict[str, Dose]:
    """Return the doses of a window that begins now, by kind."""
    before = stressors.read()
    window = Window(time.time(), time.monotonic(), seconds)
    time.sleep(seconds)
    doses, effect = stressors.prove(before, stressors.read(), window)
    assert all(dose.details["nodes"] for dose in doses)
    if os.path.exists("/proc/pressure/cpu") and all(dose.ok for dose in doses):
        assert all("cpu.some" in totals for totals in effect["node_pressure_ms_per_s"].values())
    return {dose.kind: dose for dose in doses}


def pods(connection: Connection, namespace: str) -> list[str]:
    """Return the uids of the pods in a namespace."""
    return [item["metadata"]["uid"] for item in connection.get(f"/api/v1/namespaces/{namespace}/pods")["items"]]


def test_a_dose_begins_grows_and_goes(make: Make, connection: Connection, namespace: str, run_id: str) -> None:
    """0 to 1 makes a Job, 1 to 2 scales it and leaves the first pod alone, 0 removes all; each dose is proven."""
    stressors = make()
    stressors.check([CPU], allow_shared=True)
    stressors.converge([CPU])
    dose = over(stressors)["cpu"]
    assert dose.ok, dose.message
    assert dose.share == 1.0
    (clock,) = map(stressors._clock, stressors.read().pods)
    assert clock is not None
    # The nodes of this cluster have this machine's uptime.
    error_s = clock.offset_s - (time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME))
    assert abs(error_s) < clock.uncertainty_s + 0.5
    (first,) = pods(connection, namespace)
    (listed,) = connection.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert listed["spec"]["priority"] < 0  # anybody else's pod may take its place
    assert listed["spec"]["preemptionPolicy"] == "Never"

    stressors.converge([CPU])
    assert pods(connection, namespace) == [first]

    two = InterferenceSpec("cpu", 2, 0.2, 64 * MIB)
    stressors.converge([two])
    assert first in pods(connection, namespace)
    dose = over(stressors)["cpu"]
    assert dose.ok, dose.message
    assert (dose.count, len(dose.details["workers"])) == (2, 2)

    stressors.converge([CPU])
    assert len(pods(connection, namespace)) == 1
    assert over(stressors)["cpu"].ok
    stressors.converge([two])  # after one was taken away, another can come
    assert len(pods(connection, namespace)) == 2

    stressors.converge([])
    assert pods(connection, namespace) == []
    assert stressors.read().pods == {}
    assert stressors.stop() == []
    assert run_id not in str(connection.get("/apis/scheduling.k8s.io/v1/priorityclasses"))


def test_every_kind_is_proven(make: Make, cluster: TestCluster, workers: tuple[str, str]) -> None:
    """All kinds at once, on both nodes, where PodSecurity is restricted, with the image that comes along."""
    docker = ROOT / "docker"
    cluster.load_image("localhost/aefm-interference:test", docker / "interference.Dockerfile", docker)
    stressors = make(workers, StressOptions("localhost/aefm-interference:test"))
    specs = [
        InterferenceSpec("cpu", 1, 0.05, 64 * MIB),
        InterferenceSpec("mem_capacity", 1, 0.1, 128 * MIB),
        InterferenceSpec("mem_bandwidth", 1, 0.1, 128 * MIB),
        InterferenceSpec("network", 2, 0.1, 64 * MIB, "20M"),
    ]
    stressors.check(specs, allow_shared=True)
    stressors.converge(specs)
    doses = over(stressors, 3)
    assert {"cpu", "mem_capacity", "mem_bandwidth", "network"} == set(doses)
    for dose in doses.values():
        assert dose.ok, dose.message
        assert dose.details["nodes"] == list(workers)
    assert doses["network"].details["streams"] == 4
    assert doses["network"].details["achieved_gbit_per_s"] == pytest.approx(0.08, rel=0.15)
    assert doses["mem_capacity"].details["held_bytes"] >= 2 * 0.9 * 0.9 * 128 * MIB


def test_a_stressor_that_ends_in_the_window_is_told(make: Make, connection: Connection, namespace: str) -> None:
    """A pod that somebody deletes makes the dose unproven, by name; the next converging replaces it."""
    stressors = make()
    stressors.converge([CPU])
    before = stressors.read()
    window = Window(time.time(), time.monotonic(), 1.0)
    (name,) = before.pods
    connection.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", before.pods[name].uid)
    time.sleep(1.0)
    (dose,), _ = stressors.prove(before, stressors.read(), window)
    assert not dose.ok
    assert name in dose.message
    stressors.converge([CPU])
    assert over(stressors)["cpu"].ok


def test_nodes_that_must_not_be_disturbed_are_refused(
    make: Make, cluster: TestCluster, connection: Connection, workers: tuple[str, str], run_id: str
) -> None:
    """The control plane, a node that is not there, a dose without room, and pods of others."""
    other = f"aefm-{run_id}-other"
    ensure_namespace(connection, other, {RUN_LABEL: f"{run_id}-other"})
    container = {"name": "main", "image": BASE_IMAGE, "command": ["sleep", "600"]}
    labels = {RUN_LABEL: f"{run_id}-other"}
    theirs: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs", "labels": labels}}
    theirs["spec"] = {"nodeName": workers[1], "containers": [container], "terminationGracePeriodSeconds": 0}
    connection.create(f"/api/v1/namespaces/{other}/pods", theirs)
    try:
        with pytest.raises(InterferenceError, match=f"pods of others run there: .*{other}/theirs|and . more"):
            make().check([CPU])
        make().check([CPU], allow_shared=True)
    finally:
        remove(connection, find_leftovers(connection, f"{run_id}-other"), deadline_s=0)
    with pytest.raises(InterferenceError, match="control plane, which is never disturbed"):
        make((f"{cluster.name}-control-plane",)).check([CPU], allow_shared=True)
    with pytest.raises(InterferenceError, match=rf"not in cluster .*did you mean '{workers[0]}'"):
        make((workers[0] + "0",)).check([CPU])
    with pytest.raises(InterferenceError, match="the dose does not fit: 1000 cores are asked for"):
        make().check([InterferenceSpec("cpu", 1000)], allow_shared=True)


@pytest.mark.parametrize(
    ("image", "spec", "message"),
    [
        ("localhost/no-such-image:1", CPU, "localhost/no-such-image:1"),
        (BASE_IMAGE, InterferenceSpec("cpu", 1, 1000), "Unschedulable|Insufficient cpu"),
    ],
)
def test_what_will_not_start_is_given_up_early(make: Make, image: str, spec: InterferenceSpec, message: str) -> None:
    """An image that is not there, and a pod that finds no room, are named before the deadline."""
    stressors = make(options=StressOptions(image))
    began = time.monotonic()
    with pytest.raises(InterferenceError, match=message):
        stressors.converge([spec])
    assert time.monotonic() - began < 30
    assert stressors.read().pods == {}


def test_a_quota_is_named(make: Make, connection: Connection, namespace: str) -> None:
    """No pod is made: the Job's controller says why."""
    hard = {"spec": {"hard": {"pods": "0"}}, "metadata": {"name": "small"}}
    connection.create(f"/api/v1/namespaces/{namespace}/resourcequotas", hard)
    with pytest.raises(InterferenceError, match=r"FailedCreate: .*exceeded quota: small"):
        make().converge([CPU])


@pytest.mark.parametrize("whole", [True, False], ids=["cluster", "namespace"])
def test_the_shipped_roles_are_enough(
    cluster: TestCluster, connection: Connection, namespace: str, run_id: str, workers: tuple[str, str], whole: bool
) -> None:
    """With the cluster's role all works; with the namespace's, who else is on a node is not known, and said."""
    name = f"aefm-{run_id}"
    text = rbac_manifests(None if whole else namespace).replace("name: aefm\n", f"name: {name}\n")
    made = [
        item
        for item in parse_manifests(text.replace(LEASE_NAMESPACE, namespace), "rbac.yaml")
        if item.kind != "Namespace"
    ]
    for item in made:
        item.body["metadata"]["labels"] = {RUN_LABEL: run_id}
    apply_all(connection, made)
    with connect(cluster.kubeconfig) as theirs:
        theirs._transport.client.default_headers["Impersonate-User"] = f"system:serviceaccount:{namespace}:{name}"
        missing = [row for row in PERMISSIONS if whole or row.scope != "cluster"]
        deadline = time.monotonic() + 20
        while found := missing_permissions(theirs, missing, namespace, namespace):
            assert time.monotonic() < deadline, found
        dead_man = DeadMan(theirs)
        stressors = PodStressors(theirs, dead_man, namespace=namespace, run=run_id, nodes=workers[1:], options=IMAGE)
        try:
            if not whole:
                with pytest.raises(InterferenceError, match=r"nobody knows who else runs there: .*--aefm-allow-shared"):
                    stressors.check([CPU])
            stressors.check([CPU], allow_shared=True)
            stressors.converge([CPU])
            assert over(stressors)["cpu"].ok
        finally:
            assert stressors.stop() == []
            assert dead_man.trouble == []
            dead_man.close()


KEEPER = """
import sys, time
from pathlib import Path
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.connection import connect
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.stressing import PodStressors, StressOptions
kubeconfig, namespace, run, node, image = sys.argv[1:]
connection = connect(Path(kubeconfig))
stressors = PodStressors(
    connection, DeadMan(connection), namespace=namespace, run=run, nodes=[node], options=StressOptions(image)
)
stressors.converge([InterferenceSpec("cpu", 1, 0.2, 64 * 2**20)])
print("at work", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes two minutes; AEFM_BARS=1 runs it")
def test_stressors_end_without_their_keeper(
    cluster: TestCluster, connection: Connection, namespace: str, run_id: str, workers: tuple[str, str]
) -> None:
    """As long as the keeper lives the pods do, beyond their first deadline; killed, they are gone within 60 s."""
    arguments = [str(cluster.kubeconfig), namespace, run_id, workers[1], BASE_IMAGE]
    with subprocess.Popen([sys.executable, "-c", KEEPER, *arguments], stdout=subprocess.PIPE, text=True) as keeper:
        try:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "at work\n"
            (uid,) = pods(connection, namespace)
            time.sleep(60)
            assert pods(connection, namespace) == [uid]
        finally:
            keeper.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    while pods(connection, namespace):
        assert time.monotonic() - killed < 60
        time.sleep(0.5)
    print(f"gone after {time.monotonic() - killed:.1f} s")


def test_a_job_that_somebody_replaced_is_not_kept(make: Make, connection: Connection, namespace: str) -> None:
    """The dead-man switch patches by uid: the server refuses it for another object of the name."""
    stressors = make()
    stressors.converge([CPU])
    (job,) = connection.get(f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{job['metadata']['name']}"
    other = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "spec": {"activeDeadlineSeconds": 1}}
    with pytest.raises(ApiError) as caught:
        connection.patch(path, other)
    assert caught.value.status in (409, 422)
    assert connection.get(path)["spec"]["activeDeadlineSeconds"] >= 45


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes half a minute; AEFM_BARS=1 runs it")
def test_a_silent_api_server_is_outlived(
    cluster: TestCluster, namespace: str, run_id: str, workers: tuple[str, str], tmp_path: Path
) -> None:
    """It answers nothing for 12 s in the window: stressors are kept all the same, and the dose is proven."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    wire = Wire(str(server.hostname), int(server.port or 443))
    there = {"server": f"https://127.0.0.1:{wire.port}", "tls-server-name": server.hostname}
    config["clusters"][0]["cluster"] |= there
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    with connect(tmp_path / "kubeconfig") as connection:
        dead_man = DeadMan(connection)
        stressors = PodStressors(
            connection, dead_man, namespace=namespace, run=run_id, nodes=workers[1:], options=IMAGE
        )
        try:
            stressors.converge([CPU])
            before, window = stressors.read(), Window(time.time(), time.monotonic(), 14)
            wire.open.clear()
            threading.Timer(12, wire.open.set).start()
            time.sleep(14)
            (dose,), _ = stressors.prove(before, stressors.read(), window)
            assert dose.ok, dose.message
            assert dead_man.trouble == []
        finally:
            wire.open.set()
            assert stressors.stop() == []
            dead_man.close()
    wire.close()


def by_hand(cluster: TestCluster, namespace: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``aefm interfere``, in turns of its own."""
    command = [sys.executable, "-m", "pytest_aefm", "interfere", "--kubeconfig", str(cluster.kubeconfig)]
    command += ["--lease-namespace", namespace, "--image", BASE_IMAGE, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_by_hand(cluster: TestCluster, connection: Connection, namespace: str, workers: tuple[str, str]) -> None:
    """`aefm interfere` says what it does and what was delivered; SIGTERM ends it early, and nothing is left."""
    arguments = ["--cpu", "1", "--cpu-size", "200m", "--mem-size", "64Mi", "--nodes", workers[1], "--allow-shared"]
    with by_hand(cluster, namespace, *arguments, "--for", "10m") as started:
        assert started.stdout is not None
        try:
            assert started.stdout.readline() == f"at work on {workers[1]}: 1 x cpu, for 600 s\n"
            (pod,) = of_a_hand(connection)
            with by_hand(cluster, namespace, *arguments) as second:
                told = second.communicate(timeout=180)[1]
            assert second.returncode == 1
            assert pod["metadata"]["labels"][RUN_LABEL] in told
            time.sleep(1)
            started.send_signal(signal.SIGTERM)
            out, err = started.communicate(timeout=180)
        finally:
            started.kill()
    assert (started.returncode, err) == (0, ""), out
    assert out.splitlines()[-1] == "ok    cpu: 100% of the dose was delivered"
    assert of_a_hand(connection) == []


def of_a_hand(connection: Connection) -> list[dict[str, Any]]:
    """Return the pods that ``aefm interfere`` has made, whoever called it."""
    listed = connection.get("/api/v1/pods", labelSelector="aefm.dev/role=interference")["items"]
    return [item for item in listed if item["metadata"]["labels"][RUN_LABEL].startswith("interfere-")]


def test_by_hand_refuses(cluster: TestCluster, namespace: str) -> None:
    """The control plane is not disturbed; the message is one line, and nothing is left."""
    arguments = ["--cpu", "1", "--nodes", f"{cluster.name}-control-plane"]
    with by_hand(cluster, namespace, *arguments) as started:
        _, err = started.communicate(timeout=180)
    assert started.returncode == 1
    assert "control plane, which is never disturbed" in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes a minute, and an idle machine; AEFM_BARS=1 runs it")
def test_as_soon_as_kubectl(
    make: Make, cluster: TestCluster, namespace: str, run_id: str, workers: tuple[str, str], tmp_path: Path
) -> None:
    """From 0 to 1, confirmed to work, takes at most 1.5 x what apply and wait take; scaling to 2 costs no more."""
    (job,) = plan_jobs([CPU], [workers[1]])
    body = job.manifest(namespace, f"{run_id}-kubectl", IMAGE)
    name, file = body["metadata"]["name"], tmp_path / "job.json"
    file.write_text(json.dumps(body))
    program = Path(os.environ.get("TESTCLUSTER_CACHE", "/var/cache/testcluster")) / "bin" / "kubectl"
    kubectl = [str(program), "--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]

    def by_kubectl() -> float:
        began = time.monotonic()
        subprocess.run([*kubectl, "apply", "-f", str(file)], check=True, capture_output=True)
        ready = ["wait", f"job/{name}", "--for=jsonpath={.status.ready}=1", "--timeout=60s"]
        subprocess.run([*kubectl, *ready], check=True, capture_output=True)
        taken_s = time.monotonic() - began
        subprocess.run([*kubectl, "delete", "-f", str(file), "--cascade=foreground"], check=True, capture_output=True)
        return taken_s

    def timed(count: int) -> float:
        began = time.monotonic()
        stressors.converge([InterferenceSpec("cpu", count, 0.2, 64 * MIB)])
        return time.monotonic() - began

    stressors = make()
    rows = []
    for _ in range(5):
        rows.append((by_kubectl(), timed(1), timed(2), timed(2)))
        stressors.converge([])
    kubectl_s, begin_s, scale_s, same_s = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"kubectl {kubectl_s:.2f} s, 0 -> 1 {begin_s:.2f} s, 1 -> 2 {scale_s:.2f} s, unchanged {same_s:.3f} s")
    assert begin_s <= 1.5 * kubectl_s
    assert scale_s <= 1.5 * kubectl_s
    assert same_s <= 0.3
