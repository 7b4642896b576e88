"""A Prometheus as we ask it: answers bounded in time and size, what it warns of kept, its clock and interval known."""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Any

import requests
import yaml
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from pytest_aefm.collectors.clocks import Clock
from pytest_aefm.collectors.samples import Sample
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window

__all__ = ["PrometheusServer", "seconds"]

MOST_BYTES = 64 * 2**20
"""The longest answer that is taken in."""

_RETRY = Retry(total=2, backoff_factor=0.1, status_forcelist=(429, 502, 503, 504), raise_on_status=False)
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class PrometheusServer:
    """A server that is asked over one session; every failure is a CollectorError that names it.

    ``warnings`` are what the server said of its answers, once each.
    """

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self.url, self._timeout_s = url.rstrip("/"), timeout_s
        self._warnings: dict[str, None] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the user's between us and a testbed
        self._session.stream = True  # an answer is read by _received, which bounds it
        self._session.hooks["response"] = [self._received]
        self._client = PrometheusConnect(url=self.url, session=self._session, retry=_RETRY, timeout=timeout_s)

    def __enter__(self) -> PrometheusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the server warned of so far."""
        return tuple(self._warnings)

    def query(self, promql: str, at_s: float | None = None) -> list[Any]:
        """Return the result of an instant query, now or at a Unix time of the server's.

        Raises:
            CollectorError: it cannot be asked, or does not understand.
        """
        with self._failures():
            params = None if at_s is None else {"time": f"{at_s:.3f}"}
            result = self._client.custom_query(promql, params=params)
            if not isinstance(result, list):
                raise TypeError(f"a result that is a {type(result).__name__}")
            return result

    def samples(self, selector: str, window: Window, margin_s: float) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return labels and raw samples of each series from ``margin_s`` before a window to as much after it.

        An instant query of a range vector gives samples as they were scraped; a range query would invent some.

        Raises:
            CollectorError: it cannot be asked, or does not understand.
        """
        span_ms = round((window.duration_s + 2 * margin_s) * 1000)
        rows = self.query(f"{selector}[{span_ms}ms]", window.end_wall_s + margin_s)
        with self._failures():
            return [(row["metric"], sorted((float(at), float(value)) for at, value in row["values"])) for row in rows]

    def clock(self) -> Clock:
        """Measure the server's clock: its answer is of the middle of a request; the quickest of three counts.

        Raises:
            CollectorError: it cannot be asked.
        """
        found = []
        for _ in range(3):
            before = time.time()
            answer = self.query("time()")
            after = time.time()
            with self._failures():
                found.append(Clock(float(answer[1]) - (before + after) / 2, (after - before) / 2))
        return min(found, key=lambda clock: clock.uncertainty_s)

    def interval_s(self, jobs: Collection[str], seen_s: float | None = None) -> float | None:
        """Return the scrape interval of these jobs, in seconds; None where the server does not tell.

        Where their targets have several (a kubelet's paths do) it is the one nearest to ``seen_s``, what lies between
        two samples; the longest where that is not known.
        Its targets say it, and before Prometheus 2.31 its configuration.
        """
        for told in (self._told_by_targets, self._told_by_configuration):
            with contextlib.suppress(CollectorError), self._failures():
                found = [seconds(text) for text in told(jobs)]
                return (
                    max(found, default=None)
                    if seen_s is None
                    else min(found, key=lambda s: abs(s - seen_s), default=None)
                )
        return None

    def _told_by_targets(self, jobs: Collection[str]) -> list[str]:
        targets = self._get("targets", {"state": "active"})["activeTargets"]
        return [one["scrapeInterval"] for one in targets if one["labels"].get("job") in jobs]

    def _told_by_configuration(self, jobs: Collection[str]) -> list[str]:
        config = yaml.safe_load(self._get("status/config", {})["yaml"])
        usual = (config.get("global") or {}).get("scrape_interval", "1m")
        return [one.get("scrape_interval", usual) for one in config["scrape_configs"] if one["job_name"] in jobs]

    def _get(self, path: str, params: Mapping[str, str]) -> Any:
        with self._failures():
            answer = self._session.get(f"{self.url}/api/v1/{path}", params=dict(params), timeout=self._timeout_s)
            answer.raise_for_status()
            return answer.json()["data"]

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (
            requests.RequestException,
            HTTPError,
            PrometheusApiClientException,
            yaml.YAMLError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise CollectorError("Prometheus", f"{self.url}: {type(error).__name__}: {error}"[:400]) from error

    def _received(self, response: requests.Response, **_: Any) -> None:
        """Read an answer as far as it may be long, and keep what it warns of."""
        body = bytearray()
        for piece in response.raw.stream(2**16, decode_content=True):
            body += piece
            if len(body) > MOST_BYTES:
                response.close()
                raise CollectorError("Prometheus", f"{self.url}: an answer of more than {MOST_BYTES >> 20} MiB")
        response.raw = io.BytesIO(body)
        if b'"warnings"' in body:
            with contextlib.suppress(ValueError):  # what is no JSON is told of by who asked
                answer = json.loads(body)
                told = answer.get("warnings") if isinstance(answer, dict) else None
                self._warnings |= dict.fromkeys(map(str, told or ()))


def seconds(text: str) -> float:
    """Return a duration as Prometheus writes it (``1m30s``, ``500ms``) in seconds.

    Raises:
        ValueError: it is none.
    """
    parts = re.findall(r"(\d+)(ms|[smhd])", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
