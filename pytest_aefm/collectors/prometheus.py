"""What a Prometheus saw of the services: raw samples over the window, never rate() or increase().

Both extrapolate (prometheus/prometheus#3746). Nothing waits for a sample after the window's end: the figures
say how many samples they stand on, and whether these bracket the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from pytest_aefm.collectors import Observations
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

__all__ = ["PrometheusCollector", "chosen_samples", "counter_rate"]

_CPU, _MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"

Sample = tuple[float, float]
"""Unix time in seconds, value."""


def chosen_samples(samples: Sequence[Sample], window: Window) -> list[Sample]:
    """Return the samples in the window, with the last before it and the first after it where there are such."""
    ordered = sorted(samples)
    before = [sample for sample in ordered if sample[0] <= window.start_wall_s]
    inside = [sample for sample in ordered if window.start_wall_s < sample[0] < window.end_wall_s]
    after = [sample for sample in ordered if sample[0] >= window.end_wall_s]
    return before[-1:] + inside + after[:1]


def counter_rate(samples: Sequence[Sample]) -> float | None:
    """Return (last - first value) / (last - first time); None with less than two samples or after a reset."""
    if len(samples) < 2 or any(late[1] < early[1] for early, late in pairwise(samples)):
        return None
    (first_s, first), (last_s, last) = samples[0], samples[-1]
    return (last - first) / (last_s - first_s) if last_s > first_s else None


def service_figures(series: Mapping[str, Sequence[Sample]], window: Window) -> dict[str, Any]:
    """Return the figures of one service from its samples by metric name."""
    cpu, memory = chosen_samples(series.get(_CPU, ()), window), chosen_samples(series.get(_MEMORY, ()), window)
    figures: dict[str, Any] = {"samples": len(cpu), "span_s": 0.0, "bracketed": False}
    if cpu:
        figures["span_s"] = round(cpu[-1][0] - cpu[0][0], 3)
        figures["bracketed"] = cpu[0][0] <= window.start_wall_s and cpu[-1][0] >= window.end_wall_s
    used = counter_rate(cpu)
    if used is not None:
        figures["cpu_cores"] = round(used, 5)
    if memory:
        figures["memory_max_bytes"] = max(value for _, value in memory)
    return figures


@dataclass(frozen=True, slots=True)
class PrometheusCollector:
    """Reads CPU and memory of all services of one ``job``, by their label ``service``.

    ``since_s`` is when they were deployed (Unix time): what was scraped before is of their predecessors.
    ``margin_s`` is how far outside the window samples are looked for, two scrape intervals and more.
    """

    url: str
    job: str
    since_s: float = 0.0
    margin_s: float = 3.0
    timeout_s: float = 5.0
    name: str = "prometheus"
    provides: frozenset[str] = field(default=frozenset())

    def collect(self, window: Window) -> Observations:
        """Return figures per service as details; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Prometheus cannot be asked, or does not understand.
        """
        series = self._raw(window)
        services = {name: service_figures(metrics, window) for name, metrics in sorted(series.items())}
        return Observations(details={"url": self.url, "services": services})

    def _raw(self, window: Window) -> dict[str, dict[str, list[Sample]]]:
        """Return raw samples by service and metric: an instant query of a range vector gives them as scraped."""
        matchers = f'__name__=~"{_CPU}|{_MEMORY}",job="{self.job}"'
        span_ms = round((window.duration_s + 2 * self.margin_s) * 1000)
        params = {"time": f"{window.end_wall_s + self.margin_s:.3f}"}
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy between us and 127.0.0.1
                client = PrometheusConnect(
                    url=self.url, session=session, retry=Retry(total=2, backoff_factor=0.1), timeout=self.timeout_s
                )
                rows = client.custom_query(f"{{{matchers}}}[{span_ms}ms]", params=params)
            found: dict[str, dict[str, list[Sample]]] = {}
            for row in rows:
                labels = row["metric"]
                samples = found.setdefault(labels["service"], {}).setdefault(labels["__name__"], [])
                samples += [(float(at), float(value)) for at, value in row["values"] if at >= self.since_s]
        except (requests.RequestException, PrometheusApiClientException, KeyError, TypeError, ValueError) as error:
            raise CollectorError("Prometheus", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error
        return found
