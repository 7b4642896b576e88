"""Where an application is reached from outside, and whether it answers there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.errors import DeploymentError
from pytest_aefm.mesh.model import SmokeRequest
from pytest_aefm.testbeds.kubernetes.connection import Connection

__all__ = ["Entry", "entry_url", "wait_answering"]

_REQUEST_S = 10.0
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Entry:
    """A deployed application as its users reach it; see :class:`pytest_aefm.testbeds.settling.Probed`.

    The entry of a ``mesh`` says what it has in flight, and nothing behind it is busy when it is not: calls are waited
    for.
    """

    app: str
    url: str
    smoke: Sequence[SmokeRequest]
    mesh: bool

    def in_flight(self) -> int:
        """Return how many requests the entry has in flight; 0 where that cannot be asked."""
        import requests

        if not self.mesh:
            return 0
        with _session() as session:
            try:
                return int(session.get(f"{self.url}/-/inflight", timeout=2).json()["in_flight"])
            except (requests.RequestException, ValueError, KeyError, TypeError) as error:
                raise OSError(f"{self.url}/-/inflight: {error}") from error

    def probe_p50_ms(self, count: int) -> float:
        """Send the first smoke request ``count`` times, one after the other; return the median in ms.

        Raises:
            DeploymentError: one is not answered as it must be.
        """
        times: list[float] = []
        with _session() as session:
            for _ in range(count if self.smoke else 0):
                began = time.perf_counter()
                wrong = _wrong(session, self.url, self.smoke[0])
                times.append((time.perf_counter() - began) * 1e3)
                if wrong is not None:
                    subject = f"smoke request {self.smoke[0].method} {self.smoke[0].path.partition('?')[0]}"
                    raise DeploymentError(subject, wrong, f"status {self.smoke[0].expect}")
        return statistics.median(times) if times else 0.0

    def ended(self) -> str:
        """Return nothing: what has ended on a cluster is started again by it."""
        return ""


def _session() -> Any:
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy of the user's between them
    session.headers["Connection"] = "close"  # each probe meets whichever replica is next
    return session


def entry_url(
    connection: Connection, namespace: str, service: str, host: str | None = None, kind: str | None = None
) -> str:
    """Return the URL of a Service's first port: its load balancer's, or its NodePort's on ``host`` or a Ready node.

    ``kind``, nodeport or loadbalancer, admits one of them only.

    Raises:
        DeploymentError: it is not reachable from outside, or no node is Ready.
        ApiError: it is not there; nodes may not be read and no ``host`` is given.
    """
    body = connection.get(f"/api/v1/namespaces/{namespace}/services/{service}")
    spec, subject = body["spec"], f"Service {service!r} in namespace {namespace!r}"
    port = spec["ports"][0]
    ingress = ((body.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for one in ingress if kind != "nodeport" else ():
        return f"http://{one.get('ip') or one['hostname']}:{port['port']}"
    if kind == "loadbalancer":
        raise DeploymentError(subject, f"is a {spec['type']} without an address", "a LoadBalancer that has one")
    if "nodePort" not in port:
        raise DeploymentError(
            subject, f"is a {spec['type']}, which only the cluster reaches", "a NodePort or LoadBalancer"
        )
    return f"http://{host or _node_address(connection, subject)}:{port['nodePort']}"


def _node_address(connection: Connection, subject: str) -> str:
    for node in connection.get("/api/v1/nodes")["items"]:
        conditions = node["status"].get("conditions") or ()
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
            return str(addresses.get("ExternalIP") or addresses["InternalIP"])
    raise DeploymentError(subject, "no node is Ready")


def wait_answering(app: str, url: str, smoke: Sequence[SmokeRequest], *, deadline_s: float) -> None:
    """Wait until every smoke request is answered as it should be.

    Pods are ready before every node's proxy knows of them: what fails at first may be right a second later.

    Raises:
        DeploymentError: one is not when the deadline is over; with what was answered last.
    """
    deadline = time.monotonic() + deadline_s
    with _session() as session:
        for request in smoke:
            while (wrong := _wrong(session, url, request)) is not None:
                if time.monotonic() >= deadline:
                    what = f"smoke request {request.method} {request.path}: {wrong}"
                    raise DeploymentError(f"app {app!r}", what, f"status {request.expect} from {url}")
                time.sleep(_PAUSE_S)


def _wrong(session: Any, url: str, request: SmokeRequest) -> str | None:
    import requests

    try:
        answer = session.request(request.method, url + request.path, timeout=_REQUEST_S, allow_redirects=False)
    except requests.RequestException as error:
        return f"no answer: {error}"
    return None if answer.status_code == request.expect else f"status {answer.status_code}: {answer.text[:200]}"
