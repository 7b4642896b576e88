"""What a cluster's Prometheus saw of pods: raw samples that bracket the window, never rate() or increase().

cAdvisor tells of containers, some seconds late and with time stamps of its own: a collector waits for a sample after
the window's end, as long as two scrapes and a little may take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.prometheus import Sample, chosen_samples, counter_rate
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

__all__ = ["Clock", "KubePrometheusCollector", "Series", "workload_figures"]

_CPU, _MEMORY = "container_cpu_usage_seconds_total", "container_memory_working_set_bytes"
_PERIODS, _THROTTLED = "container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total"
_THROTTLED_S = "container_cpu_cfs_throttled_seconds_total"
_METRICS = (_CPU, _MEMORY, _PERIODS, _THROTTLED, _THROTTLED_S)

_LOOK_S = 0.5
_MARGIN_S = 65.0  # two scrapes of the usual 30 s: how far before the window a sample is looked for
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 5.0, 20.0

Series = Mapping[str, Sequence[Sequence[Sample]]]
"""Samples of one workload: by metric, those of each container."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A source's clock against ours: ``offset_s`` ahead, give or take ``uncertainty_s``."""

    offset_s: float
    uncertainty_s: float


def workload_figures(series: Series, limit_cores: float | None, window: Window) -> dict[str, Any]:
    """Return the figures of one workload, summed over its containers; what is not known is absent."""
    cpu = [chosen_samples(one, window) for one in series.get(_CPU, ())]
    memory = [chosen_samples(one, window) for one in series.get(_MEMORY, ())]
    figures: dict[str, Any] = {
        "samples": min((len(one) for one in cpu), default=0),
        "span_s": round(min((one[-1][0] - one[0][0] for one in cpu if one), default=0.0), 3),
        "bracketed": bool(cpu) and all(_brackets(one, window) for one in cpu),
    }
    used = [rate for one in cpu if (rate := counter_rate(one)) is not None]
    if figures["bracketed"] and len(used) == len(cpu):  # of a part, or of another time, nothing follows
        figures["cpu_cores"] = round(sum(used), 5)
        if limit_cores:
            figures["cpu"] = round(sum(used) / limit_cores, 5)
    if memory and all(memory):
        figures["memory_max_bytes"] = sum(max(value for _, value in one) for one in memory)
    periods, throttled = (_increase(series.get(name, ()), window) for name in (_PERIODS, _THROTTLED))
    if periods and throttled is not None:
        figures["throttled_share"] = round(throttled / periods, 4)
    throttled_s = _increase(series.get(_THROTTLED_S, ()), window)
    if throttled_s is not None:
        figures["throttled_s"] = round(throttled_s, 4)
    return figures


def _brackets(samples: Sequence[Sample], window: Window) -> bool:
    return bool(samples) and samples[0][0] <= window.start_wall_s and samples[-1][0] >= window.end_wall_s


def _increase(series: Iterable[Sequence[Sample]], window: Window) -> float | None:
    """Return how much counters grew together from the first sample to the last; None where none can tell."""
    chosen = [samples for one in series if len(samples := chosen_samples(one, window)) > 1]
    return sum(max(0.0, samples[-1][1] - samples[0][1]) for samples in chosen) if chosen else None


@dataclass(frozen=True, slots=True)
class KubePrometheusCollector:
    """Reads CPU, memory and throttling of the pods of one namespace.

    ``pods`` tells by name which workload a pod belongs to, ``limits`` how many cores all pods of a workload may use.
    """

    url: str
    namespace: str
    pods: Callable[[], Mapping[str, str]]
    limits: Callable[[], Mapping[str, float]]
    timeout_s: float = 5.0
    name: str = "prometheus"
    provides: frozenset[str] = field(default=frozenset({"cpu", "cpu_cores", "memory"}))

    def collect(self, window: Window) -> Observations:
        """Return figures by workload; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Prometheus cannot be asked, does not understand, or its clock is too uncertain.
        """
        pods, limits = self.pods(), self.limits()
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy of the user's between us and a cluster
                client = PrometheusConnect(
                    url=self.url, session=session, retry=Retry(total=2, backoff_factor=0.1), timeout=self.timeout_s
                )
                clock = _clock(client)
                shifted = Window(window.start_wall_s + clock.offset_s, window.start_mono_s, window.duration_s)
                series, interval_s = self._bracketing(client, shifted, pods)
        except (requests.RequestException, PrometheusApiClientException, KeyError, TypeError, ValueError) as error:
            raise CollectorError("Prometheus", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error
        if interval_s is not None and clock.uncertainty_s > interval_s / 2:
            what = f"its clock is known to {clock.uncertainty_s:.2g} s only, and it samples every {interval_s:.2g} s"
            raise CollectorError("Prometheus", f"{self.url}: {what}")
        services = {name: workload_figures(one, limits.get(name), shifted) for name, one in sorted(series.items())}
        details = {
            "url": self.url,
            "clock_offset_s": round(clock.offset_s, 4),
            "clock_uncertainty_s": round(clock.uncertainty_s, 4),
            "interval_s": interval_s,
            "services": services,
        }
        return Observations(metrics=_metrics(services), details=details)

    def _bracketing(
        self, client: PrometheusConnect, window: Window, pods: Mapping[str, str]
    ) -> tuple[dict[str, Series], float | None]:
        """Return samples by workload, once they reach beyond the window or waiting has no end; and their interval.

        A workload of which a pod was not seen is left out: what its other pods did is not what it did.
        """
        began = time.monotonic()
        while True:
            series, gaps, seen = self._raw(client, window, pods)
            interval_s = round(statistics.median(gaps), 3) if gaps else None
            cpu = [one for metrics in series.values() for one in metrics.get(_CPU, ())]
            patience_s = max(_SHORTEST_WAIT_S, min(_LONGEST_WAIT_S, 2.5 * (interval_s or 0.0)))
            waited_s = time.monotonic() - max(began, window.end_mono_s)
            missing = {pods[name] for name in pods.keys() - seen}
            if waited_s >= patience_s or (not missing and all(one[-1][0] >= window.end_wall_s for one in cpu)):
                return {name: one for name, one in series.items() if name not in missing}, interval_s
            time.sleep(_LOOK_S)

    def _raw(
        self, client: PrometheusConnect, window: Window, pods: Mapping[str, str]
    ) -> tuple[dict[str, Series], list[float], set[str]]:
        """Return raw samples by workload and metric, and the pods seen: a range vector has them as scraped."""
        names = "|".join(_METRICS)
        matchers = f'__name__=~"{names}",namespace="{self.namespace}",container!="",container!="POD"'
        span_ms = round((window.duration_s + 2 * _MARGIN_S) * 1000)
        rows = client.custom_query(
            f"{{{matchers}}}[{span_ms}ms]", params={"time": f"{window.end_wall_s + _MARGIN_S:.3f}"}
        )
        fullest: dict[tuple[str, ...], list[Sample]] = {}
        for row in rows:
            labels = row["metric"]
            samples = sorted((float(at), float(value)) for at, value in row["values"])
            # Two jobs may scrape one kubelet: a container counts once.
            key = (labels["__name__"], labels.get("pod", ""), labels.get("container", ""), labels.get("id", ""))
            if len(samples) > len(fullest.get(key, ())):
                fullest[key] = samples
        found: dict[str, dict[str, list[Sequence[Sample]]]] = {}
        gaps: list[float] = []
        seen: set[str] = set()
        for (metric, pod, _, _), samples in fullest.items():
            # What ended before the window is of a predecessor.
            if pod in pods and samples[-1][0] >= window.start_wall_s:
                found.setdefault(pods[pod], {}).setdefault(metric, []).append(samples)
                seen.add(pod)
                gaps += [late[0] - early[0] for early, late in pairwise(samples)] if metric == _CPU else []
        return dict(found), gaps, seen


def _clock(client: PrometheusConnect) -> Clock:
    """Measure Prometheus' clock: its answer is of the middle of a request; the quickest of three counts."""
    best: Clock | None = None
    for _ in range(3):
        before = time.time()
        answer = client.custom_query("time()")
        after = time.time()
        clock = Clock(float(answer[1]) - (before + after) / 2, (after - before) / 2)
        if best is None or clock.uncertainty_s < best.uncertainty_s:
            best = clock
    assert best is not None, "asked three times"
    return best


def _metrics(services: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    names = {"cpu": "cpu", "cpu_cores": "cpu_cores", "memory_max_bytes": "memory"}
    return {
        f"{metric}({service})": float(figures[key])
        for service, figures in services.items()
        for key, metric in names.items()
        if key in figures
    }
