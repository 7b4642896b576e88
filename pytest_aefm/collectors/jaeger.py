"""Traces of a window from Jaeger's query API, all of them: ``/api/traces``, or v3 where only that is offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.clocks import http_clock
from pytest_aefm.collectors.fetching import Ask, Limits, fetch_settled, told
from pytest_aefm.collectors.jaeger_json import jaeger_spans, parse_jaeger
from pytest_aefm.collectors.otlp import decode_result
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.collectors.trace_figures import trace_observations
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

__all__ = ["JaegerCollector"]


@dataclass(frozen=True, slots=True)
class JaegerCollector:
    """Fetches the traces that pass through ``service``, the application's entrance, from the Jaeger at ``url``.

    A trace belongs to the window by its root's start; Jaeger's clock is measured, and its times are shifted to ours.
    ``version`` of the API is ``v1`` or ``v3``; without it v1 is taken where it is offered.
    """

    url: str
    service: str
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 10.0
    version: str | None = None
    name: str = "traces"
    provides: frozenset[str] = field(default=frozenset({"self_time", "trace_coverage"}))

    def collect(self, window: Window) -> Observations:
        """Return self times and what else traces say; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Jaeger cannot be asked, or its answers mean nothing.
        """
        with requests.Session() as session:
            session.trust_env = False  # no proxy of the user's between us and a cluster
            clock = http_clock(lambda: self._get(session, "/api/services", {}).headers.get("Date"))
            start_us = round((window.start_wall_s + clock.offset_s - clock.uncertainty_s) * 1e6)
            end_us = round((window.end_wall_s + clock.offset_s + clock.uncertainty_s) * 1e6)
            ask = self._api(session, start_us)
            fetched = fetch_settled(ask, start_us, end_us, self.limits, window.end_mono_s)
        spans = fetched.spans.shifted(-round(clock.offset_s * 1e9))
        return trace_observations(spans, window, {"url": self.url, "service": self.service, **told(clock, fetched)})

    def _api(self, session: requests.Session, start_us: int) -> Ask:
        """Return how to ask: as every version of Jaeger has it, or by v3 where that is not there."""

        def first(low: int, high: int, limit: int) -> Spans:
            parameters = {"service": self.service, "start": low, "end": high - 1, "limit": limit}
            return jaeger_spans(parse_jaeger(self._get(session, "/api/traces", parameters).content))

        def third(low: int, high: int, limit: int) -> Spans:
            parameters = {
                "query.service_name": self.service,
                "query.start_time_min": _rfc3339(low),
                "query.start_time_max": _rfc3339(high - 1),
                "query.search_depth": limit,
                "query.num_traces": limit,  # its name before 1.50
            }
            answer = self._get(session, "/api/v3/traces", parameters, none=404)
            return decode_result(answer.content) if answer.status_code == 200 else Spans.concatenate([])

        if self.version is not None:
            return {"v1": first, "v3": third}[self.version]
        parameters = {"service": self.service, "start": start_us, "end": start_us + 1, "limit": 1}
        return third if self._get(session, "/api/traces", parameters, none=404).status_code == 404 else first

    def _get(
        self, session: requests.Session, path: str, parameters: Mapping[str, Any], none: int | None = None
    ) -> requests.Response:
        try:
            answer = session.get(f"{self.url.rstrip('/')}{path}", params=parameters, timeout=self.timeout_s)
        except requests.RequestException as error:
            raise CollectorError("Jaeger", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error
        if answer.status_code not in (200, none):
            raise CollectorError("Jaeger", f"{self.url}{path}: status {answer.status_code}: {answer.text[:200]}")
        return answer


def _rfc3339(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 10**6, UTC):%Y-%m-%dT%H:%M:%S}.{at_us % 10**6:06d}Z"
