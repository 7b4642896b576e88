"""A Prometheus that scrapes a throttled process every 1, 5 and 30 s, beside what the kernel says of it in 40 s."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import promise

from pytest_aefm.collectors.figures import Limits
from pytest_aefm.collectors.prometheus import Layout, PrometheusCollector
from pytest_aefm.model import Window
from pytest_aefm.testbeds.local_app import free_ports
from pytest_aefm.testbeds.local_counters import cpu_clock_s
from pytest_aefm.testbeds.local_prometheus import find_prometheus

INTERVALS_S = (1, 5, 30)
WINDOW_S, CORES, MOST_OFF = 40.0, 0.3, 0.05

# It works until it has had its share of the time, and sleeps: 0.3 cores, whoever else wants them.
PROCESS = f"""
import sys, time
from prometheus_client import start_http_server
start_http_server(int(sys.argv[1]), "127.0.0.1")
start, had = time.monotonic(), time.process_time()
while True:
    while time.process_time() - had < {CORES} * (time.monotonic() - start):
        pass
    time.sleep(0.01)
"""


def configuration(port: int) -> str:
    """Return the configuration: one job for each interval, all of one target."""
    jobs = [
        {
            "job_name": f"every-{interval_s}s",
            "scrape_interval": f"{interval_s}s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"service": "busy"}}],
        }
        for interval_s in INTERVALS_S
    ]
    return json.dumps({"scrape_configs": jobs})


def judge(url: str, interval_s: int, window: Window, used: float) -> list[bool]:
    """Collect what one job saw; print how far it is off, and whether it claims a peak."""
    queries = {"cpu": f'process_cpu_seconds_total{{job="every-{interval_s}s"}}'}
    layout = Layout("service", limits=lambda: {"busy": Limits(1.0)})
    seen = PrometheusCollector(url, queries, layout).collect(window)
    cores = float(seen.metrics["cpu_cores(busy)"])  # type: ignore[arg-type]  # a number, as its name says
    off, samples = cores / used - 1, seen.details["services"]["busy"]["samples"]
    what = f"every {interval_s} s: {cores:.4f} cores from {samples} samples, {off:+.2%} of {used:.4f}"
    refused = seen.unfit.get("cpu_peak(busy)", "")
    few = WINDOW_S < 4 * interval_s
    return [
        promise(f"{what}; within {MOST_OFF:.0%}", abs(off) <= MOST_OFF),
        promise(f"every {interval_s} s: {'no peak: ' + refused if few else 'a peak'}", bool(refused) == few),
        promise(
            f"every {interval_s} s: the server says {seen.details['interval_s']} s",
            seen.details["interval_s"] == interval_s,
        ),
    ]


def main() -> int:
    """Measure, and say whether the promises hold."""
    program = find_prometheus()
    if program is None:
        raise SystemExit("no Prometheus on PATH or beside the interpreter")
    port, own = free_ports(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prometheus.yaml").write_text(configuration(port))
        options = ["--config.file=prometheus.yaml", f"--web.listen-address=127.0.0.1:{own}", "--log.level=error"]
        busy = subprocess.Popen([sys.executable, "-c", PROCESS, str(port)])
        server = subprocess.Popen([program, *options], cwd=folder)
        try:
            time.sleep(40)  # so that the slowest has sampled once
            window, before = Window(time.time(), time.monotonic(), WINDOW_S), cpu_clock_s(busy.pid)
            time.sleep(WINDOW_S)
            after = cpu_clock_s(busy.pid)
            assert before is not None, "it works until it is ended"
            assert after is not None, "it works until it is ended"
            kept: list[bool] = []
            used = (after - before) / WINDOW_S
            url = f"http://127.0.0.1:{own}"
            for every in INTERVALS_S:
                kept += judge(url, every, window, used)
        finally:
            for process in (busy, server):
                process.kill()
                process.wait()
    return not (len(kept) == 3 * len(INTERVALS_S) and all(kept))


if __name__ == "__main__":
    sys.exit(main())
