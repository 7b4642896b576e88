"""The way of the load: how its requests spread over the pods of the entry, and what this machine's kernel counted.

Read before a load begins and after it has ended, so that nothing is asked of the services while they are measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.load.network import conntrack_use, grown, tcp_counts
from pytest_aefm.model import CheckResult
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.mesh import MESH_PORT

__all__ = ["LoadPath", "PathMark", "conntrack_check", "path_checks", "path_effect", "spread_check"]

_REQUESTS = "http_server_request_duration_seconds_count"
_MOST_PODS, _AT_ONCE = 32, 8
_PATIENCE_S = 1.0
_FEW = 20
"""Requests per pod below which a spread says little."""

_UNEVEN = 1.5
"""How many times its equal share a pod may have before the spread counts as uneven."""

_NEARLY = 0.8
"""The part of the connection tracking's room that may be used."""


@dataclass(frozen=True, slots=True)
class PathMark:
    """What was counted up to a moment: requests by pod of the entry, and TCP on this machine where it drives."""

    requests: Mapping[str, int] = field(default_factory=dict)
    tcp: Mapping[str, int] = field(default_factory=dict)
    conntrack: Mapping[str, int] = field(default_factory=dict)


class LoadPath:
    """The way to the pods behind the Service ``entry``, which have the labels of its ``selector``.

    Only those of a ``mesh`` count their requests in a way that is known. What cannot be read is absent.
    """

    def __init__(
        self, connection: Connection, namespace: str, entry: str, selector: Mapping[str, str], *, mesh: bool
    ) -> None:
        self._connection, self._root = connection, f"/api/v1/namespaces/{namespace}/pods"
        self._entry, self._selector, self._mesh = entry, selector, mesh
        self._drives, self._before = False, PathMark()
        self.pods: tuple[str, ...] = ()

    def begin(self, *, drives: bool) -> None:
        """Read it before a load, which comes from this machine if that ``drives``."""
        self.pods, self._drives = (), drives
        with contextlib.suppress(ApiError):
            self.pods = self._running()
        self._before = self._read()

    def end(self) -> tuple[dict[str, Any], tuple[CheckResult, ...]]:
        """Read it after the load; return what was counted since, and what is to be warned of."""
        effect = path_effect(self._before, self._read())
        return effect, tuple(path_checks(effect, self._entry))

    def _running(self) -> tuple[str, ...]:
        """Return the names of the pods of the entry; none where its Service selects none."""
        query = ",".join(f"{name}={value}" for name, value in self._selector.items())
        listed = self._connection.get(self._root, labelSelector=query)["items"] if query else ()
        running = (item for item in listed if (item.get("status") or {}).get("phase") == "Running")
        return tuple(item["metadata"]["name"] for item in running if "deletionTimestamp" not in item["metadata"])

    def _read(self) -> PathMark:
        requests: dict[str, int] = {}
        if self._mesh and len(self.pods) <= _MOST_PODS:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                answers = zip(self.pods, pool.map(self._answered, self.pods), strict=True)
                requests = {pod: count for pod, count in answers if count is not None}
        return PathMark(requests, *((tcp_counts(), conntrack_use()) if self._drives else ()))

    def _answered(self, pod: str) -> int | None:
        """Return how many requests a pod says it has answered."""
        from prometheus_client.parser import text_string_to_metric_families

        try:
            text = self._connection.text(f"{self._root}/{pod}:{MESH_PORT}/proxy/metrics", patience_s=_PATIENCE_S)
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        except (ApiError, ValueError):
            return None
        return round(sum(sample.value for sample in samples if sample.name == _REQUESTS))


def path_effect(before: PathMark, after: PathMark) -> dict[str, Any]:
    """Return what was counted between two moments; a pod that was not seen at both is left out."""
    found = {
        "entry_requests": grown(before.requests, after.requests),
        "tcp": grown(before.tcp, after.tcp),
        "conntrack": dict(after.conntrack),
    }
    return {name: value for name, value in found.items() if value}


def path_checks(effect: Mapping[str, Any], entry: str) -> Iterator[CheckResult]:
    """Warn of requests that spread unevenly, and of a machine that tracks nearly as many connections as it can."""
    yield from spread_check(effect.get("entry_requests", {}), entry)
    if tracked := effect.get("conntrack"):
        yield from conntrack_check("this machine", tracked["entries"], tracked["limit"])


def conntrack_check(where: str, entries: int, limit: int) -> Iterator[CheckResult]:
    """Warn where nearly as many connections are tracked as may be."""
    if limit and entries > _NEARLY * limit:
        message = f"{where} tracks {entries} of {limit} connections: what does not fit is dropped (nf_conntrack_max)"
        yield CheckResult("conntrack", False, entries, limit, "count", message, warning=True)


def spread_check(counts: Mapping[str, int], entry: str, what: str = "requests") -> Iterator[CheckResult]:
    """Warn where pods of an entry were not used alike; of one pod, or of few requests, nothing is said."""
    total = sum(counts.values())
    if len(counts) < 2 or total < _FEW * len(counts):
        return
    times = max(counts.values()) * len(counts) / total
    shares = ", ".join(f"{count / total:.0%}" for count in sorted(counts.values(), reverse=True))
    message = f"{what} to the {len(counts)} pods of {entry!r}: {shares}"
    if times > _UNEVEN:
        message += "; connections stick to pods: more of them spread better (connections)"
    yield CheckResult("entry spread", times <= _UNEVEN, round(times, 3), _UNEVEN, "times", message, warning=True)
