"""What node exporters tell of the nodes' networks in a window, and cAdvisor of packets to the pods of the entry.

Raw samples, the last before the window to the first after it; what nobody exports is absent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.samples import Sample, chosen_samples
from pytest_aefm.model import CheckResult, Window
from pytest_aefm.testbeds.kubernetes.load_path import conntrack_check, spread_check

if TYPE_CHECKING:
    from pytest_aefm.collectors.promql import PrometheusServer

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
        from pytest_aefm.collectors.promql import PrometheusServer

        with PrometheusServer(self.url, self.timeout_s) as server:
            there = server.clock().shift(window)
            series = self._series(server, there)
        nodes: dict[str, dict[str, Any]] = {}
        packets: dict[str, int] = {}
        for labels, samples in series:
            chosen = chosen_samples(samples, there)
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

    def _series(self, server: PrometheusServer, window: Window) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return the samples around the window, which is on Prometheus' clock, once some lie beyond it."""
        names = "|".join([*_GAUGES, *_COUNTERS])
        pods = () if self.counted else self.pods()
        selectors = [f'{{__name__=~"{names}"}}']
        selectors += [f'{_PACKETS}{{namespace="{self.namespace}",pod=~"{"|".join(pods)}"}}'] if pods else []
        while True:
            found = [one for selector in selectors for one in server.samples(selector, window, _MARGIN_S)]
            late = all(samples[-1][0] >= window.end_wall_s for _, samples in found)
            if late or time.monotonic() - window.end_mono_s >= _PATIENCE_S:
                return found
            time.sleep(_LOOK_S)

    def _node(self, labels: Mapping[str, str]) -> str | None:
        """Return which of the nodes a series is of: by name or address, in a label of the usual ones."""
        for label in _NODE_LABELS:
            told = labels.get(label, "")
            host = urlsplit(f"//{told}").hostname if label == "instance" else told
            for name, address in self.nodes.items():
                if host and host in (name, address):
                    return name
        return None


def _increase(samples: Sequence[Sample]) -> int:
    return round(max(0.0, samples[-1][1] - samples[0][1]))


def _checks(nodes: Mapping[str, Mapping[str, int]]) -> Iterator[CheckResult]:
    for name, told in nodes.items():
        if {"conntrack_entries", "conntrack_limit"} <= told.keys():
            yield from conntrack_check(f"node {name}", told["conntrack_entries"], told["conntrack_limit"])
        if overflows := told.get("listen_overflows"):
            message = f"node {name}: {overflows} connections were turned away, for nobody accepted them in time"
            yield CheckResult("listen overflows", False, overflows, 0, "count", message, warning=True)
