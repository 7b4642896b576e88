"""Prometheus: what is asked of it, what is made of its samples, and how its failures are told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.collectors import promql
from pytest_aefm.collectors.clocks import Clock
from pytest_aefm.collectors.figures import Limits
from pytest_aefm.collectors.prometheus import Layout, PrometheusCollector
from pytest_aefm.collectors.promql import PrometheusServer, seconds
from pytest_aefm.errors import CollectorError
from pytest_aefm.model import Window
from pytest_aefm.testbeds.local_prometheus import configuration, find_prometheus, targets
from tests.unit.fake_prometheus import FakePrometheus, serving

WINDOW = Window(start_wall_s=1000.0, start_mono_s=0.0, duration_s=5.0)
QUERIES = {"cpu": 'used{job="aefm"}', "memory": "resident"}


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    """A server of canned answers."""
    with serving() as server:
        yield server


def collector(fake: FakePrometheus, **options: Any) -> PrometheusCollector:
    """Return a collector of services that does not wait."""
    layout = options.pop("layout", Layout("service", limits=lambda: {"geo": Limits(2.0, 1000.0)}))
    return PrometheusCollector(fake.url, QUERIES, layout, **{"waits": False, **options})


def services(fake: FakePrometheus, **options: Any) -> Mapping[str, Any]:
    """Return the figures by service."""
    found: Mapping[str, Any] = collector(fake, **options).collect(WINDOW).details["services"]
    return found


def test_figures_per_service(fake: FakePrometheus) -> None:
    """CPU and memory of each service come with the number of samples, their span and whether they bracket."""
    fake.sampled("used", [(999.5, 1), (1002.5, 2), (1005.5, 4)], service="geo")
    fake.sampled("resident", [(999.5, 100), (1002.5, 300), (1005.5, 200)], service="geo")
    fake.sampled("used", [(1002.5, 2)], service="rate")
    found = services(fake)
    assert {"samples": 1, "span_s": 0.0, "bracketed": False} == found["rate"]["pods"]["rate"]
    geo = found["geo"]
    assert (3, 6.0, True, 0.5, 300.0) == (
        geo["samples"],
        geo["span_s"],
        geo["bracketed"],
        geo["cpu_cores"],
        geo["memory_max_bytes"],
    )


def test_raw_samples_are_asked_for(fake: FakePrometheus) -> None:
    """The queries are ranges of raw samples with a margin on both sides, without rate() or increase()."""
    collector(fake, margin_s=2.5).collect(WINDOW)
    asked = [one for one in fake.asked if one["query"] != ["time()"]]
    assert [['used{job="aefm"}[10000ms]'], ["resident[10000ms]"]] == [one["query"] for one in asked]
    assert all(abs(float(one["time"][0]) - 1007.5) < 0.5 for one in asked)


def test_samples_of_predecessors_are_left_out(fake: FakePrometheus) -> None:
    """What was scraped before the services were deployed is not theirs."""
    fake.sampled("used", [(998.0, 50), (999.0, 1), (1009.0, 2)], service="geo")
    assert 0.1 == services(fake, since_s=998.5)["geo"]["cpu_cores"]


def test_no_samples_are_no_failure(fake: FakePrometheus) -> None:
    """An empty answer is an observation without services."""
    assert {} == services(fake)


def test_two_jobs_that_scrape_one_source_count_once(fake: FakePrometheus) -> None:
    """The series with more samples is taken."""
    fake.sampled("used", [(999.0, 0), (1002.0, 5), (1009.0, 10)], service="geo")
    fake.sampled("used", [(999.0, 0), (1009.0, 10)], service="geo", prometheus="other")
    assert 1.0 == services(fake)["geo"]["cpu_cores"]


def test_the_services_clock_is_shifted(fake: FakePrometheus) -> None:
    """A server whose clock is a minute ahead stamps its samples so: the window is looked for there."""
    fake.skew_s = 60.0
    fake.sampled("used", [(1059.5, 1), (1065.5, 4)], service="geo")
    details = collector(fake).collect(WINDOW).details
    assert 0.5 == details["services"]["geo"]["cpu_cores"]
    assert 60.0 == pytest.approx(details["clock_offset_s"], abs=0.5)


def test_a_clock_that_is_too_uncertain_carries_no_verdict(
    fake: FakePrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is known to less than half of a scrape interval, all metrics are unfit, with the reason."""
    fake.sampled("used", [(999.5, 1), (1005.5, 4)], service="geo")
    fake.intervals = {"aefm": "1s"}
    monkeypatch.setattr(PrometheusServer, "clock", lambda self: Clock(0.0, 0.7))
    seen = collector(fake).collect(WINDOW)
    assert "cpu_cores(geo)" in seen.metrics
    assert "the clock is known to 0.7 s only, and there is a sample every 1 s" == seen.unfit["cpu_cores(geo)"]


def test_too_few_points_are_unfit_for_peaks_alone(fake: FakePrometheus) -> None:
    """The mean of a window that is bracketed holds; its peak is not known, and the interval is the server's."""
    fake.sampled("used", [(980.0, 1), (1002.0, 2), (1032.0, 4)], service="geo")
    fake.intervals = {"aefm": "30s"}
    seen = collector(fake).collect(WINDOW)
    assert {"cpu_peak(geo)", "memory(geo)", "memory_share(geo)"} == seen.unfit.keys()
    assert seen.unfit["cpu_peak(geo)"].endswith("the window must last 120 s or longer")
    assert 30.0 == seen.details["interval_s"]


def test_usage_that_is_not_bracketed_carries_no_verdict(fake: FakePrometheus) -> None:
    """There are samples, so that it is not the application that is to blame."""
    fake.sampled("used", [(1001.0, 1), (1002.0, 2)], service="geo")
    assert {"cpu(geo)", "cpu_cores(geo)"} <= collector(fake).collect(WINDOW).unfit.keys()


def test_warnings_of_the_server_are_kept(fake: FakePrometheus) -> None:
    """What the server says of its answers is in the details, once."""
    fake.warnings = ["no response from store-1"]
    assert ["no response from store-1"] == collector(fake).collect(WINDOW).details["warnings"]


def test_pods_belong_to_services_and_strangers_to_none(fake: FakePrometheus) -> None:
    """A pod that is not the run's is left out, and a service of which a pod was not seen, too."""
    for pod in ("geo-1", "geo-2", "rate-1", "stranger"):
        fake.sampled("used", [(999.0, 0), (1009.0, 10)], pod=pod)
    pods = {"geo-1": "geo", "geo-2": "geo", "rate-1": "rate", "rate-2": "rate"}
    found = services(fake, layout=Layout("pod", lambda: pods))
    assert {"geo": 2.0} == {name: figures["cpu_cores"] for name, figures in found.items()}


def test_samples_after_the_window_are_waited_for(fake: FakePrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where figures lag, a sample after the window's end is worth some patience."""
    window = Window(time.time() - 5, time.monotonic() - 5, 5.0)
    start = window.start_wall_s
    fake.sampled("used", samples := [(start - 1, 0.0), (start + 4, 5.0)], pod="geo-1")
    monkeypatch.setattr("pytest_aefm.collectors.prometheus.time.sleep", lambda _: samples.append((start + 9, 10.0)))
    patient = collector(fake, layout=Layout("pod", lambda: {"geo-1": "geo"}), waits=True)
    assert 1.0 == patient.collect(window).details["services"]["geo"]["cpu_cores"]


def test_nodes_are_told_of_apart(fake: FakePrometheus) -> None:
    """Series of nodes are by the label node."""
    fake.sampled("root", [(999.0, 0), (1009.0, 10)], node="worker-1")
    nodes = (
        PrometheusCollector(fake.url, {"node_cpu": "root"}, Layout("pod"), waits=False).collect(WINDOW).details["nodes"]
    )
    assert {"worker-1": {"cpu_cores": 1.0}} == nodes


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"overloaded"),
        (400, b'{"status": "error", "error": "parse error"}'),
        (200, b"not JSON"),
        (200, b'{"status": "success", "data": {"result": [{"metric": {}, "values": []}]}}'),
    ],
)
def test_failures_are_told_with_their_reason(fake: FakePrometheus, status: int, body: bytes) -> None:
    """A Prometheus that fails or talks nonsense is a CollectorError that names it."""
    fake.raw = (status, body)
    with pytest.raises(CollectorError, match=fake.url):
        collector(fake).collect(WINDOW)


def test_nobody_there_is_told() -> None:
    """A Prometheus that is gone is a CollectorError."""
    with pytest.raises(CollectorError, match="Prometheus"):
        PrometheusCollector("http://127.0.0.1:9", QUERIES, Layout("service")).collect(WINDOW)


def test_an_answer_without_end_is_refused(fake: FakePrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer no more is taken in than may be."""
    monkeypatch.setattr(promql, "MOST_BYTES", 2**20)
    fake.raw = (200, b" " * (2**20 + 1))
    with PrometheusServer(fake.url) as server, pytest.raises(CollectorError, match="an answer of more than 1 MiB"):
        server.query("up")


CONFIGURED = (
    "global: {scrape_interval: 30s}\nscrape_configs: [{job_name: aefm}, {job_name: other, scrape_interval: 1m}]"
)


@pytest.mark.parametrize(
    ("intervals", "configured", "expected"),
    [
        ({"aefm": "15s", "other": "1m"}, None, 15.0),
        (None, CONFIGURED, 30.0),
        (None, None, None),
        ({}, None, None),
    ],
)
def test_the_interval_is_read_from_the_server(
    fake: FakePrometheus, intervals: dict[str, str] | None, configured: str | None, expected: float | None
) -> None:
    """Its targets say it, else its configuration; where it does not tell it is not known."""
    fake.intervals, fake.configuration = intervals, configured
    with PrometheusServer(fake.url) as server:
        assert expected == server.interval_s({"aefm"})


def test_of_several_intervals_the_nearest_to_the_samples_counts(fake: FakePrometheus) -> None:
    """A kubelet's paths are scraped by one job, each in its own time."""
    fake.intervals = {"kubelet": "2s", "probes": "30s"}
    with PrometheusServer(fake.url) as server:
        assert (2.0, 30.0) == (server.interval_s({"kubelet", "probes"}, 2.1), server.interval_s({"kubelet", "probes"}))


@pytest.mark.parametrize(("text", "expected"), [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0)])
def test_durations_of_prometheus(text: str, expected: float) -> None:
    """As Prometheus writes them."""
    assert expected == seconds(text)


@pytest.mark.parametrize("text", ["", "30", "s", "1.5s", "30 s"])
def test_no_durations(text: str) -> None:
    """What it does not write is refused."""
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


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
