"""The way of the load: whole names, the kernel's counters, how requests spread over pods, what node exporters tell."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_aefm.errors import CollectorError
from pytest_aefm.load.network import absolute, conntrack_use, grown, tcp_counts
from pytest_aefm.model import CheckResult, Window
from pytest_aefm.testbeds.kubernetes.connection import Connection, connect
from pytest_aefm.testbeds.kubernetes.load_path import LoadPath, conntrack_check, spread_check
from pytest_aefm.testbeds.kubernetes.node_network import NodeNetworkCollector
from tests.unit.kube_server import Answering, serving, write_kubeconfig

RESOLV_CONF = "nameserver 10.96.0.10\nsearch shop.svc.corp.example svc.corp.example corp.example\noptions ndots:1\n"


def test_a_service_is_asked_for_by_its_whole_name() -> None:
    """The cluster's domain stands in the search list; the final dot ends the search; Host has the name as it was."""
    url, host = absolute("http://front.shop.svc:8080", RESOLV_CONF)
    assert ("http://front.shop.svc.corp.example.:8080", "front.shop.svc:8080") == (url, host)


@pytest.mark.parametrize(
    ("url", "resolv_conf"),
    [
        ("http://10.0.0.1:80", RESOLV_CONF),
        ("http://shop.example.com/x", RESOLV_CONF),
        ("http://front.shop.svc:80", ""),
        ("http://front.shop.svc:80", "search example.com\n"),
    ],
)
def test_other_names_stay(url: str, resolv_conf: str) -> None:
    """An address, another's name, and a name where no cluster's domain is known."""
    assert (url, None) == absolute(url, resolv_conf)


def test_the_kernel_counts(tmp_path: Path) -> None:
    """Segments, and backlogs that were full, by their names; what is not told is absent."""
    assert {} == tcp_counts(tmp_path) == conntrack_use(tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "snmp").write_text("Ip: A\nIp: 1\nTcp: InSegs OutSegs RetransSegs\nTcp: 1 20 3\n")
    assert {"sent": 20, "retransmitted": 3} == tcp_counts(tmp_path)
    (tmp_path / "net" / "netstat").write_text("TcpExt: TCPSynRetrans ListenOverflows\nTcpExt: 4 5\n")
    assert {"sent": 20, "retransmitted": 3, "syn_retransmitted": 4, "listen_overflows": 5} == tcp_counts(tmp_path)
    assert {"sent": 7} == grown({"sent": 13, "x": 1}, {"sent": 20, "retransmitted": 3})
    (tmp_path / "sys" / "net" / "netfilter").mkdir(parents=True)
    (tmp_path / "sys" / "net" / "netfilter" / "nf_conntrack_count").write_text("7\n")
    assert {} == conntrack_use(tmp_path)
    (tmp_path / "sys" / "net" / "netfilter" / "nf_conntrack_max").write_text("100\n")
    assert {"entries": 7, "limit": 100} == conntrack_use(tmp_path)
    assert tcp_counts()["sent"] >= 0


def test_an_uneven_spread_is_warned_of() -> None:
    """One pod had more than 1.5 times its share; alike is well; of one pod, or few requests, nothing is said."""

    def said(*counts: int) -> list[tuple[bool, bool]]:
        found = spread_check({f"front-{number}": count for number, count in enumerate(counts)}, "front")
        return [(one.ok, one.warning) for one in found]

    assert [(True, True)] == said(100, 90, 110)
    assert [(False, True)] == said(200, 50, 50)
    assert [] == said(500) == said(3, 0) == said()
    (check,) = spread_check({"a": 70, "b": 30, "c": 0}, "front")
    assert check.message.startswith("requests to the 3 pods of 'front': 70%, 30%, 0%; connections stick to pods")


def test_nearly_full_tracking_is_warned_of() -> None:
    """Above four fifths of what may be tracked."""
    assert [] == list(conntrack_check("node a", 80, 100))
    (check,) = conntrack_check("node a", 81, 100)
    assert (False, True) == (check.ok, check.warning)
    assert "node a tracks 81 of 100 connections" in check.message


class Api(Answering):
    """Answers as an API server with two pods of the entry, one of which cannot be reached."""

    counts: Mapping[str, int] = {}

    def do_GET(self) -> None:
        """Answer a list of pods, or for a pod."""
        path = urlsplit(self.path).path
        pod = path.rpartition("/pods/")[2].partition(":")[0] if "/proxy/" in path else None
        if pod is not None and pod not in self.counts:
            self.send_error(403)
            return
        items = [{"metadata": {"name": name}, "status": {"phase": "Running"}} for name in ("front-a", "front-b")]
        lines = (
            f'http_server_request_duration_seconds_count{{endpoint="GET /{end}"}} {self.counts.get(pod or "", 0)}.0\n'
            for end in ("ok", "buy")
        )
        self.answer("".join(lines) if pod else {"items": items})


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Connection]:
    """Return a connection to such a server."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Api) as server,
        serving(server),
        connect(write_kubeconfig(tmp_path / "config", server)) as made,
    ):
        yield made


def test_requests_are_counted_by_pod(api: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the beginning and the end of a load, over all endpoints; a pod that cannot be asked is absent, not 0."""
    path = LoadPath(api, "shop", "front", {"app": "front"}, mesh=True)
    monkeypatch.setattr(Api, "counts", {"front-a": 10, "front-b": 5})
    path.begin(drives=False)
    assert ("front-a", "front-b") == path.pods
    monkeypatch.setattr(Api, "counts", {"front-a": 110, "front-b": 25})
    effect, checks = path.end()
    assert {"entry_requests": {"front-a": 200, "front-b": 40}} == effect
    assert ["entry spread"] == [check.name for check in checks if not check.ok and check.warning]
    monkeypatch.setattr(Api, "counts", {"front-a": 210})
    assert {"entry_requests": {"front-a": 400}} == path.end()[0]


def test_pods_of_others_are_not_asked(api: Connection) -> None:
    """Whose requests are counted in no way that is known; from this machine its own counters are told."""
    path = LoadPath(api, "shop", "front", {"app": "front"}, mesh=False)
    path.begin(drives=True)
    effect, _ = path.end()
    assert "entry_requests" not in effect
    assert effect["tcp"]["sent"] >= 0


class Exporter(Answering):
    """Answers as a Prometheus with node exporters of two nodes; its clock is an hour ahead."""

    def do_GET(self) -> None:
        """Answer an instant query."""
        (query,) = parse_qs(urlsplit(self.path).query)["query"]
        result: Any = [0, str(time.time() + 3600)] if query == "time()" else self.rows(query)
        self.answer({"status": "success", "data": {"result": result}})

    def rows(self, query: str) -> list[Any]:
        """Return series, each with samples before, in and after the window."""

        def row(values: tuple[int, int, int], **labels: str) -> dict[str, Any]:
            times = (START_S + 3595, START_S + 3605, START_S + 3612)
            pairs = [[at, str(value)] for at, value in zip(times, values, strict=True)]
            return {"metric": {"__name__": labels.pop("name"), **labels}, "values": pairs}

        if query.startswith("container_network"):
            name = "container_network_receive_packets_total"
            return [row((0, 50, 100), name=name, pod="front-a"), row((0, 0, 10), name=name, pod="front-b")]
        return [
            row((90, 95, 70), name="node_nf_conntrack_entries", instance="10.0.0.1:9100"),
            row((100, 100, 100), name="node_nf_conntrack_entries_limit", instance="10.0.0.1:9100"),
            row((5, 6, 9), name="node_netstat_Tcp_RetransSegs", node="two"),
            row((1, 1, 3), name="node_netstat_TcpExt_ListenOverflows", node="two"),
            row((1, 1, 3), name="node_netstat_TcpExt_ListenOverflows", node="another"),
        ]


START_S = time.time() - 100
WINDOW = Window(START_S, time.monotonic() - 100, 10.0)


def collector(url: str, *, counted: bool) -> NodeNetworkCollector:
    """Return what reads two nodes, one known by its address."""
    nodes = {"one": "10.0.0.1", "two": "10.0.0.2"}
    return NodeNetworkCollector(url, nodes, "shop", "front", lambda: ("front-a", "front-b"), counted)


def test_nodes_tell_of_their_networks() -> None:
    """On Prometheus' clock: the most of a gauge, the growth of a counter; warned of where there is reason."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Exporter) as server, serving(server):
        url = f"http://127.0.0.1:{server.server_address[1]}"
        seen = collector(url, counted=False).collect(WINDOW)
        counted = collector(url, counted=True).collect(WINDOW)
    assert {
        "one": {"conntrack_entries": 95, "conntrack_limit": 100},
        "two": {"tcp_retransmitted": 4, "listen_overflows": 2},
    } == seen.effect["node_network"]
    assert {"front-a": 100, "front-b": 10} == seen.effect["entry_packets"]

    def warned(checks: tuple[CheckResult, ...]) -> list[str]:
        return [check.name for check in checks if check.warning and not check.ok]

    assert ["conntrack", "listen overflows", "entry spread"] == warned(seen.checks)
    assert ["conntrack", "listen overflows"] == warned(counted.checks)
    assert "entry_packets" not in counted.effect


def test_a_prometheus_that_is_gone_is_named() -> None:
    """It fails its collector, and nothing else."""
    with pytest.raises(CollectorError, match="Prometheus"):
        collector("http://127.0.0.1:9", counted=True).collect(WINDOW)
