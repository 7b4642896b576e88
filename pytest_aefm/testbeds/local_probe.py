"""Single HTTP requests to a deployed application: is it ready, does it work, how fast is it, is it quiet?"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pytest_aefm.errors import DeploymentError
from pytest_aefm.mesh.model import SmokeRequest

__all__ = ["flush", "in_flight", "is_ready", "probe_p50_ms", "send", "smoke"]

_HOST = "127.0.0.1"


def send(port: int, method: str, path: str, timeout_s: float, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request on a connection of its own; return (status, body of the answer).

    Raises:
        OSError: no connection, no answer in time, or none that is HTTP.
    """
    connection = http.client.HTTPConnection(_HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path, body, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()


def is_ready(port: int) -> str | None:
    """Ask a service whether it is ready; None if so, else what was seen."""
    try:
        status, _ = send(port, "GET", "/-/ready", timeout_s=2)
    except OSError as error:
        return str(error)
    return None if 200 <= status < 300 else f"status {status}"


def smoke(port: int, requests: Iterable[SmokeRequest], timeout_s: float = 10.0) -> None:
    """Send each functional request once.

    Raises:
        DeploymentError: one is not answered as it must be; the subject is the request.
    """
    for request in requests:
        subject = f"smoke request {request.method} {request.path.partition('?')[0]}"
        try:
            status, body = send(port, request.method, request.path, timeout_s)
        except OSError as error:
            raise DeploymentError(subject, f"no answer: {error}", f"status {request.expect}") from error
        if status != request.expect:
            text = body[:200].decode(errors="replace")
            raise DeploymentError(subject, f"status {status}: {text}", f"status {request.expect}")


def probe_p50_ms(port: int, request: SmokeRequest, count: int, timeout_s: float = 5.0) -> float:
    """Send a request ``count`` times, one after the other; return the median time in ms.

    Raises:
        DeploymentError: one is not answered as it must be.
    """
    times: list[float] = []
    for _ in range(count):
        start = time.perf_counter()
        smoke(port, [request], timeout_s)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def in_flight(ports: Iterable[int], timeout_s: float = 2.0) -> int:
    """Return how many requests all services together have in flight.

    Raises:
        OSError: a service does not answer, or not with a number.
    """
    total = 0
    for port in ports:
        _, body = send(port, "GET", "/-/inflight", timeout_s)
        try:
            total += int(json.loads(body)["in_flight"])
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"port {port}: unreadable count of requests in flight: {body[:80]!r}") from error
    return total


def flush(ports: dict[str, int], timeout_s: float = 20.0) -> dict[str, dict[str, object]]:
    """Make all services export their spans, side by side; return their answers, or ``{"error": ...}``, by name."""

    def one(port: int) -> dict[str, object]:
        try:
            _, body = send(port, "POST", "/-/flush", timeout_s)
            return dict(json.loads(body))
        except (OSError, ValueError, TypeError) as error:
            return {"error": str(error)}

    with ThreadPoolExecutor(max_workers=max(1, len(ports))) as pool:
        return dict(zip(ports, pool.map(one, ports.values()), strict=True))
