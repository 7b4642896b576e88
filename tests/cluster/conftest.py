"""A real cluster for the tests in this folder.

``AEFM_TEST_CLUSTER`` names the program that starts and ends one (``up``, ``down``, ``load-image``). With
``AEFM_TEST_CLUSTER_NAME`` the cluster of that name is used, started if need be, and left running. With
``AEFM_TEST_IMAGES=loaded`` its images are taken as an earlier session has left them.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_aefm.mesh.program import find_mesh
from pytest_aefm.testbeds.kubernetes.applying import ensure_namespace
from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove

if TYPE_CHECKING:
    from tests.cluster.project import Project

ROOT = Path(__file__).parents[2]
BASE_IMAGE = "localhost/aefm-base:1"
MESH_IMAGE = "localhost/aefm-mesh:test"
LOAD_IMAGE = "localhost/aefm-load:test"
_LOADED = os.environ.get("AEFM_TEST_IMAGES") == "loaded"


@dataclass(frozen=True)
class TestCluster:
    """A running cluster: its name, the address of its entries, and the file with which it is reached.

    ``prometheus`` and ``jaeger`` are where these answer on it, "" where it has none.
    """

    __test__ = False

    program: Path
    name: str
    host: str
    kubeconfig: Path
    prometheus: str = ""
    jaeger: str = ""

    def load_image(self, image: str, dockerfile: Path, context: Path, base: str | None = BASE_IMAGE) -> None:
        """Build an image and put it on every node; ``base`` stands in for the one that its build file names."""
        command = ["load-image", image, "--name", self.name, "--dockerfile", dockerfile, "--context", context]
        _run(self.program, *command, *(["--base", base] if base else []))


def _run(program: Path, *arguments: object) -> str:
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _running(program: Path, name: str) -> str | None:
    """Return what is to be known of a cluster, None where none of this name runs."""
    done = subprocess.run([program, "env", "--name", name], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """Start a cluster of two workers, and end it."""
    found = os.environ.get("AEFM_TEST_CLUSTER")
    if not found:
        pytest.skip("no cluster: AEFM_TEST_CLUSTER does not name a program that starts one")
    program, kept = Path(found), os.environ.get("AEFM_TEST_CLUSTER_NAME")
    name = kept or f"aefm-{os.getpid()}"
    try:
        printed = _running(program, name) if kept else None
        if printed is None:  # one that runs is taken as it is, whatever add-ons it has
            options = ("--workers", 2, "--pin-workers")
            printed = _run(program, "up", "--name", name, *options)
        values = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines() if "=" in line)
        addresses = values.get("PROMETHEUS_URL", ""), values.get("JAEGER_URL", "")
        yield TestCluster(program, name, values["CLUSTER_HOST"], Path(values["KUBECONFIG"]), *addresses)
    finally:
        if not kept:
            _run(program, "down", "--name", name)


def build_wheel(context: Path, *settings: str) -> None:
    """Build the wheel of this tree into ``dist`` of an image's context, as the build files say."""
    tree = context / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    options = [part for setting in settings for part in ("-C", setting)]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *options]
    subprocess.run([*command, "--wheel-dir", str(context / "dist"), str(tree)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def mesh_image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image of a mesh service from the program that set-up built, as its build file says, and load it."""
    if _LOADED:
        return MESH_IMAGE
    context = tmp_path_factory.mktemp("image")
    shutil.copy2(find_mesh().path, context / "aefm-mesh")
    cluster.load_image(MESH_IMAGE, ROOT / "docker" / "mesh.Dockerfile", context, base=None)
    return MESH_IMAGE


@pytest.fixture(scope="session")
def load_image(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image of a pod of load from this tree as its build file says, and load it."""
    if _LOADED:
        return LOAD_IMAGE
    context = tmp_path_factory.mktemp("image")
    build_wheel(context, "wheel.py-api=py3", "cmake.define.AEFM_STATIC_LUAJIT=ON")
    cluster.load_image(LOAD_IMAGE, ROOT / "docker" / "load.Dockerfile", context)
    return LOAD_IMAGE


@pytest.fixture
def connection(cluster: TestCluster) -> Iterator[Connection]:
    """Return a connection to the cluster."""
    with connect(cluster.kubeconfig) as made:
        yield made


_numbers = itertools.count(1)


@pytest.fixture
def run_id() -> str:
    """Return the id of a run that no other test has."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def namespace(connection: Connection, run_id: str) -> Iterator[str]:
    """Return a namespace of the run, in which only pods of the restricted profile are admitted."""
    name = f"aefm-{run_id}"
    labels = {RUN_LABEL: run_id, "pod-security.kubernetes.io/enforce": "restricted"}
    assert ensure_namespace(connection, name, labels)
    yield name
    remove(connection, find_leftovers(connection, run_id), deadline_s=0)  # what is slow to go may go while others run


@pytest.fixture
def lease(connection: Connection, run_id: str) -> Iterator[str]:
    """Return a namespace for a lease of its own, so that other tests need not wait."""
    name = f"lease-{run_id}"
    yield name
    for item in connection.get("/api/v1/namespaces")["items"]:
        if item["metadata"]["name"] == name:
            connection.delete(f"/api/v1/namespaces/{name}", item["metadata"]["uid"])


@pytest.fixture
def project(cluster: TestCluster, mesh_image: str, lease: str, tmp_path: Path) -> Project:
    """Return a folder with a small experiment."""
    from tests.cluster.project import Project

    made = Project(cluster, tmp_path, mesh_image, lease)
    made.write()
    return made
