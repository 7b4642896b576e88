"""A metric of the user's own: one PromQL query, answered at the end of the window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.promql import PrometheusServer
from pytest_aefm.collectors.samples import too_few
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window
from pytest_aefm.queries import fill, peak_selectors

__all__ = ["QueryCollector", "query_collectors"]


@dataclass(frozen=True, slots=True)
class QueryCollector:
    """Asks for ``metric`` with ``$window`` as the window's length; a peak needs enough samples in the window."""

    url: str
    metric: str
    promql: str
    timeout_s: float = 5.0

    @property
    def name(self) -> str:
        """Its name in the report."""
        return f"metric {self.metric}"

    @property
    def provides(self) -> frozenset[str]:
        """The metric."""
        return frozenset({self.metric})

    def collect(self, window: Window) -> Observations:
        """Return the metric; an empty answer and NaN are no data. See :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Prometheus cannot be asked or does not understand; or there is more than one series.
        """
        with PrometheusServer(self.url, self.timeout_s) as server:
            clock = server.clock()
            shifted = clock.shift(window)
            length = f"{round(window.duration_s * 1000)}ms"
            query = fill(self.promql, window=length)
            value = self._number(server.query(query, shifted.end_wall_s))
            reason = self._too_few(server, shifted, length)
            details = {"query": query, "value": value, "warnings": list(server.warnings)}
        found = {} if value is None or not math.isfinite(value) else {self.metric: value}
        return Observations(metrics=found, unfit={self.metric: reason} if reason else {}, details=details)

    def _number(self, result: list[Any]) -> float | None:
        """Return the value of a scalar, or of a vector that has at most one series."""
        try:
            if not result:
                return None
            if not isinstance(result[0], Mapping):  # of a scalar: its time and value
                return float(result[1])
            if len(result) == 1:
                return float(result[0]["value"][1])
        except (LookupError, TypeError, ValueError) as error:
            raise CollectorError(self.metric, f"{self.url}: {type(error).__name__}: {error}") from error
        what = f"{len(result)} series, such as {result[0].get('metric')} and {result[1].get('metric')}"
        raise CollectorError(self.metric, what, "one", "aggregate them, with max() or sum()")

    def _too_few(self, server: PrometheusServer, window: Window, length: str) -> str:
        """Say why a peak is not known; empty where the query claims none."""
        for selector in peak_selectors(self.promql):
            counts = server.query(f"min by (job) (count_over_time({selector}[{length}]))", window.end_wall_s)
            for row in counts:
                points = int(float(row["value"][1]))
                interval_s = server.interval_s({row["metric"].get("job", "")}, window.duration_s / max(1, points))
                if reason := too_few(points, window, interval_s):
                    return reason
        return ""


def query_collectors(url: str, metrics: Mapping[str, str | None]) -> tuple[QueryCollector, ...]:
    """Return a collector for each metric that has a query."""
    return tuple(QueryCollector(url, name, query) for name, query in metrics.items() if query is not None)
