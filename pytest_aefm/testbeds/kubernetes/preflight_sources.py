"""What is asked beside the cluster's API, looked at before a run: Prometheus, Jaeger, Tempo, a collector of traces."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from pytest_aefm.testbeds.kubernetes.preflight_needs import Needs, Remark

__all__ = ["examine_jaeger", "examine_otlp", "examine_prometheus", "examine_sources", "examine_tempo"]

_ANSWER_S = 5.0
_SKEW_S = 0.5
_CONTAINERS = "count(container_cpu_usage_seconds_total) or vector(0)"


def examine_sources(needs: Needs) -> Iterator[Remark]:
    """Ask all that a run will ask: a source that is silent now leaves its metrics without data later."""
    if needs.prometheus:
        yield examine_prometheus(needs.prometheus)
    if needs.tempo:
        yield examine_tempo(needs.tempo)
    elif needs.jaeger:
        found = examine_jaeger(needs.jaeger)
        if found.state == "bad" and any("jaeger" in item.name for item in needs.manifests or ()):
            found = replace(found, state="warn", mend="nothing, if it is the one that the application brings along")
        yield found
    if needs.otlp:
        yield from examine_otlp(needs.otlp)


def examine_prometheus(url: str) -> Remark:
    """Ask a Prometheus for its time, and whether it reads the kubelets."""
    import requests

    mend = "check --aefm-prometheus: curl URL/api/v1/query?query=up"
    try:
        with _session() as session:
            began_s, began_wall_s = time.monotonic(), time.time()
            there_s = float(_result(session, url, "time()")[1])
            taken_s = time.monotonic() - began_s
            containers = float(_result(session, url, _CONTAINERS)[0]["value"][1])
    except (requests.RequestException, ValueError, KeyError, TypeError, IndexError) as error:
        return Remark("bad", "Prometheus", _why(url, error), mend)
    offset_s = there_s - (began_wall_s + taken_s / 2)
    text = f"{url}: its clock is {offset_s:+.3f} s from ours (± {taken_s / 2:.3f} s)"
    if abs(offset_s) > _SKEW_S + taken_s / 2:
        return Remark("warn", "Prometheus", text, "set both clocks by NTP: figures of a window would be another's")
    if not containers:
        text = f"{text}; it has no container_cpu_usage_seconds_total: usage of pods is not known"
        return Remark("warn", "Prometheus", text, "let it scrape the kubelets' cAdvisor")
    return Remark("ok", "Prometheus", text)


def _result(session: Any, url: str, query: str) -> Any:
    return _answer(session, url, "/api/v1/query", query=query)["data"]["result"]


def examine_jaeger(url: str) -> Remark:
    """Ask a Jaeger which services it has traces of, by the first of its APIs that is served."""
    import requests

    try:
        with _session() as session:
            try:
                version, found = "v1", _answer(session, url, "/api/services")["data"]
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
                version, found = "v3", _answer(session, url, "/api/v3/services")["services"]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return Remark("bad", "Jaeger", _why(url, error), "check --aefm-jaeger: curl URL/api/services")
    return Remark("ok", "Jaeger", f"{url}: answers by {version}, has traces of {len(found or ())} services")


def examine_tempo(url: str) -> Remark:
    """Search a Tempo for one trace, as a run does."""
    import requests

    try:
        with _session() as session:
            found = dict(_answer(session, url, "/api/search", q="{}", limit=1)).get("traces")
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return Remark("bad", "Tempo", _why(url, error), "check --aefm-tempo: curl -G URL/api/search -d limit=1")
    return Remark("ok", "Tempo", f"{url}: answers{'' if found else ', has no traces yet'}")


def examine_otlp(url: str) -> Iterator[Remark]:
    """Send a collector no traces at all; one with a name that only the cluster knows cannot be asked from here."""
    import requests

    host = urlsplit(url).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        yield Remark("ok", "traces' collector", f"{url}: a name of the cluster's, which is not known here: not asked")
        return
    try:
        with _session() as session:
            head = {"Content-Type": "application/x-protobuf"}
            session.post(url, data=b"", headers=head, timeout=_ANSWER_S).raise_for_status()
    except requests.RequestException as error:
        mend = "check --aefm-otlp: the full URL of OTLP by HTTP, such as http://collector.monitor.svc:4318/v1/traces"
        yield Remark("warn", "traces' collector", f"{_why(url, error)}: services' traces may be lost", mend)
        return
    yield Remark("ok", "traces' collector", f"{url}: takes traces")


def _session() -> Any:
    import requests

    session = requests.Session()
    session.trust_env = False  # no proxy of the user's between us
    return session


def _answer(session: Any, url: str, path: str, **query: Any) -> Any:
    answer = session.get(f"{url.rstrip('/')}{path}", params=query, timeout=_ANSWER_S)
    answer.raise_for_status()
    return answer.json()


def _why(url: str, error: Exception) -> str:
    return f"{url}: {type(error).__name__}: {error}"[:300]
