"""Traces of a window from Tempo: found by its search API, each fetched by its id, as protobuf.

Search has whole seconds and a bound on its answers, so windows are halved down to one second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import requests

from pytest_aefm.collectors import Observations
from pytest_aefm.collectors.clocks import http_clock
from pytest_aefm.collectors.fetching import Limits, fetch_settled, told
from pytest_aefm.collectors.otlp import decode
from pytest_aefm.collectors.receiver import CONTENT_TYPES
from pytest_aefm.collectors.spans import Spans
from pytest_aefm.collectors.trace_figures import trace_observations
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

__all__ = ["TempoCollector"]


class _Hit(msgspec.Struct, gc=False):
    traceID: str  # noqa: N815  # Tempo's name


class _Hits(msgspec.Struct, gc=False):
    traces: list[_Hit] | None = None


_HITS = msgspec.json.Decoder(_Hits)


@dataclass(frozen=True, slots=True)
class TempoCollector:
    """Fetches the traces that pass through ``service``, the application's entrance, from the Tempo at ``url``.

    A trace belongs to the window by its root's start; Tempo's clock is measured, and its times are shifted to ours.
    """

    url: str
    service: str
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 10.0
    name: str = "traces"
    provides: frozenset[str] = field(default=frozenset({"self_time", "trace_coverage"}))

    def collect(self, window: Window) -> Observations:
        """Return self times and what else traces say; see :class:`pytest_aefm.collectors.Collector`.

        Raises:
            CollectorError: Tempo cannot be asked, or its answers mean nothing.
        """
        with requests.Session() as session, ThreadPoolExecutor(self.limits.in_flight) as pool:
            session.trust_env = False  # no proxy of the user's between us and a cluster
            clock = http_clock(lambda: self._get(session, "/api/echo", {}, none=404).headers.get("Date"))
            start = math.floor(window.start_wall_s + clock.offset_s - clock.uncertainty_s)
            end = math.ceil(window.end_wall_s + clock.offset_s + clock.uncertainty_s)
            had: dict[str, Spans] = {}

            def one(trace: str) -> Spans:
                if trace not in had:
                    headers = {"Accept": CONTENT_TYPES[0]}
                    answer = self._get(session, f"/api/traces/{trace}", {}, none=404, headers=headers)
                    had[trace] = decode(answer.content if answer.status_code == 200 else b"", CONTENT_TYPES[0])
                return had[trace]

            def ask(low: int, high: int, limit: int) -> Spans:
                if (low, high) == (start, end):  # a new look: traces may have grown
                    had.clear()
                found = self._search(session, low, high, limit)
                return Spans.concatenate(list(pool.map(one, found)))

            fetched = fetch_settled(ask, start, end, self.limits, window.end_mono_s)
        spans = fetched.spans.shifted(-round(clock.offset_s * 1e9))
        return trace_observations(spans, window, {"url": self.url, "service": self.service, **told(clock, fetched)})

    def _search(self, session: requests.Session, low: int, high: int, limit: int) -> list[str]:
        """Return the ids of the traces that Tempo finds in [low, high), unix seconds."""
        query = f'{{resource.service.name="{self.service}"}}'
        answer = self._get(session, "/api/search", {"q": query, "start": low, "end": high, "limit": limit})
        try:
            return [hit.traceID for hit in _HITS.decode(answer.content).traces or ()]
        except msgspec.DecodeError as error:
            raise CollectorError("Tempo", f"{self.url}: malformed answer of /api/search: {error}") from error

    def _get(
        self,
        session: requests.Session,
        path: str,
        parameters: Mapping[str, Any],
        none: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        where = f"{self.url.rstrip('/')}{path}"
        try:
            answer = session.get(where, params=parameters, headers=headers, timeout=self.timeout_s)
        except requests.RequestException as error:
            raise CollectorError("Tempo", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error
        if answer.status_code not in (200, none):
            raise CollectorError("Tempo", f"{where}: status {answer.status_code}: {answer.text[:200]}")
        return answer
