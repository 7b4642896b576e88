"""What node exporters tell of the nodes' networks in a window, and cAdvisor of packets to the pods of the entry.

Raw samples, the last before the window to the first after it; what nobody exports is absent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pytest_aefm.collectors import Observations
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import CheckResult, Window
from pytest_aefm.testbeds.kubernetes.load_path import conntrack_check, spread_check

__all__ = ["NodeNetworkCollector"]

_GAUGES = {"node_nf_conntrack_entries": "conntrack_entries", "node_nf_conntrack_entries_limit": "conntrack_limit"}
_COUNTERS = {
    "node_netstat_Tcp_RetransSegs": "tcp_retransmitted",
    "node_netstat_TcpExt_ListenOverflows": "listen_overflows",
}
_PACKETS = "container_network_receive_packets_total"
_NODE_LABELS = ("node", "nodename", "kubernetes_node", "instance")
_MARGIN_S, _PATIENCE_S, _LOOK_S = 65.0, 5.0, 0.5
"""Two scrapes of the usual 30 s before the window; how long after it a sample is waited for."""

Samples = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class NodeNetworkCollector:
    """Reads connection tracking, retransmits and full backlogs of ``nodes``, by name with the address of each.

    ``pods`` of the Service ``entry`` in ``namespace`` are compared by the packets that reached them, where ``counted``
    says that their requests are not known.
    """

    url: str
    nodes: Mapping[str, str]
    namespace: str
    entry: str
    pods: Callable[[], Sequence[str]]
    counted: bool
    timeout_s: float = 5.0
    name: str = "node network"
    provides: frozenset[str] = field(default=frozenset())

    def collect(self, window: Window) -> Observations:
        """Return figures by node; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Prometheus cannot be asked, or does not understand.
        """
        import requests

        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy of the user's between us and a cluster
                series, start_s, end_s = self._series(session, window)
        except (requests.RequestException, KeyError, TypeError, ValueError, IndexError) as error:
            raise CollectorError("Prometheus", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error
        nodes: dict[str, dict[str, Any]] = {}
        packets: dict[str, int] = {}
        for labels, samples in series:
            chosen = _chosen(samples, start_s, end_s)
            metric, node = labels["__name__"], self._node(labels)
            if metric in _GAUGES and node and chosen:
                nodes.setdefault(node, {})[_GAUGES[metric]] = round(max(value for _, value in chosen))
            elif metric in _COUNTERS and node and len(chosen) > 1:
                nodes.setdefault(node, {})[_COUNTERS[metric]] = _increase(chosen)
            elif metric == _PACKETS and len(chosen) > 1:
                packets[labels["pod"]] = packets.get(labels["pod"], 0) + _increase(chosen)
        effect = {"node_network": dict(sorted(nodes.items())), "entry_packets": packets}
        checks = (*_checks(nodes), *spread_check(packets, self.entry, "packets"))
        return Observations(effect={name: value for name, value in effect.items() if value}, checks=checks)

    def _series(self, session: Any, window: Window) -> tuple[list[tuple[dict[str, str], Samples]], float, float]:
        """Return the samples around the window, once some lie beyond it; and the window on Prometheus' clock."""
        before_s = time.time()
        there_s = float(self._asked(session, "time()")[1])
        offset_s = there_s - (before_s + time.time()) / 2
        start_s, end_s = window.start_wall_s + offset_s, window.end_wall_s + offset_s
        names = "|".join([*_GAUGES, *_COUNTERS])
        span_ms = round((window.duration_s + 2 * _MARGIN_S) * 1000)
        pods = () if self.counted else self.pods()
        queries = [f'{{__name__=~"{names}"}}[{span_ms}ms]']
        queries += [f'{_PACKETS}{{namespace="{self.namespace}",pod=~"{"|".join(pods)}"}}[{span_ms}ms]'] if pods else []
        while True:
            at = f"{end_s + _MARGIN_S:.3f}"
            rows = [row for query in queries for row in self._asked(session, query, time=at)]
            found = [(row["metric"], sorted((float(at), float(one)) for at, one in row["values"])) for row in rows]
            late = all(samples[-1][0] >= end_s for _, samples in found)
            if late or time.monotonic() - window.end_mono_s >= _PATIENCE_S:
                return found, start_s, end_s
            time.sleep(_LOOK_S)

    def _asked(self, session: Any, query: str, **more: str) -> Any:
        parameters = {"query": query, **more}
        answer = session.get(f"{self.url.rstrip('/')}/api/v1/query", params=parameters, timeout=self.timeout_s)
        answer.raise_for_status()
        return answer.json()["data"]["result"]

    def _node(self, labels: Mapping[str, str]) -> str | None:
        """Return which of the nodes a series is of: by name or address, in a label of the usual ones."""
        for label in _NODE_LABELS:
            told = labels.get(label, "")
            host = urlsplit(f"//{told}").hostname if label == "instance" else told
            for name, address in self.nodes.items():
                if host and host in (name, address):
                    return name
        return None


def _chosen(samples: Samples, start_s: float, end_s: float) -> Samples:
    before = [one for one in samples if one[0] <= start_s]
    after = [one for one in samples if one[0] >= end_s]
    return before[-1:] + [one for one in samples if start_s < one[0] < end_s] + after[:1]


def _increase(samples: Samples) -> int:
    return round(max(0.0, samples[-1][1] - samples[0][1]))


def _checks(nodes: Mapping[str, Mapping[str, int]]) -> Iterator[CheckResult]:
    for name, told in nodes.items():
        if {"conntrack_entries", "conntrack_limit"} <= told.keys():
            yield from conntrack_check(f"node {name}", told["conntrack_entries"], told["conntrack_limit"])
        if overflows := told.get("listen_overflows"):
            message = f"node {name}: {overflows} connections were turned away, for nobody accepted them in time"
            yield CheckResult("listen overflows", False, overflows, 0, "count", message, warning=True)
