"""Load from pods of a real cluster is one load: together, whole, and gone when nobody wants it any more."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pytest_aefm.errors import DisruptionError, LoadError, ScriptError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.judgement import load_checks, start_check
from pytest_aefm.load.aefm_wrk import read_result
from pytest_aefm.mesh.model import SmokeRequest
from pytest_aefm.model import LoadResult, LoadSpec
from pytest_aefm.testbeds.kubernetes.applying import MANAGER, apply_all, ensure_namespace
from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL, Edits, edit
from pytest_aefm.testbeds.kubernetes.entry import entry_url, wait_answering
from pytest_aefm.testbeds.kubernetes.load_pods import LOAD_LABEL
from pytest_aefm.testbeds.kubernetes.load_run import ClusterRun
from pytest_aefm.testbeds.kubernetes.loading import ClusterLoad, inside_url
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.waiting import wait_ready
from tests.cluster.conftest import BASE_IMAGE, TestCluster
from tests.cluster.test_deploying import container

RUN = f"load-{os.getpid()}"
LOAD = LoadSpec("x.lua", rate_rps=90, duration_s=3, warmup_s=1, timeout_s=10, connections=60, seed=3)
SCRIPT = "function request() return wrk.format('GET', '/' .. math.random(1000000)) end\n"
SERVER = """
import asyncio
seen = 0
async def serve(reader, writer):
    global seen
    try:
        while True:
            line = (await reader.readuntil(b"\\r\\n\\r\\n")).split(b" ")[1]
            if line == b"/seen":
                body = str(seen).encode()
            else:
                seen, body = seen + 1, b"ok"
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
async def main():
    async with await asyncio.start_server(serve, "", 8080) as server:
        await server.serve_forever()
asyncio.run(main())
"""


class Site:
    """A namespace with a server that counts its requests, on worker 1; loads come from worker 2."""

    def __init__(self, cluster: TestCluster, connection: Connection, image: str, namespace: str) -> None:
        self.cluster, self.connection, self.image, self.namespace = cluster, connection, image, namespace
        self.dead_man = DeadMan(connection)
        self.server_node, self.load_node = f"{cluster.name}-worker-1", f"{cluster.name}-worker-2"

    def deploy(self) -> None:
        """Deploy the server; it is what is under test."""
        labels = {"app": "server"}
        port = {"name": "http", "containerPort": 8080}
        ready = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        size = {"cpu": "200m", "memory": "64Mi"}
        resources = {"requests": size, "limits": size}
        command = ["python3", "-c", SERVER]
        pod = {
            "containers": [container(command=command, ports=[port], readinessProbe=ready, resources=resources)],
            "terminationGracePeriodSeconds": 0,
        }
        template = {"metadata": {"labels": labels}, "spec": pod}
        deployment = {"selector": {"matchLabels": labels}, "template": template}
        service = {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
        bodies = (("apps/v1", "Deployment", deployment), ("v1", "Service", service))
        manifests = tuple(
            Manifest({"apiVersion": version, "kind": kind, "metadata": {"name": "server"}, "spec": spec})
            for version, kind, spec in bodies
        )
        edits = Edits(self.namespace, RUN, "x", nodes={"under_test": [self.server_node]})
        applied = apply_all(self.connection, edit(manifests, edits))
        wait_ready(self.connection, "x", applied, self.namespace, RUN, deadline_s=60)
        smoke = [SmokeRequest(method="GET", path="/seen", expect=200)]
        wait_answering("x", self.entry, smoke, deadline_s=30)

    def load(self, pods: int, *, image: str | None = None, node: str | None = None) -> ClusterLoad:
        """Return what drives loads."""
        return ClusterLoad(
            self.connection,
            self.dead_man,
            namespace=self.namespace,
            run=RUN,
            nodes=(node or self.load_node,),
            pods=pods,
            image=image or self.image,
            ready_s=40,
        )

    @property
    def entry(self) -> str:
        """Return the server's URL for this machine."""
        return entry_url(self.connection, self.namespace, "server", self.cluster.host)

    @property
    def url(self) -> str:
        """Return the server's URL for pods."""
        return inside_url(self.connection, self.namespace, "server")

    def seen(self) -> int:
        """Return how many requests the server has answered."""
        with requests.Session() as session:
            session.trust_env = False
            return int(session.get(f"{self.entry}/seen", timeout=10).text)

    def pods(self, run: ClusterRun) -> list[dict[str, Any]]:
        """Return the pods of a load that are there."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found: list[dict[str, Any]] = self.connection.get(path, labelSelector=f"{LOAD_LABEL}={run.pods.name}")["items"]
        return found

    def left(self) -> list[str]:
        """Return what loads have left."""
        return [
            str(one) for one in find_leftovers(self.connection, RUN, self.namespace) if one.name.startswith("aefm-load")
        ]


@pytest.fixture(scope="module")
def site(cluster: TestCluster, load_image: str) -> Iterator[Site]:
    """Return a place to load, in which only pods of the restricted profile are admitted."""
    with connect(cluster.kubeconfig) as connection:
        namespace = f"aefm-{RUN}"
        labels = {RUN_LABEL: RUN, "pod-security.kubernetes.io/enforce": "restricted"}
        assert ensure_namespace(connection, namespace, labels)
        made = Site(cluster, connection, load_image, namespace)
        try:
            made.deploy()
            yield made
        finally:
            made.dead_man.close()
            remove(connection, find_leftovers(connection, RUN), deadline_s=0)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a script whose requests all differ."""
    path = tmp_path / "x.lua"
    path.write_text(SCRIPT)
    return path


def drive(drives: ClusterLoad, script: Path, url: str, folder: Path) -> tuple[ClusterRun, LoadResult]:
    """Run the load to its end, as a trial does."""
    run = drives.start("aefm-wrk", LOAD, script, url, folder)
    try:
        assert not run.ended()
        while time.monotonic() < run.window.end_mono_s:
            time.sleep(0.05)
        return run, run.result(LOAD.timeout_s + 15)
    finally:
        run.stop()


def test_three_pods_are_one_generator(
    site: Site, script: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """They start within 50 ms; the merged histogram is that of all requests, as many as the server counted."""
    drives = site.load(3)
    for _ in range(3):  # a machine that stalls starts late, and the self-checks say so
        before, began = site.seen(), time.monotonic()
        run, result = drive(drives, script, site.url, tmp_path)
        assert 270 == result.offered == sum(result.outcomes.values())
        assert result.sent == result.successes  # where the machine stalls, some may wait when the window ends: unsent
        assert 90 + result.successes == site.seen() - before  # with a second of warm-up
        each = [read_result(json.loads(file.read_text())) for file in sorted(tmp_path.glob("load-*.json"))]
        assert 3 == len(each)
        buckets = [bucket for one in each for bucket in one.latency["success"].buckets()]
        values = [value for value, count in buckets for _ in range(count)]
        assert LatencyHistogram.of(values) == result.latency["success"]
        assert result.successes == result.latency["success"].count > 0
        assert {site.load_node} == {pod["node"] for pod in result.details["pods"]}
        checks = {check.name: check for check in (*load_checks(result), start_check(run.window, result.window))}
        wrong = [checks[name].message for name in ("load start skew", "start on time") if not checks[name].ok]
        lead_s = run.window.start_mono_s - LOAD.warmup_s - began
        record_property("details", {**result.details, "lead_s": lead_s})
        if not wrong:
            break
    assert [] == wrong
    # Here the pods' clock is ours, so that what is measured of it can be compared with the truth.
    off_s = abs(result.window.start_mono_s - each[0].window.start_mono_s)
    assert off_s <= (result.details["clock_uncertainty_ms"] + result.details["start_skew_ms"]) / 1e3 + 0.01
    assert [] == drives.stop()
    assert [] == site.left()


def test_error_of_a_script_is_that_of_its_file(site: Site, tmp_path: Path) -> None:
    """What a pod's generator says of its script is said of the file here, with its line."""
    path = tmp_path / "wrong.lua"
    path.write_text("function request()\n  return wrk.format('GET', nothing.there)\nend\n")
    run = site.load(1).start("aefm-wrk", LOAD, path, site.url, tmp_path)
    try:
        with pytest.raises(ScriptError) as caught:
            run.result(20)
    finally:
        run.stop()
    assert f"{path}:2" == caught.value.subject


def test_pod_that_is_taken_away_is_named(site: Site, script: Path, tmp_path: Path) -> None:
    """A load without one of its pods is no result."""
    run = site.load(2).start("aefm-wrk", LOAD, script, site.url, tmp_path)
    (victim, *_) = site.pods(run)
    name = victim["metadata"]["name"]
    site.connection.delete(f"/api/v1/namespaces/{site.namespace}/pods/{name}", victim["metadata"]["uid"], grace_s=0)
    try:
        with pytest.raises(DisruptionError, match=f"pod {name} "):
            run.result(20)
    finally:
        run.stop()


def test_image_that_is_not_there_is_named(site: Site, script: Path, tmp_path: Path) -> None:
    """Pods that do not come up are told of at once, with the reason, and leave nothing."""
    began = time.monotonic()
    with pytest.raises(LoadError, match=r"0 of 1 pods run .*(ErrImagePull|ImagePullBackOff): .*localhost/nowhere:1"):
        site.load(1, image="localhost/nowhere:1").start("aefm-wrk", LOAD, script, site.url, tmp_path)
    assert time.monotonic() - began < 30
    assert [] == site.load(1).stop()
    assert [] == site.left()


def test_load_is_never_beside_what_is_tested(site: Site, script: Path, tmp_path: Path) -> None:
    """A node where something under test runs takes no pod of load, whatever the experiment says."""
    with pytest.raises(LoadError, match=r"0 of 1 pods run .*Unschedulable: .*anti-affinity"):
        site.load(1, node=site.server_node).start("aefm-wrk", LOAD, script, site.url, tmp_path)


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes a minute: AEFM_BARS is not set")
def test_load_that_nobody_keeps_ends(site: Site, script: Path, tmp_path: Path) -> None:
    """Once the run is gone, its load ends within a minute, without it."""
    dead_man, drives = DeadMan(site.connection), site.load(2)
    drives._dead_man = dead_man
    long = LoadSpec("x.lua", rate_rps=20, duration_s=300, warmup_s=1, connections=2, seed=3)
    run = drives.start("aefm-wrk", long, script, site.url, tmp_path)
    threading.Event().wait(25)  # longer than the first deadline, less what is left of it
    dead_man.close()
    began = time.monotonic()
    while any(pod["status"].get("phase") == "Running" for pod in site.pods(run)):
        assert time.monotonic() - began < 60
        time.sleep(0.5)
    seen = site.seen()
    time.sleep(1)
    assert seen == site.seen()
    run.stop()
    assert [] == drives.stop()


def test_base_image_is_no_image_of_load(site: Site, script: Path, tmp_path: Path) -> None:
    """An image without this package is told by what its pod says."""
    with pytest.raises(LoadError, match="No module named"):
        site.load(1, image=BASE_IMAGE).start("aefm-wrk", LOAD, script, site.url, tmp_path)


def test_quota_that_is_full_is_named(site: Site, script: Path, tmp_path: Path) -> None:
    """What the namespace does not admit is said in the words of the API server."""
    # The last test of the site: admission remembers a quota for a moment after it is gone.
    path = f"/api/v1/namespaces/{site.namespace}/resourcequotas/full"
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}}
    uid = site.connection.apply(path, body, MANAGER)["metadata"]["uid"]
    try:
        with pytest.raises(LoadError, match=r"0 of 1 pods run .*FailedCreate: .*exceeded quota: full"):
            site.load(1).start("aefm-wrk", LOAD, script, site.url, tmp_path)
    finally:
        site.connection.delete(path, uid)
