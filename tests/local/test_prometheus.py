"""A real Prometheus beside a deployed application."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_aefm.collectors.prometheus import PrometheusCollector
from pytest_aefm.model import AppSpec, Case, LoadSpec, Window
from pytest_aefm.testbeds.local import LocalTestbed
from pytest_aefm.testbeds.local_prometheus import find_prometheus

CASE = Case("hotel", "hotel", "local", AppSpec("hotel"), (), LoadSpec("hotel/search.lua", 1, 1), {})

pytestmark = pytest.mark.skipif(find_prometheus() is None, reason="no Prometheus here")


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTestbed]:
    """A testbed with the hotel deployed and a Prometheus that scrapes it twice a second."""
    folder: Path = tmp_path_factory.mktemp("testbed")
    bed = LocalTestbed(folder / "run", folder / "cache", scrape_interval_s=0.5)
    try:
        bed.ensure_app(AppSpec("hotel"))
        yield bed
    finally:
        assert bed.close() == ()


def collector(testbed: LocalTestbed) -> PrometheusCollector:
    """Return the testbed's Prometheus collector."""
    (found,) = [item for item in testbed.collectors(CASE) if isinstance(item, PrometheusCollector)]
    return found


def test_every_service_is_scraped(testbed: LocalTestbed) -> None:
    """Within 10 s of the deployment there are samples of every service."""
    names = set(testbed.ensure_app(AppSpec("hotel")).services)
    deadline = time.monotonic() + 10
    while True:
        services = collector(testbed).collect(Window(time.time() - 4, 0, 2)).details["services"]
        if set(services) == names and all(figures.get("cpu_cores") is not None for figures in services.values()):
            break
        assert time.monotonic() < deadline, services
        time.sleep(0.1)


def test_prometheus_agrees_with_the_direct_reading(testbed: LocalTestbed) -> None:
    """Over a window that its samples bracket Prometheus sees about what the kernel says, and is quick to tell."""
    test_every_service_is_scraped(testbed)
    window = Window(time.time(), time.monotonic(), 3.0)
    before = testbed.mark()
    time.sleep(3.0)
    after = testbed.mark()
    time.sleep(1.0)
    start = time.monotonic()
    services = collector(testbed).collect(window).details["services"]
    print(f"collect {(time.monotonic() - start) * 1e3:.0f} ms")
    direct = testbed.observe(before, after, window).metrics
    assert [name for name, figures in services.items() if not figures["bracketed"]] == []
    assert services["geo"]["samples"] >= 6
    assert services["geo"]["cpu_cores"] == pytest.approx(direct["cpu_cores(geo)"], abs=0.02)
    assert services["geo"]["memory_max_bytes"] == pytest.approx(direct["memory(geo)"], rel=0.05)


def test_samples_go_on_after_a_new_deployment(testbed: LocalTestbed) -> None:
    """A new deployment keeps its ports, so that it is scraped at once, and old samples stay out."""
    test_every_service_is_scraped(testbed)
    spec = AppSpec("hotel", pod_spec={"cpu_size": 1})
    names = set(testbed.ensure_app(spec).services)
    time.sleep(1.0)
    window = Window(time.time(), time.monotonic(), 2.0)
    time.sleep(3.0)
    services = collector(testbed).collect(window).details["services"]
    assert all(figures.get("cpu_cores") is not None for figures in services.values())
    assert names == set(services)
