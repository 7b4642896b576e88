"""Applications on a real cluster: applied, awaited, given up with the reason, removed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import yaml

from pytest_aefm.apps import find_app
from pytest_aefm.errors import AefmError, DeploymentError
from pytest_aefm.mesh.topology import Topology, load_topology
from pytest_aefm.testbeds.kubernetes.applying import Applied, apply_all, ensure_namespace
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.converging import DeployedApp
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL, Edits, edit
from pytest_aefm.testbeds.kubernetes.entry import entry_url, wait_answering
from pytest_aefm.testbeds.kubernetes.manifests import INFRA, Manifest, parse_manifests
from pytest_aefm.testbeds.kubernetes.mesh import MeshOptions, mesh_manifests
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.waiting import wait_ready
from tests.cluster.conftest import BASE_IMAGE, TestCluster

NODE_PORT = 30628
SECURE = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
SMALL = {"cpu": "50m", "memory": "32Mi"}


def container(**more: Any) -> dict[str, Any]:
    """Return a container that sleeps, unless it is told otherwise."""
    command = ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]
    made = {"name": "main", "image": BASE_IMAGE, "command": command, "securityContext": SECURE}
    return {**made, "resources": {"requests": SMALL, "limits": SMALL}, **more}


def workload(kind: str, name: str, *, spec: dict[str, Any] | None = None, **more: Any) -> Manifest:
    """Return a workload of one such container."""
    labels = {"app": name}
    pod = {"containers": [container(**more)], "terminationGracePeriodSeconds": 1, **(spec or {})}
    wanted: dict[str, Any] = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    if kind != "Job":
        wanted["selector"] = {"matchLabels": labels}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return Manifest({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": wanted})


class Run:
    """Deploys in the name of a run."""

    def __init__(self, connection: Connection, namespace: str, run_id: str) -> None:
        self.connection, self.namespace, self.id = connection, namespace, run_id

    def apply(self, *manifests: Manifest, **edits: Any) -> tuple[Applied, ...]:
        """Edit and apply manifests."""
        edited = edit(manifests, Edits(self.namespace, self.id, "x", **edits))
        return apply_all(self.connection, edited)

    def wait(self, applied: tuple[Applied, ...], deadline_s: float = 60) -> float:
        """Wait until all is ready."""
        return wait_ready(self.connection, "x", applied, self.namespace, self.id, deadline_s=deadline_s)

    def refusal(self, *manifests: Manifest, deadline_s: float = 60) -> str:
        """Return why manifests do not get ready, which must be known in under 30 s."""
        began = time.monotonic()
        with pytest.raises(DeploymentError) as caught:
            self.wait(self.apply(*manifests), deadline_s)
        assert time.monotonic() - began < 30
        return str(caught.value)

    def pods(self) -> dict[str, str]:
        """Return the uid of each pod of the run by its first label ``app``, or its service's name."""
        listed = self.connection.get(
            f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=f"{RUN_LABEL}={self.id}"
        )
        named = ((item["metadata"]["labels"], item["metadata"]["uid"]) for item in listed["items"])
        return {labels.get("app") or labels["app.kubernetes.io/name"]: uid for labels, uid in named}


@pytest.fixture
def run(connection: Connection, namespace: str, run_id: str) -> Run:
    """Return what deploys for this test's run."""
    return Run(connection, namespace, run_id)


@pytest.fixture
def hotel() -> Topology:
    """Return the topology of the hotel."""
    return load_topology(find_app("hotel").topology_path)


def test_hotel_converges(
    connection: Connection, namespace: str, run_id: str, cluster: TestCluster, mesh_image: str, hotel: Topology
) -> None:
    """The hotel answers where PodSecurity is restricted; unchanged it costs nothing; only what changes is replaced."""
    run, deployed = Run(connection, namespace, run_id), DeployedApp(connection, "hotel", namespace, run_id)

    def edited(rate: float = 30.0, **edits: Any) -> tuple[Manifest, ...]:
        manifests = mesh_manifests(hotel, MeshOptions(mesh_image, rate, node_port=NODE_PORT))
        return edit(manifests, Edits(namespace, run_id, "hotel", cpu="100m", memory="128Mi", **edits))

    def answers() -> None:
        wait_answering("hotel", entry_url(connection, namespace, "frontend", cluster.host), hotel.smoke, deadline_s=20)

    assert deployed.converge(edited())
    answers()
    first = run.pods()
    assert set(hotel.services) == set(first)

    began = time.monotonic()
    assert not deployed.converge(edited())
    assert time.monotonic() - began < 2  # 0.1 s where nothing else runs

    assert deployed.converge(edited(replicas={"rate": 2}))
    assert first.items() - {("rate", first["rate"])} <= run.pods().items()
    assert deployed.converge([item for item in edited() if item.name != "user"])
    assert {*hotel.services} - {"user"} == set(run.pods())

    assert [] == deployed.remove()
    assert [] == find_leftovers(connection, run_id)


def test_reload_keeps_infra_and_restart_does_not(run: Run, connection: Connection) -> None:
    """What is under test is replaced by both; infra, and its volume, by a restart alone."""
    db = workload("StatefulSet", "db", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    db.body["spec"] |= {"serviceName": "db", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}
    both = (replace(db, role=INFRA), workload("Deployment", "geo"))
    deployed = DeployedApp(connection, "x", run.namespace, run.id, deadline_s=60)
    deployed.converge(edit(both, Edits(run.namespace, run.id, "x")))

    def uids() -> tuple[str, str, str]:
        (volume,) = connection.get(f"/api/v1/namespaces/{run.namespace}/persistentvolumeclaims")["items"]
        pods = run.pods()
        return pods["geo"], pods["db"], volume["metadata"]["uid"]

    first = uids()
    deployed.reload()
    second = uids()
    assert (True, False, False) == tuple(one != other for one, other in zip(first, second, strict=True))
    deployed.restart()
    assert (True, True, True) == tuple(one != other for one, other in zip(second, uids(), strict=True))


def test_what_died_is_deployed_anew(run: Run, connection: Connection) -> None:
    """Unchanged manifests are no reason to do nothing where the cluster has something else."""
    wanted = edit((workload("Deployment", "geo"),), Edits(run.namespace, run.id, "x"))
    deployed = DeployedApp(connection, "x", run.namespace, run.id, deadline_s=60)
    deployed.converge(wanted)
    (applied,) = deployed.applied
    assert connection.delete(applied.path, applied.uid)
    assert deployed.converge(wanted)
    assert {"geo"} == set(run.pods())
    connection.patch(applied.path, {"spec": {"paused": True}})
    assert deployed.converge(wanted)


def test_nothing_is_left(run: Run, connection: Connection) -> None:
    """A namespace that a run made goes with all that is in it, and is gone when that is said."""
    run.wait(run.apply(workload("Deployment", "geo")))
    assert ["Namespace"] == [item.resource.kind for item in find_leftovers(connection, run.id)]
    assert [] == remove(connection, find_leftovers(connection, run.id))
    assert [] == find_leftovers(connection, run.id)
    with pytest.raises(ApiError, match="404"):
        connection.get(f"/api/v1/namespaces/{run.namespace}")


def test_every_kind_is_awaited(run: Run, connection: Connection) -> None:
    """Definitions and their objects, StatefulSets with volumes, DaemonSets, Jobs, Pods, cluster-scoped objects."""
    text = f"""
apiVersion: example.org/v1
kind: Moon
metadata: {{name: io-{run.id}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: moons.example.org}}
spec:
  group: example.org
  scope: Cluster
  names: {{kind: Moon, plural: moons, singular: moon}}
  versions: [{{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object}}}}}}]
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: disk-{run.id}}}
spec: {{capacity: {{storage: 1Mi}}, accessModes: [ReadWriteOnce], hostPath: {{path: /tmp/x}}, storageClassName: none}}
---
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}, ports: [{{port: 80}}]}}
"""
    db = workload("StatefulSet", "db", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    db.body["spec"] |= {"serviceName": "db", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}
    seed = workload("Job", "seed", spec={"restartPolicy": "Never"}, command=["true"])
    run.wait(run.apply(*parse_manifests(text, "moons.yaml"), db, seed, workload("DaemonSet", "agent")))
    assert {"db", "agent", "seed"} == set(run.pods()) | {"seed"}

    found = {item.resource.kind for item in find_leftovers(connection, run.id)}
    assert {"Namespace", "CustomResourceDefinition", "PersistentVolume", "Moon"} <= found


def test_a_wrong_image_is_named(run: Run) -> None:
    """Pod, container and image, and what the kubelet said."""
    message = run.refusal(workload("Deployment", "geo", image="localhost/no-such-image:1"))
    assert "app 'x': not ready after" in message
    assert "pod geo-" in message
    assert "container main: ErrImagePull" in message or "container main: ImagePullBackOff" in message
    assert "localhost/no-such-image:1" in message
    assert f"see kubectl -n {run.namespace} describe pod geo-" in message


def test_a_crashing_container_is_quoted(run: Run) -> None:
    """How it ended, and the last that it wrote."""
    command = ["sh", "-c", "echo no database at db:5432; exit 3"]
    probe = {"exec": {"command": ["true"]}}
    message = run.refusal(workload("Deployment", "geo", command=command, readinessProbe=probe))
    assert "container main: CrashLoopBackOff: Error, exit status 3" in message
    assert "log: no database at db:5432" in message


def test_a_container_that_ends_once_is_given_time(run: Run) -> None:
    """It may have been started before what it needs."""
    command = ["sh", "-c", "[ -e /tmp/x/once ] || { touch /tmp/x/once; exit 1; }; sleep 600 & wait"]
    volumes = [{"name": "x", "emptyDir": {}}]
    mounts = [{"name": "x", "mountPath": "/tmp/x"}]
    run.wait(run.apply(workload("Deployment", "geo", spec={"volumes": volumes}, command=command, volumeMounts=mounts)))


def test_a_missing_config_map_is_named(run: Run) -> None:
    """The container cannot be made without it."""
    source = {"configMapRef": {"name": "settings"}}
    message = run.refusal(workload("Deployment", "geo", envFrom=[source]))
    assert 'container main: CreateContainerConfigError: configmap "settings" not found' in message


def test_a_missing_volume_is_named(run: Run) -> None:
    """A pod that waits for a ConfigMap as a volume has no container that says so; its events do."""
    volumes = [{"name": "x", "configMap": {"name": "settings"}}]
    mounts = [{"name": "x", "mountPath": "/x"}]
    message = run.refusal(workload("Deployment", "geo", spec={"volumes": volumes}, volumeMounts=mounts))
    assert 'FailedMount: MountVolume.SetUp failed for volume "x" : configmap "settings" not found' in message


def test_a_pod_without_room_is_named(run: Run) -> None:
    """No node has so much."""
    message = run.refusal(
        workload("Deployment", "geo", resources={"requests": {"cpu": "100"}, "limits": {"cpu": "100"}})
    )
    assert ": Unschedulable: 0/3 nodes are available" in message
    assert "Insufficient cpu" in message


def test_a_quota_is_named(run: Run) -> None:
    """No pod is there to say anything: the ReplicaSet's controller does."""
    hard = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}}
    for kind in ("Deployment", "StatefulSet"):
        message = run.refusal(Manifest(hard), workload(kind, f"geo-{kind.lower()}"))
        assert f"{kind} geo-{kind.lower()}: FailedCreate: " in message
        assert "exceeded quota: small" in message


def test_what_is_not_admitted_is_named(run: Run) -> None:
    """PodSecurity refuses a pod that may become root."""
    message = run.refusal(workload("Deployment", "geo", securityContext={}))
    assert "Deployment geo: FailedCreate: " in message
    assert 'violates PodSecurity "restricted' in message


def test_the_deadline_says_what_lacks(run: Run) -> None:
    """Nothing is wrong, it is only slow: what was last seen is said."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    message = run.refusal(workload("Deployment", "geo", readinessProbe=probe), deadline_s=6)
    assert "not ready: Deployment 'geo': 0/1 available" in message


def test_another_manager_is_named(run: Run) -> None:
    """A field that somebody else applied is not taken from them."""
    run.apply(workload("Deployment", "geo"))
    path = f"/apis/apps/v1/namespaces/{run.namespace}/deployments/geo"
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "geo"}, "spec": {"replicas": 0}}
    run.connection.apply(path, theirs, "autopilot")
    with pytest.raises(DeploymentError, match=r"somebody else manages \.spec\.replicas .*autopilot"):
        run.apply(workload("Deployment", "geo"), replicas={"geo": 1})


def test_what_others_made_is_not_touched(run: Run, connection: Connection) -> None:
    """An object of the same name, made by nobody of ours, is refused, and stays when all of ours is removed."""
    path = f"/api/v1/namespaces/{run.namespace}/configmaps"
    theirs = connection.create(path, {"metadata": {"name": "geo"}, "data": {"a": "1"}})
    ours = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "geo"}, "data": {"a": "2"}}
    with pytest.raises(DeploymentError, match=r"is in namespace .* already, and no run of ours made it"):
        run.apply(Manifest(ours))
    run.apply(Manifest({**ours, "metadata": {"name": "ours"}}))
    mine = [item for item in find_leftovers(connection, run.id, run.namespace) if item.resource.kind != "Namespace"]
    assert ["ours"] == [item.name for item in mine]
    assert [] == remove(connection, mine)
    assert theirs["data"] == connection.get(f"{path}/geo")["data"]


def test_a_name_that_was_taken_over_is_not_deleted(run: Run, connection: Connection) -> None:
    """Deletion is by uid: what has the name now is another object."""
    (applied,) = run.apply(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "geo"}}))
    (old,) = find_leftovers(connection, run.id, run.namespace)
    assert [] == remove(connection, [old])
    new = connection.create(f"/api/v1/namespaces/{run.namespace}/configmaps", {"metadata": {"name": "geo"}})
    assert [] == remove(connection, [old])
    assert new["metadata"]["uid"] == connection.get(applied.path)["metadata"]["uid"]


def test_a_stuck_namespace_names_what_holds_it(connection: Connection, run_id: str) -> None:
    """A finalizer that nobody serves keeps a namespace; the message says which."""
    name = f"aefm-stuck-{run_id}"
    ensure_namespace(connection, name, {RUN_LABEL: run_id})
    path = f"/api/v1/namespaces/{name}/configmaps"
    connection.create(path, {"metadata": {"name": "held", "finalizers": ["example.org/never"]}})
    try:
        (problem,) = remove(connection, find_leftovers(connection, run_id), deadline_s=4)
        assert f"Namespace {name} (run {run_id}): still there, held by kubernetes" in problem
        assert "example.org/never" in problem
        with pytest.raises(DeploymentError, match="is being deleted"):
            ensure_namespace(connection, name, {RUN_LABEL: run_id})
    finally:
        connection.patch(f"{path}/held", {"metadata": {"finalizers": None}})
    assert [] == remove(connection, find_leftovers(connection, run_id))


def test_what_may_not_be_done_is_named(run: Run, connection: Connection) -> None:
    """An account without permission is told so in the server's words."""
    account = f"system:serviceaccount:{run.namespace}:default"
    headers = connection._transport.client.default_headers
    headers["Impersonate-User"] = account
    try:
        with pytest.raises(ApiError, match=f'403: .* User "{account}" cannot get resource'):
            run.apply(workload("Deployment", "geo"))
    finally:
        del headers["Impersonate-User"]


def test_malformed_manifests_are_refused_by_the_server(run: Run) -> None:
    """What only the server can know is said with file and document."""
    text = "{apiVersion: v1, kind: Service, metadata: {name: geo}, spec: {ports: [{port: many}]}}"
    with pytest.raises(AefmError, match=r"svc\.yaml:1 \(document 1\): Service 'geo': refused by cluster .*port"):
        run.apply(*parse_manifests(text, "svc.yaml"))
    with pytest.raises(AefmError, match=r"x\.yaml:1 .*does not serve the kind Servise of v1; did you mean 'Service'\?"):
        run.apply(
            *parse_manifests(
                yaml.safe_dump({"apiVersion": "v1", "kind": "Servise", "metadata": {"name": "x"}}), "x.yaml"
            )
        )


def test_one_run_does_not_find_another(connection: Connection, run: Run) -> None:
    """What one run left is not what another made."""
    run.apply(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "geo"}}))
    (item,) = run.apply(Manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}))
    other = replace(item.manifest, body={**item.manifest.body})
    other.body["metadata"] = {**other.body["metadata"], "labels": {RUN_LABEL: f"{run.id}-b"}}
    apply_all(connection, [other])
    found = {item.name for item in find_leftovers(connection, f"{run.id}-b")}
    assert {"other"} == found
