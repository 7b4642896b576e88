"""What a run on a cluster observes: all of AEFM's tables, usage as the kubelet has it, traces from a Jaeger."""

from __future__ import annotations

import contextlib
import csv
import re
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import yaml

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.connection import ApiError, connect
from tests.cluster.conftest import TestCluster
from tests.cluster.project import SHOP, Project

AEFM_TABLES = ("throughput_data", "raw_data", "statistical_data", "end_to_end_data", "hardware_data")
RATE, DURATION_S = 40, 30
BUSY_US = 2500
"""What a request costs each of both services: 0.1 cores at this rate."""
COUNTED = 'container_cpu_usage_seconds_total{namespace=~"aefm-shop.*", pod=~"back-.*", container!="", image!=""}'


@dataclass
class Kubelet:
    """What the node of the services tells of their pods meanwhile, asked each second by a thread of its own.

    By workload: ``counters`` are (wall-clock s, core seconds) of ``/stats/summary``, ``rates`` (begin, end, cores) of
    the metrics API, which ``kubectl top`` shows.
    """

    cluster: TestCluster
    node: str
    counters: dict[str, set[tuple[float, float]]] = field(default_factory=lambda: defaultdict(set))
    rates: dict[str, set[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(set))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Ask for as long as the block lasts."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        with connect(self.cluster.kubeconfig) as connection:
            while not over.wait(1.0):
                with contextlib.suppress(ApiError, DeploymentError):  # there may be nothing yet
                    for pod in connection.get(f"/api/v1/nodes/{self.node}/proxy/stats/summary")["pods"]:
                        usage = [
                            one["cpu"] for one in pod["containers"] if "usageCoreNanoSeconds" in one.get("cpu", {})
                        ]
                        self._note(pod["podRef"], usage)
                    for pod in connection.get("/apis/metrics.k8s.io/v1beta1/pods")["items"]:
                        end, length_s = _wall_s(pod["timestamp"]), _seconds(pod["window"])
                        cores = sum(_cores(one["usage"]["cpu"]) for one in pod["containers"])
                        self.rates[_workload(pod["metadata"])].add((end - length_s, end, cores))

    def _note(self, pod: dict[str, Any], usage: list[dict[str, Any]]) -> None:
        for one in usage:  # a pod of these has one container
            self.counters[_workload(pod)].add((_wall_s(one["time"]), one["usageCoreNanoSeconds"] / 1e9))

    def cores(self, workload: str, start_s: float, end_s: float) -> float:
        """Return the mean over a window: of counters that bracket it."""
        first = max(one for one in self.counters[workload] if one[0] <= start_s)
        last = min(one for one in self.counters[workload] if one[0] >= end_s)
        return (last[1] - first[1]) / (last[0] - first[0])

    def top(self, workload: str, start_s: float, end_s: float) -> float:
        """Return the median of what the metrics API told of parts of a window."""
        found = [cores for begin, end, cores in self.rates[workload] if start_s <= begin and end <= end_s + 1]
        return statistics.median(found)


def _workload(pod: dict[str, Any]) -> str:
    """Return the workload of one of our pods, and the whole name of others."""
    return str(pod["name"].split("-")[0] if pod["namespace"].startswith("aefm-shop") else pod["name"])


def _wall_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _seconds(text: str) -> float:
    """Return a duration as Go writes it: ``10.02s``, ``1m0.2s``, ``804ms``."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(h|ms|m|us|µs|ns|s)", text))


def _cores(quantity: str) -> float:
    units = {"n": 1e-9, "u": 1e-6, "m": 1e-3}
    return float(quantity[:-1]) * units[quantity[-1]] if quantity[-1] in units else float(quantity)


def write(project: Project) -> None:
    """Write an experiment with interference whose services do the same work all the time."""
    shop = yaml.safe_load(SHOP)
    for service in shop["services"].values():
        service["cpu_limit"] = 0.5
        service["endpoints"][0]["steps"][0]["cpu_us"] = BUSY_US
    project.write(
        cpu=[1],
        interference={"cpu": {"cpu_size": 0.4}},
        rate=RATE,
        duration=f"{DURATION_S}s",
        warmup="2s",
        min_trace_coverage=0.99,
        metrics={"back_cores": f"sum(rate({COUNTED}[$window]))"},
        slos=["p50 < 2s", "self_time(back, p50) < 2s", "back_cores < 0.5", "trace_coverage >= 99%"],
    )
    (project.folder / "shop.yaml").write_text(yaml.safe_dump(shop))


def table(project: Project, name: str, run: str) -> list[dict[str, str]]:
    """Return a table's rows of a run."""
    with (project.folder / "data" / "shop" / f"{name}.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["run"] == run]


def test_all_tables_are_written_and_usage_is_the_kubelets(project: Project) -> None:
    """Each request has its trace, from a Jaeger; usage is within 10 % of the kubelet's counters and ``kubectl top``.

    A query of the user's own is asked at the cluster's Prometheus.
    """
    cluster = project.cluster
    if not cluster.prometheus or not cluster.jaeger:
        pytest.skip("this cluster has no Prometheus, or no Jaeger")
    write(project)
    kubelet = Kubelet(cluster, project.nodes[0]["name"])
    sources = ("--aefm-prometheus", cluster.prometheus, "--aefm-jaeger", cluster.jaeger)
    with kubelet.watched():
        status, printed = project.run(
            *sources, "--aefm-otlp", "http://jaeger.monitor:4318/v1/traces", "--aefm-data", "data"
        )
    assert status == 0, printed
    report = project.report()
    (trial,) = report["trials"]
    assert trial["doses"][0]["ok"]
    tables = {name: table(project, name, report["run"]["id"]) for name in AEFM_TABLES}
    requests = trial["load"]["sent"]
    rows = {name: len(found) for name, found in tables.items()}
    assert (1, 2) == (rows["throughput_data"], rows["statistical_data"])
    assert requests == pytest.approx(rows["end_to_end_data"], abs=2)  # at an edge some begin beyond it
    assert rows["raw_data"] >= rows["end_to_end_data"]
    assert {"front", "back"} == {row["child_ms"] for row in tables["raw_data"]}
    hardware = {row["microservice"]: row for row in tables["hardware_data"]}
    start_s = trial["window"]["start_wall_s"]
    window = start_s, start_s + DURATION_S
    for name in ("front", "back"):
        ours = float(hardware[name]["cpu_cores"])
        counted, top = kubelet.cores(name, *window), kubelet.top(name, *window)
        print(f"{name}: {ours:.4f} cores, the kubelet's counters {counted:.4f}, kubectl top {top:.4f}")
        assert counted == pytest.approx(ours, rel=0.1)
        assert top == pytest.approx(ours, rel=0.1)
        assert float(hardware[name]["cpu_usage"]) >= 100 * ours / 0.5 * 0.9
    assert trial["metrics"]["back_cores"] == pytest.approx(kubelet.cores("back", *window), rel=0.15)
