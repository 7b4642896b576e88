"""What the mesh costs, how much it carries, and whether its times are those of the file.

``--seconds`` is the length of the long runs (60 as promised; each of those against queueing theory takes five times as
long). ``--python FOLDER`` names a checkout that still has the server in Python, to compare with.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fleet import MESH, Fleet, free_ports, load, service
from measuring import promise

from pytest_aefm.apps import find_app
from pytest_aefm.collectors.spans import CLIENT, SERVER, Spans
from pytest_aefm.mesh.resolved import StepConfig
from pytest_aefm.mesh.topology import load_topology

HOP_LIMIT_US, HOP_FACTOR = 45.0, 15.0
START_LIMIT_S, MEMORY_LIMIT_MB, SERVICES = 1.0, 60.0, 17
CHAIN, CHAIN_RPS, FLAT_MB = 5, 4000, 1.0
LATE_P50_US, LATE_P99_US = 100.0, 300.0
WAIT_RUNS = 5
BESIDE_RPS = 1000  # more than half of a core: what sleeps more often is let in before its neighbour
WORK_US, WORK_TOLERANCE, LENGTHENED = 500.0, 0.10, 1.25
WORKERS, SERVICE_MS, QUEUE_TOLERANCE = 4, 10.0, 0.05

# The old server lies in another checkout; the finder of an installation in place would find this one's package first.
_OLD_SERVER = (
    "import runpy, sys; sys.meta_path = [f for f in sys.meta_path if not type(f).__module__.startswith('_editable')]; "
    "sys.path.insert(0, {folder!r}); runpy.run_module('pytest_aefm.mesh.server', run_name='__main__')"
)


@contextmanager
def fleet(*configs: Any, otlp: int | None = None, **more: Any) -> Iterator[Fleet]:
    """Serve these services in a folder of their own."""
    with tempfile.TemporaryDirectory() as name, Fleet(Path(name), **more).serving(configs, otlp) as serving:
        yield serving


def without_work(steps: list[StepConfig]) -> list[StepConfig]:
    """Return the steps that call, bare of all that takes time by itself."""
    kept: list[StepConfig] = []
    for step in steps:
        if "call" in step:
            kept.append(step)
        if "cache" in step:
            kept += without_work(step["cache"]["miss"])
        kept += [inner for group in step.get("parallel", []) for inner in without_work(group)]
    return kept


def hop_us(program: tuple[str, ...], rate: int, seconds: float) -> float:
    """Return the CPU time per hop of the hotel's search, traced, in microseconds."""
    topology = load_topology(find_app("hotel").topology_path)
    *ports, otlp = free_ports(len(topology.services) + 1)
    configs = topology.resolve(
        dict(zip(topology.services, ports, strict=True)),
        iterations_per_us=1.0,
        otlp_endpoint=f"http://127.0.0.1:{otlp}/v1/traces",
    )
    for config in configs.values():
        for endpoint in config["endpoints"]:
            endpoint["steps"] = without_work(endpoint["steps"])
    search = topology.smoke[0].path
    with fleet(*configs.values(), otlp=otlp, program=program) as hotel:
        entry = hotel.ports[topology.entry]
        load(entry, "-t1", "-c16", f"-R{rate}", "-d2s", path=search)
        served, cpu_s = hotel.served(), hotel.cpu_s()
        result = load(entry, "-t1", "-c16", f"-R{rate}", f"-d{seconds:g}s", path=search)
        cpu_s = hotel.cpu_s() - cpu_s
        served = hotel.served() - served
    assert result["outcomes"] == {"success": result["offered"]}, result["outcomes"]
    return cpu_s / served * 1e6


def cost(python: Path | None) -> Iterator[bool]:
    """CPU per hop, beside the server in Python in turn; start and memory of many services."""
    rounds = 3 if python else 1
    native, old = [], []
    for _ in range(rounds):
        native.append(hop_us(MESH, 1000, 5))
        if python:
            code = _OLD_SERVER.format(folder=str(python))
            old.append(hop_us((sys.executable, "-c", code, "--config"), 40, 5))
    hop = float(np.median(native))
    yield promise(
        f"a hop of the hotel's search costs {hop:.1f} us of CPU, at most {HOP_LIMIT_US:g}", hop <= HOP_LIMIT_US
    )
    if old:
        factor = float(np.median(old)) / hop
        text = f"that is {factor:.0f} x less than the {np.median(old):.0f} us of the server in Python"
        yield promise(f"{text}, at least {HOP_FACTOR:g} x", factor >= HOP_FACTOR)
    configs = [service(f"s{number}", port) for number, port in enumerate(free_ports(SERVICES))]
    begin = time.perf_counter()
    with fleet(*configs) as many:
        took_s, memory_mb = time.perf_counter() - begin, many.resident_mb()
    text = f"{SERVICES} services start and answer in {took_s:.2f} s, with {memory_mb:.0f} MB resident together"
    limits = f"less than {START_LIMIT_S:g} s and {MEMORY_LIMIT_MB:g} MB"
    yield promise(f"{text}, {limits}", took_s < START_LIMIT_S and memory_mb < MEMORY_LIMIT_MB)


def chain(seconds: float) -> Iterator[bool]:
    """Five services that call each other, on one core, under load from the other."""
    *ports, otlp = free_ports(CHAIN + 1)
    configs = [service("s0", ports[-1], otlp=otlp)]
    for number, port in enumerate(reversed(ports[:-1]), start=1):
        callee = configs[-1]
        peer = {callee["service"]: {"urls": [f"http://127.0.0.1:{callee['port']}"]}}
        call = {"service": callee["service"], "method": "GET", "path": "/x", "forward_query": False}
        configs.append(service(f"s{number}", port, {"call": call}, otlp=otlp, peers=peer))
    options = ("-t1", "-c64", f"-R{CHAIN_RPS}")
    with fleet(*configs, otlp=otlp, core=1) as five:
        load(ports[0], *options, "-d10s", core=0)
        before_mb = five.resident_mb()
        result = load(ports[0], *options, f"-d{seconds:g}s", core=0)
        grown_mb = five.resident_mb() - before_mb
        served, expected = five.served(), 10 * CHAIN_RPS * CHAIN + result["offered"] * CHAIN
        spans = len(five.spans())
    fine = result["outcomes"] == {"success": result["offered"]}
    p99_ms = result["latency"]["success"]["p99_us"] / 1e3
    text = f"a chain of {CHAIN} on one core carries {CHAIN_RPS} req/s for {seconds:g} s: {result['outcomes']}"
    yield promise(f"{text}, p99 {p99_ms:.1f} ms, memory {grown_mb:+.1f} MB", fine and grown_mb < FLAT_MB)
    wanted = served * 2 - served // CHAIN
    text = f"{spans} spans were received of {served} requests served ({wanted} expected)"
    yield promise(text, spans == wanted and served == expected)


def waits() -> Iterator[bool]:
    """Waits of the file, beside the same request without one."""
    port, *_ = free_ports(1)
    endpoints = [
        {"method": "GET", "path": f"/{ms}", "parameters": [], "response_bytes": 10, "steps": steps}
        for ms, steps in {0: [], **{ms: [{"wait": {"constant_ms": ms}}] for ms in (1, 5, 20)}}.items()
    ]
    with fleet(service("s", port, endpoints=endpoints)) as one:
        options = ("-t2", "-c32", "-R200", "-d10s", "--keep-awake")  # both cores: a sleeping one wakes late
        bare = load(port, *options, path="/0")["latency"]["success"]
        for ms in (1, 5, 20):
            seen = [load(port, *options, path=f"/{ms}")["latency"]["success"] for _ in range(WAIT_RUNS)]
            late = [float(np.median([one[name] for one in seen])) - ms * 1000 for name in ("p50_us", "p99_us")]
            text = f"a wait of {ms} ms is late by {late[0]:.0f} us (p50), {late[1]:.0f} us (p99), of {WAIT_RUNS} runs"
            limits = f"at most {LATE_P50_US:g} and {LATE_P99_US:g}"
            net = f"; without a wait a request takes {bare['p50_us']:.0f} and {bare['p99_us']:.0f} us"
            yield promise(f"{text}, {limits}{net}", late[0] <= LATE_P50_US and late[1] <= LATE_P99_US)
        del one


def work() -> Iterator[bool]:
    """CPU work on an idle core, and beside a neighbour on the same one."""
    rate = json.loads(subprocess.run([MESH[0], "--calibrate"], capture_output=True, text=True, check=True).stdout)
    port, *_ = free_ports(1)
    endpoints = [
        {"method": "GET", "path": path, "parameters": [], "response_bytes": 10, "steps": steps}
        for path, steps in (("/work", [{"cpu_us": WORK_US}]), ("/none", []))
    ]
    config = service("s", port, endpoints=endpoints, iterations_per_us=rate["iterations_per_us"])
    with fleet(config, core=1) as one:

        def mean_us(rps: int, path: str = "/work") -> tuple[float, float]:
            before_s, before = one.cpu_s(), load(port, "-t1", "-c64", f"-R{rps}", "-d5s", core=0, path=path)
            return (one.cpu_s() - before_s) / before["achieved"] * 1e6, before["latency"]["success"]["mean_us"]

        bare = float(np.median([mean_us(200)[0] - mean_us(200, "/none")[0] for _ in range(3)]))
        alone_us = mean_us(BESIDE_RPS)[1]
        neighbour = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", "while True: pass"])
        try:
            beside_us = mean_us(BESIDE_RPS)[1]
        finally:
            neighbour.kill()
            neighbour.wait()
    low, high = (WORK_US * (1 + sign * WORK_TOLERANCE) for sign in (-1, 1))
    text = f"a request of {WORK_US:g} us of work takes {bare:.0f} us of CPU more than one without"
    yield promise(f"{text}, {low:g} to {high:g}", low <= bare <= high)
    text = (
        f"at {BESIDE_RPS} req/s its mean latency is {alone_us:.0f} us alone, {beside_us:.0f} us beside a busy neighbour"
    )
    yield promise(f"{text}, at least {LENGTHENED:g} x as long", beside_us >= LENGTHENED * alone_us)


def queue(seconds: float) -> Iterator[bool]:
    """A service with a limit of workers, against a simulation fed with what was recorded."""
    for percent in (50, 70, 85):
        front, back, otlp = free_ports(3)
        call = {"service": "back", "method": "GET", "path": "/x", "forward_query": False}
        peers = {"back": {"urls": [f"http://127.0.0.1:{back}"]}}
        configs = (
            service("front", front, {"call": call}, otlp=otlp, peers=peers, workers=WORKERS),
            service("back", back, {"wait": {"exponential_ms": SERVICE_MS}}, otlp=otlp),
        )
        rps = percent / 100 * WORKERS / SERVICE_MS * 1e3
        with fleet(*configs, otlp=otlp) as pair:
            load(front, "-t1", "-c256", f"-R{rps:g}", f"-d{seconds:g}s", "-D", "exp", "--seed", percent)
            arrivals_s, services_s, waits_s = queue_of(pair.spans())
        expected_ms, seen_ms = simulated_waits_s(arrivals_s, services_s).mean() * 1e3, waits_s.mean() * 1e3
        off = abs(seen_ms / expected_ms - 1)
        text = (
            f"at {percent} % load {len(waits_s)} requests wait {seen_ms:.3f} ms on average, {expected_ms:.3f} simulated"
        )
        yield promise(f"{text}: {100 * off:.1f} % off, at most {100 * QUEUE_TOLERANCE:g} %", off <= QUEUE_TOLERANCE)


def queue_of(spans: Spans) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return arrivals, service times and waits in seconds, in order of arrival: server span, its call, the gap."""
    front = spans.service == spans.services.index("front")
    served, called = (np.flatnonzero(front & (spans.kind == kind)) for kind in (SERVER, CLIENT))
    served = served[np.argsort(spans.span_id[served])]
    called = called[np.argsort(spans.parent_id[called])]
    assert np.array_equal(spans.span_id[served], spans.parent_id[called]), "each request makes one call"
    order = np.argsort(spans.start_ns[served])
    served, called = served[order], called[order]
    start_ns = spans.start_ns[served]
    columns = (start_ns - start_ns[0], spans.end_ns[called] - spans.start_ns[called], spans.start_ns[called] - start_ns)
    arrivals_s, services_s, waits_s = (column / 1e9 for column in columns)
    return arrivals_s, services_s, waits_s


def simulated_waits_s(arrivals_s: np.ndarray[Any, Any], services_s: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the waits of customers served in order of arrival by the first of WORKERS that is free."""
    free_s = [0.0] * WORKERS
    waits_s = np.empty(len(arrivals_s))
    for number, (arrival_s, service_s) in enumerate(zip(arrivals_s, services_s, strict=True)):
        begin_s = max(arrival_s, heapq.heappop(free_s))
        waits_s[number] = begin_s - arrival_s
        heapq.heappush(free_s, begin_s + service_s)
    return waits_s


def main() -> int:
    """Measure, and say whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--python", type=Path)
    parser.add_argument("parts", nargs="*", help="cost, chain, waits, work, queue (all of them)")
    given = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[bool]]] = {
        "cost": lambda: cost(given.python),
        "chain": lambda: chain(given.seconds),
        "waits": waits,
        "work": work,
        "queue": lambda: queue(5 * given.seconds),
    }
    held = [kept for name, part in parts.items() if name in (given.parts or parts) for kept in part()]
    return not all(held)


if __name__ == "__main__":
    sys.exit(main())
