"""What a Prometheus saw of the services: raw samples that bracket the window, each claim with what it stands on.

Where figures lag (cAdvisor tells some seconds late, with time stamps of its own) the collector waits for a sample
after the window's end, as long as a scrape and a half and a little may take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.clocks import Clock
from pytest_aefm.collectors.figures import Limits, Series, merged, node_figures, service_figures, unfit_peak
from pytest_aefm.collectors.promql import PrometheusServer
from pytest_aefm.collectors.samples import Sample
from pytest_aefm.collectors.tables import hardware_data
from pytest_aefm.model import Window

__all__ = ["Layout", "PrometheusCollector"]

_LOOK_S = 0.5
_LAG_S, _LONGEST_WAIT_S = 5.0, 50.0
_UNBRACKETED = "its samples do not lie on both sides of the window: the first of them, or the last, is missing"
_METRICS = {
    "cpu": "cpu",
    "cpu_cores": "cpu_cores",
    "cpu_peak": "cpu_peak",
    "memory": "memory_max_bytes",
    "memory_share": "memory_share",
    "throttled": "throttled_share",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which series belong to whom: ``label`` names a pod, ``pods`` tells by that name of which service it is.

    ``limits`` are by pod. Where ``pods`` is None each pod is a service of its own.
    """

    label: str
    pods: Callable[[], Mapping[str, str]] | None = None
    limits: Callable[[], Mapping[str, Limits]] = dict


@dataclass(frozen=True, slots=True)
class _Seen:
    """Raw samples: by pod, by node, and the jobs that scraped usage."""

    pods: Mapping[str, Series]
    nodes: Mapping[str, Series]
    jobs: frozenset[str]


@dataclass(frozen=True, slots=True)
class PrometheusCollector:
    """Reads CPU, memory, throttling, traffic and restarts of pods, and what it is told of nodes.

    ``queries`` select raw samples, by the names of :mod:`pytest_aefm.queries`. ``since_s`` is when the services were
    deployed (Unix time): what was scraped before is of their predecessors. ``margin_s`` is how far outside the window
    samples are looked for, two scrape intervals and more; with ``waits`` those after its end are waited for.
    """

    url: str
    queries: Mapping[str, str]
    layout: Layout
    since_s: float = 0.0
    margin_s: float = 65.0
    waits: bool = True
    timeout_s: float = 5.0
    name: str = "prometheus"
    provides: frozenset[str] = field(default=frozenset(_METRICS))

    def collect(self, window: Window) -> Observations:
        """Return figures by service and node; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Prometheus cannot be asked, or does not understand.
        """
        pods = self.layout.pods() if self.layout.pods else None
        with PrometheusServer(self.url, self.timeout_s) as server:
            clock = server.clock()
            shifted = clock.shift(window)
            seen = self._look(server, shifted)
            gap_s = _median_gap_s(seen)
            interval_s = server.interval_s(seen.jobs, gap_s) or gap_s
            seen = self._wait(server, shifted, seen, pods, interval_s)
            services, unfit = self._judge(seen, shifted, pods, interval_s)
            details = {
                "url": self.url,
                "clock_offset_s": round(clock.offset_s, 4),
                "clock_uncertainty_s": round(clock.uncertainty_s, 4),
                "interval_s": interval_s,
                "services": services,
                "nodes": {name: node_figures(one, shifted) for name, one in sorted(seen.nodes.items())},
                "warnings": list(server.warnings),
            }
        metrics = self._metrics(services)
        unfit |= dict.fromkeys(metrics, reason) if (reason := _uncertain(clock, interval_s)) else {}
        tables = {"hardware_data": partial(hardware_data, services, unfit)}
        return Observations(metrics=metrics, unfit=unfit, details=details, tables=tables)

    def _look(self, server: PrometheusServer, window: Window) -> _Seen:
        """Return what is there now. Two jobs may scrape one kubelet: a series counts once, the fullest."""
        fullest: dict[tuple[str, ...], tuple[Mapping[str, str], list[Sample]]] = {}
        for name, selector in self.queries.items():
            for labels, samples in server.samples(selector, window, self.margin_s):
                kept = [sample for sample in samples if sample[0] >= self.since_s]
                owner = labels.get("node") or labels.get("instance", "") if name.startswith("node_") else ""
                parts = ("container", "id", "interface", "uid")
                key = (name, owner, labels.get(self.layout.label, ""), *(labels.get(part, "") for part in parts))
                if len(kept) > len(fullest.get(key, ({}, ()))[1]):
                    fullest[key] = (labels, kept)
        pods: dict[str, dict[str, list[list[Sample]]]] = {}
        nodes: dict[str, dict[str, list[list[Sample]]]] = {}
        jobs = set()
        for (name, owner, pod, *_), (labels, samples) in fullest.items():
            if samples[-1][0] >= window.start_wall_s:  # what ended before the window is of a predecessor
                group = nodes.setdefault(owner, {}) if owner else pods.setdefault(pod, {})
                group.setdefault(name, []).append(samples)
                jobs |= {labels.get("job", "")} if name in ("cpu", "memory") else set()
        return _Seen(pods, nodes, frozenset(jobs))

    def _wait(
        self,
        server: PrometheusServer,
        window: Window,
        seen: _Seen,
        pods: Mapping[str, str] | None,
        interval_s: float | None,
    ) -> _Seen:
        """Look again until the samples of all pods reach beyond the window, or waiting has no end."""
        patience_s = min(_LONGEST_WAIT_S, _LAG_S + 1.5 * (interval_s or 0.0))
        began = time.monotonic()
        while self.waits and time.monotonic() - max(began, window.end_mono_s) < patience_s:
            cpu = [one for series in seen.pods.values() for one in series.get("cpu", ())]
            missing = set(pods or ()) - seen.pods.keys()
            if not missing and all(one[-1][0] >= window.end_wall_s for one in cpu):
                break
            time.sleep(_LOOK_S)
            seen = self._look(server, window)
        return seen

    def _judge(
        self, seen: _Seen, window: Window, pods: Mapping[str, str] | None, interval_s: float | None
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """Return figures by service, and which metrics carry no verdict.

        A service of which a pod was not seen is left out: what its other pods did is not what it did.
        """
        owners = {name: name for name in seen.pods} if pods is None else pods
        limits, services, unfit = self.layout.limits(), dict[str, dict[str, Any]](), dict[str, str]()
        for service in sorted(set(owners.values())):
            names = sorted(name for name, owner in owners.items() if owner == service)
            if any(name not in seen.pods for name in names):
                continue
            its = {name: seen.pods[name] for name in names}
            services[service] = service_figures(its, limits, window)
            found = unfit_peak(merged(its.values()), window, interval_s)
            if its and not services[service]["bracketed"]:
                found |= {"cpu": _UNBRACKETED, "cpu_cores": _UNBRACKETED}
            unfit |= {f"{name}({service})": why for name, why in found.items() if name in self.provides}
        return services, unfit

    def _metrics(self, services: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        return {
            f"{metric}({service})": float(figures[key])
            for service, figures in services.items()
            for metric, key in _METRICS.items()
            if key in figures and metric in self.provides
        }


def _median_gap_s(seen: _Seen) -> float | None:
    series = [one for pod in seen.pods.values() for one in pod.get("cpu", ())]
    gaps = [late[0] - early[0] for one in series for early, late in pairwise(one)]
    return round(statistics.median(gaps), 3) if gaps else None


def _uncertain(clock: Clock, interval_s: float | None) -> str:
    """Say that a clock is too uncertain, which is by more than half of what lies between two samples; else empty."""
    if interval_s is None or clock.uncertainty_s <= interval_s / 2:
        return ""
    return f"the clock is known to {clock.uncertainty_s:.2g} s only, and there is a sample every {interval_s:.2g} s"
