"""The schedule: counts are exact, requests are even, the window is what was asked."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

Make = Callable[..., Any]


def test_counts_equal_what_the_server_saw(serve: Make, wrk: Make) -> None:
    """Warm-up and window together are exactly the requests that arrived; only the window is reported."""
    server = serve()
    report = wrk("-t1", "-c8", "-R300", "-d2s", "--warmup", "1s", server.url).report
    assert (900, 600, 600, 600) == (server.seen, report["offered"], report["sent"], report["successes"])


@pytest.mark.parametrize(("threads", "connections"), [(2, 10), (3, 10), (4, 5)])
def test_connections_are_spread_over_threads(serve: Make, wrk: Make, threads: int, connections: int) -> None:
    """A number of connections that does not divide by the threads is opened in full."""
    server = serve()
    report = wrk(f"-t{threads}", f"-c{connections}", "-R100", "-d1s", server.url).report
    assert connections == server.connections == report["connections"]["reached"]
    assert connections == report["connections"]["at_window_start"]
    assert 100 == server.seen == report["successes"]


@pytest.mark.parametrize(("rate", "expected"), [("1", 3), ("0.5", 2), ("3", 9), ("0.1k", 300)])
def test_slow_and_short_runs_are_right(serve: Make, wrk: Make, rate: str, expected: int) -> None:
    """Three seconds at any rate offer rate x 3 s requests (those due in [0, 3 s))."""
    server = serve()
    report = wrk("-t1", "-c2", f"-R{rate}", "-d3s", server.url).report
    assert expected == server.seen == report["offered"] == report["successes"]


def test_requests_are_evenly_spaced_over_all_threads(serve: Make, wrk: Make) -> None:
    """Two threads and ten connections send like one clock: the middle gap is the period, none is a burst."""
    server = serve()
    wrk("-t2", "-c10", "-R20", "-d3s", server.url)
    arrivals = sorted(exchange.arrived_ns for exchange in server.exchanges)
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    assert statistics.median(gaps) == pytest.approx(50e6, rel=0.1)
    assert sum(gap < 25e6 for gap in gaps) <= len(gaps) // 10


def test_a_seed_reproduces_arrivals_with_any_number_of_threads(serve: Make, wrk: Make) -> None:
    """Poisson arrivals on a ramp: as many requests whoever sends them, others with another seed."""
    server = serve()
    ramp = ("-c6", "-D", "exp", "--schedule", "10..90:2s,0:200ms,50:1s")
    runs = [wrk(*ramp, "--seed", seed, f"-t{threads}", server.url).report for seed, threads in ((5, 1), (5, 3), (6, 1))]
    assert [3.2e9] * 3 == [report["window"]["duration_ns"] for report in runs]
    first, second, other = [report["offered"] for report in runs]
    assert first == second
    assert 100 < first != other
    assert "exp" == runs[0]["arrivals"]["distribution"]
    assert {"from_rps": 10, "to_rps": 90, "duration_ns": 2_000_000_000} == runs[0]["arrivals"]["schedule"][0]


def test_start_at_is_honoured(serve: Make, wrk: Make) -> None:
    """The schedule starts at the monotonic time asked for, the window after the warm-up; connections before."""
    server = serve()
    start = time.monotonic_ns() + 700_000_000
    report = wrk("-t1", "-c2", "-R50", "-d1s", "--warmup", "500ms", "--start-at", start, server.url).report
    assert start + 500_000_000 == report["window"]["start_mono_ns"]
    assert start <= server.exchanges[0].arrived_ns < start + 250_000_000


@pytest.mark.parametrize("threads", [1, 3])
def test_cores_are_kept_awake_by_threads_of_idle_priority(serve: Make, wrk: Make, threads: int) -> None:
    """One thread per core spins while the load runs, never in the way: its policy is SCHED_IDLE, its core one only."""
    spinning: list[list[set[int]]] = []

    def look(exchange: Any) -> None:
        (engine,) = psutil.Process().children()
        tasks = [thread.id for thread in engine.threads()]
        spinning.append([os.sched_getaffinity(task) for task in tasks if os.sched_getscheduler(task) == os.SCHED_IDLE])
        exchange.answer()

    report = wrk(f"-t{threads}", "-c3", "-R10", "-d1s", "--keep-awake", serve(look).url).report
    cores = min(threads, len(os.sched_getaffinity(0)))
    assert 10 == report["successes"]
    assert [len(cpus) for cpus in spinning[-1]] == [1] * cores
    assert len(set().union(*spinning[-1])) == cores


def test_a_run_on_a_busy_core_ends_on_time(serve: Make, engine: Path) -> None:
    """Threads of idle priority do not keep the generator when everything else wants its core, too."""
    core, server = min(os.sched_getaffinity(0)), serve()
    busy = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"]
    hogs = [subprocess.Popen(busy) for _ in range(6)]
    try:
        command = [str(engine), "-t1", "-c2", "-R20", "-d1s", "--keep-awake", server.url]
        started = time.monotonic()
        done = subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, [core]), capture_output=True)
        assert done.returncode in (0, 5)
        assert time.monotonic() - started < 2.5
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def test_a_start_that_has_passed_is_said(serve: Make, wrk: Make) -> None:
    """A --start-at in the past starts now, with a warning, and counts all the same."""
    server = serve()
    run = wrk("-t1", "-c2", "-R50", "-d1s", "--start-at", 1, server.url)
    assert "--start-at: that time passed" in run.stderr
    assert 50 == run.report["successes"]


def test_the_window_is_told_on_both_clocks(serve: Make, wrk: Make) -> None:
    """Wall and monotonic start of the window name the same instant."""
    server = serve()
    offset = time.time_ns() - time.monotonic_ns()
    window = wrk("-t1", "-c2", "-R50", "-d1s", server.url).report["window"]
    assert 1_000_000_000 == window["duration_ns"]
    assert abs(window["start_wall_ns"] - window["start_mono_ns"] - offset) < 50_000_000


def test_latency_of_a_fixed_delay(serve: Make, wrk: Make) -> None:
    """A server that takes 20 ms has a p50 of 20 ms, as a lower bound exactly, above within what the machine allows."""
    server = serve(lambda exchange: (exchange.wait(0.02), exchange.answer()))
    report = wrk("-t1", "-c16", "-R100", "-d2s", server.url).report
    success = report["latency"]["success"]
    assert success["min_us"] >= 20_000
    assert success["p50_us"] < 40_000


def test_waiting_for_a_connection_counts_as_latency_and_backlog(serve: Make, wrk: Make) -> None:
    """With one connection and a server slower than the schedule the queue grows, and its wait is latency."""
    server = serve(lambda exchange: (exchange.wait(0.05), exchange.answer()))
    report = wrk("-t1", "-c1", "-R40", "-d2s", server.url).report
    backlog = report["backlog"]
    assert report["outcomes"]["unsent"] >= 20
    assert backlog["max"] >= 20
    assert backlog["quarters"] == sorted(backlog["quarters"])
    assert report["latency"]["success"]["max_us"] > 700_000
    assert report["offered"] == 80


def test_warm_up_requests_keep_connections_busy_but_do_not_count(serve: Make, wrk: Make) -> None:
    """A slow answer to a warm-up request delays the window's first ones and is not itself reported."""
    server = serve(lambda exchange: (exchange.wait(1.0 if exchange.number == 4 else 0), exchange.answer()))
    report = wrk("-t1", "-c1", "-R10", "-d1s", "--warmup", "500ms", server.url).report
    assert 10 == report["offered"] == report["successes"]
    assert 15 == server.seen
    assert report["backlog"]["count"] >= 3
