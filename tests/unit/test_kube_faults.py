"""Faults of a mesh's pods: set through the API server, kept by telling them again, ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError, InterferenceError
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.faults import prove_faults
from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.faulting import PodFaults
from pytest_aefm.testbeds.kubernetes.observing import PodMark, PodState
from pytest_aefm.testbeds.kubernetes.refusing import refuse_case
from tests.unit.kube_server import Answering, serving, write_kubeconfig

SLOW = InterferenceSpec("fault", 2, service="back", delay_ms=30.0)
PODS = {name: PodState(name, name[:-2], "under_test", "n1", "", "", {}) for name in ("back-1", "back-2", "front-1")}


class Pods(ThreadingHTTPServer):
    """An API server that passes requests on to the control of pods; ``told`` are the bodies that each of them got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: dict[str, list[dict[str, Any]]] = {name: [] for name in PODS}
        self.requests = 0
        self.refuses = False


class Handler(Answering):
    """Answers as aefm-mesh does; each request that a pod was asked about was disturbed."""

    server: Pods

    def do_GET(self) -> None:
        """Tell what is in force."""
        self.report()

    def do_POST(self) -> None:
        """Put in force what the body says."""
        body = self.body()
        if self.server.refuses:
            self.answer({"message": "faults are not enabled"}, 403)
        else:
            self.server.told[self.pod()].append(body)
            self.report()

    def pod(self) -> str:
        """Return the pod that the path names."""
        before, _, after = self.path.partition(":8080")
        assert (before.rpartition("/")[0], after) == ("/api/v1/namespaces/shop/pods", "/proxy/-/faults")
        return before.rpartition("/")[2]

    def report(self) -> None:
        """Tell what is in force, and what it did."""
        told = self.server.told[self.pod()]
        count = self.server.requests
        faults = told[-1] if told else {}
        self.answer({"faults": faults, "requests": count, "disturbed": count, "delayed_ms": 60.0 * count})


@pytest.fixture
def server() -> Iterator[Pods]:
    """Pods that can be asked."""
    with Pods() as made, serving(made):
        yield made


@pytest.fixture
def connection(server: Pods, tmp_path: Path) -> Iterator[Connection]:
    """A connection to their API server."""
    with connect(write_kubeconfig(tmp_path / "config", server)) as made:
        yield made


def pods() -> PodMark:
    """Return the pods of the application."""
    return PodMark(PODS)


def test_all_pods_of_a_service_are_disturbed_and_prove_it(server: Pods, connection: Connection) -> None:
    """A level does so many times as much, for a bounded time; their counts over the window prove it; others stay."""
    faults = PodFaults(connection, namespace="shop", pods=pods)
    faults.converge([SLOW])
    expected = [{"delay_ms": 60.0, "ttl_s": 45.0}]
    assert {"back-1": expected, "back-2": expected, "front-1": []} == server.told
    before = faults.read()
    server.requests = 10
    (dose,) = prove_faults(before, faults.read())
    assert (True, "fault of back: 20 of 20 requests, 60 ms each") == (dose.ok, dose.message)
    faults.converge([])
    assert {"back-1": {}, "back-2": {}} == {name: told[-1] for name, told in server.told.items() if told}
    assert [] == faults.stop()
    assert () == faults.read()


def test_pods_are_told_again_until_it_stops(server: Pods, connection: Connection) -> None:
    """Before they forget; nothing more is told once the cluster is lost, or at the end."""
    lost: list[str] = []
    faults = PodFaults(
        connection,
        namespace="shop",
        pods=pods,
        lost=lambda: lost[0] if lost else None,
        grace_s=5.0,
        every_s=0.02,
    )
    faults.converge([SLOW])
    deadline = time.monotonic() + 10
    while len(server.told["back-2"]) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lost.append("another run has it")
    time.sleep(0.1)
    seen = len(server.told["back-2"])
    time.sleep(0.2)
    assert seen == len(server.told["back-2"])
    assert [] == faults.stop()
    assert {} == server.told["back-2"][-1]


def test_pods_that_refuse_are_named(server: Pods, connection: Connection) -> None:
    """With what they say, now and at the end, where it is said that it ends by itself."""
    faults = PodFaults(connection, namespace="shop", pods=pods)
    faults.converge([SLOW])
    server.refuses = True
    with pytest.raises(InterferenceError, match=r"fault of back-.: the service does not take it: .*not enabled"):
        faults.converge([InterferenceSpec("fault", 1, service="back", delay_ms=30.0)])
    (problem,) = faults.stop()
    assert problem.endswith("it ends by itself within 45 s")


def test_a_service_without_pods_is_refused(connection: Connection) -> None:
    """Nothing would be disturbed."""
    faults = PodFaults(connection, namespace="shop", pods=lambda: PodMark({}))
    with pytest.raises(InterferenceError, match="fault of back: the service has no replica"):
        faults.converge([SLOW])


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (AppSpec("hotel", manifests="hotel/"), "come from manifests, and cannot be asked for faults"),
        (AppSpec("hotel"), "unknown service 'back'"),
    ],
)
def test_what_cannot_be_faulty_is_refused(app: AppSpec, message: str) -> None:
    """Before anything is deployed."""
    case = Case("x", "x", "kubernetes", app, (SLOW,), LoadSpec("x.lua", 10.0, 1.0), {})
    with pytest.raises(ConfigurationError, match=message):
        refuse_case(case, ClusterOptions())
