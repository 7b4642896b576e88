"""Prometheus: what is asked of it, what is made of its samples, and how its failures are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pytest_aefm.collectors.prometheus import PrometheusCollector, chosen_samples, counter_rate
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window
from pytest_aefm.testbeds.local_prometheus import configuration, find_prometheus, targets

WINDOW = Window(start_wall_s=1000.0, start_mono_s=0.0, duration_s=5.0)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([998, 999, 1001, 1004, 1006, 1007], [999, 1001, 1004, 1006]),
        ([1000, 1005], [1000, 1005]),
        ([1001, 1002], [1001, 1002]),
        ([990, 999], [999]),
        ([1005.5, 1006], [1005.5]),
        ([], []),
    ],
)
def test_samples_that_bracket_the_window(times: list[float], chosen: list[float]) -> None:
    """Samples in the window are taken, the last one before it and the first one after it."""
    assert [time for time, _ in chosen_samples([(time, 0.0) for time in times], WINDOW)] == chosen


def test_rate_is_of_first_and_last_sample() -> None:
    """The rate is the difference of values over that of sample times: nothing is extrapolated."""
    assert counter_rate([(10.0, 1.0), (11.0, 1.2), (14.0, 3.0)]) == 0.5


@pytest.mark.parametrize("samples", [[], [(10.0, 1.0)], [(10.0, 5.0), (11.0, 0.1), (12.0, 9.0)]])
def test_rate_is_unknown(samples: list[tuple[float, float]]) -> None:
    """Less than two samples, or a counter that was reset, give no rate."""
    assert counter_rate(samples) is None


class Fake(BaseHTTPRequestHandler):
    """Answers every query with the class's status and body, and keeps the query."""

    status, body = 200, b"{}"
    seen: dict[str, list[str]]

    def do_GET(self) -> None:
        """Answer."""
        type(self).seen = parse_qs(urlsplit(self.path).query)
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def fake() -> Iterator[tuple[type[Fake], str]]:
    """A server of canned answers: its handler's class, to set the answer, and its URL."""

    class Canned(Fake):
        pass

    server = HTTPServer(("127.0.0.1", 0), Canned)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Canned, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def matrix(*series: tuple[str, str, list[tuple[float, str]]]) -> bytes:
    """Return Prometheus' answer that holds these (metric, service, samples)."""
    result = [
        {"metric": {"__name__": name, "service": service, "job": "aefm"}, "values": values}
        for name, service, values in series
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def test_figures_per_service(fake: tuple[type[Fake], str]) -> None:
    """CPU and memory of each service come with the number of samples, their span and whether they bracket."""
    canned, url = fake
    canned.body = matrix(
        ("process_cpu_seconds_total", "geo", [(999.5, "1"), (1002.5, "2"), (1005.5, "4")]),
        ("process_resident_memory_bytes", "geo", [(999.5, "100"), (1002.5, "300"), (1005.5, "200")]),
        ("process_cpu_seconds_total", "rate", [(1002.5, "2")]),
    )
    services = PrometheusCollector(url, "aefm").collect(WINDOW).details["services"]
    assert services == {
        "geo": {"samples": 3, "span_s": 6.0, "bracketed": True, "cpu_cores": 0.5, "memory_max_bytes": 300.0},
        "rate": {"samples": 1, "span_s": 0.0, "bracketed": False},
    }


def test_raw_samples_are_asked_for(fake: tuple[type[Fake], str]) -> None:
    """The query is a range of raw samples with a margin on both sides, without rate() or increase()."""
    canned, url = fake
    canned.body = matrix()
    PrometheusCollector(url, "aefm", margin_s=2.5).collect(WINDOW)
    assert canned.seen["query"] == [
        '{__name__=~"process_cpu_seconds_total|process_resident_memory_bytes",job="aefm"}[10000ms]'
    ]
    assert canned.seen["time"] == ["1007.500"]


def test_samples_of_predecessors_are_left_out(fake: tuple[type[Fake], str]) -> None:
    """What was scraped before the services were deployed is not theirs."""
    canned, url = fake
    canned.body = matrix(("process_cpu_seconds_total", "geo", [(998.0, "50"), (999.0, "1"), (1004.0, "2")]))
    services = PrometheusCollector(url, "aefm", since_s=998.5).collect(WINDOW).details["services"]
    assert services["geo"]["cpu_cores"] == 0.2


def test_no_samples_are_no_failure(fake: tuple[type[Fake], str]) -> None:
    """An empty answer is an observation without services."""
    canned, url = fake
    canned.body = matrix()
    assert PrometheusCollector(url, "aefm").collect(WINDOW).details["services"] == {}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"overloaded"),
        (400, b'{"status": "error", "error": "parse error"}'),
        (200, b"not JSON"),
        (200, b'{"status": "success", "data": {"result": [{"metric": {}, "values": []}]}}'),
    ],
)
def test_failures_are_told_with_their_reason(fake: tuple[type[Fake], str], status: int, body: bytes) -> None:
    """A Prometheus that fails or talks nonsense is a CollectorError that names it."""
    canned, url = fake
    canned.status, canned.body = status, body
    with pytest.raises(CollectorError, match=url):
        PrometheusCollector(url, "aefm").collect(WINDOW)


def test_nobody_there_is_told() -> None:
    """A Prometheus that is gone is a CollectorError."""
    with pytest.raises(CollectorError, match="Prometheus"):
        PrometheusCollector("http://127.0.0.1:9", "aefm").collect(WINDOW)


def test_configuration_scrapes_the_targets_file(tmp_path: Path) -> None:
    """The configuration names the interval and the file of targets."""
    config = json.loads(configuration(tmp_path / "targets.json", 0.5))
    assert config["global"]["scrape_interval"] == "500ms"
    assert config["scrape_configs"][0]["file_sd_configs"][0]["files"] == [str(tmp_path / "targets.json")]


def test_targets_are_labelled_by_service() -> None:
    """Each service is a target that carries its name."""
    assert json.loads(targets({"geo": 81})) == [{"targets": ["127.0.0.1:81"], "labels": {"service": "geo"}}]


def test_prometheus_on_path_comes_first(tmp_path: Path) -> None:
    """A Prometheus on PATH is used before one beside the interpreter."""
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_prometheus(str(tmp_path)) == program
