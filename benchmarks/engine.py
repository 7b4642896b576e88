"""Whether the load generator tells the truth, sends evenly, is fast, and knows how far to trust itself.

It runs on core 0, what it loads on core 1: a server whose times are known (``reference.c``), and nginx where it is
compared with wrk and with wrk2 (which ``AEFM_TEST_WRK2`` names). ``--runs`` is how many runs of coverage there are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fleet import GENERATOR, free_ports
from measuring import promise, undisturbed

from pytest_aefm.histogram import LatencyHistogram

Result = dict[str, Any]

AT_ONCE_US, MEDIAN_US, TAIL_SHARE, TAIL_US, MIXTURE_SHARE = 15.0, 100.0, 0.05, 200.0, 0.05
EVEN_CV, POISSON_CV = 0.15, (0.9, 1.1)
WRK_SHARE, WRK2_SHARE, SCRIPT_SHARE = 1.0, 1.2, 1.0
MEMORY_CONNECTIONS, MEMORY_MB = 10_000, 100.0
STALL_P99_S, MIDDLE_P99_S, MIDDLE_SHARE = 1.5, 0.9, 0.1
SERVICE_MS, COVERAGE, WIDTH = 20.0, (0.90, 0.99), 0.10
REPEATS, SPEED_S = 5, 3

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_rlimit_nofile 30000;
events {{ worker_connections 12000; }}
http {{ access_log off; keepalive_requests 100000000;
  ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
  server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls_port} ssl;
    location / {{ return 200 "ok"; }} }} }}
"""
SCRIPT = "request = function() return wrk.format('GET', '/') end\n"


@dataclass
class Reference:
    """A server that runs; what it has seen is there when it has ended."""

    port: int
    seen: int = 0
    gaps_s: np.ndarray[Any, Any] | None = None


@contextmanager
def reference(*words: object) -> Iterator[Reference]:
    """Serve with these times (see ``reference.c``), on core 1."""
    (port,) = free_ports(1)
    log = program().with_name(f"arrivals-{port}")
    command = ["taskset", "-c", "1", str(program()), "serve", str(port), *map(str, words), "log", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server = Reference(port)
    try:
        until_open(port)
        yield server
    finally:
        process.terminate()
        server.seen = int(process.communicate(timeout=10)[0])
        server.gaps_s = np.diff(np.fromfile(log, "<u8")) / 1e9
        log.unlink()


def program() -> Path:
    """Return the reference, compiled when it is first asked for."""
    source = Path(__file__).with_name("reference.c")
    made = Path(tempfile.gettempdir()) / f"aefm-reference-{os.getuid()}-{source.stat().st_mtime_ns}" / "reference"
    if not made.exists():
        made.parent.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", str(made), str(source), "-lm"], check=True)
    return made


def until_open(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nobody listens at port {port}"
        time.sleep(0.01)


def run(port: int, *options: object) -> Result:
    """Return what the generator says of a load from core 0."""
    command = ["taskset", "-c", "0", GENERATOR, *map(str, options), "--json", "-", f"http://127.0.0.1:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 5), done.stderr
    return {**json.loads(done.stdout), "status": done.returncode, "said": done.stderr}


def known(result: Result, percent: float) -> dict[str, Any]:
    """Return what a result says of a percentile."""
    return next(dict(one) for one in result["percentiles"]["values"] if one["percentile"] == percent)


def median_of(measure: Callable[[], float]) -> float:
    """Return the median of five, none of them disturbed."""
    return statistics.median(undisturbed(measure) for _ in range(REPEATS))


def truth() -> Iterator[bool]:
    """Latencies of a server that answers at once, after a fixed time, and of a mixture."""
    with reference() as server:

        def beyond_us() -> float:
            command = ["taskset", "-c", "0", str(program()), "ask", str(server.port), "1000"]
            simple_us = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            ours_us = known(run(server.port, "-t1", "-c8", "-R1000", "-d2s"), 50)["value_us"]
            print(f"  at once: {simple_us:.1f} us simple, {ours_us} us ours", flush=True)
            return float(ours_us - simple_us)

        off_us = median_of(beyond_us)
    text = f"of a server that answers at once p50 is {off_us:+.1f} us off a simple client's"
    yield promise(f"{text}, at most {AT_ONCE_US:g}", abs(off_us) <= AT_ONCE_US)
    for ms in (1, 5, 50):
        with reference("spin", "constant", ms) as server:
            results = [undisturbed(lambda: run(server.port, "-t1", "-c128", "-R1000", "-d3s")) for _ in range(REPEATS)]
        p50_us, p99_us = (statistics.median(known(one, percent)["value_us"] for one in results) for percent in (50, 99))
        limit_us = ms * 1000 * (1 + TAIL_SHARE) + TAIL_US
        text = f"of {ms} ms p50 is {p50_us - ms * 1000:+.0f} us off, at most {MEDIAN_US:g}"
        fine = abs(p50_us - ms * 1000) <= MEDIAN_US and p99_us <= limit_us
        yield promise(f"{text}; p99 {p99_us / 1e3:.2f} ms, at most {limit_us / 1e3:.2f}", fine)
    with reference("spin", "mixture") as server:
        results = [undisturbed(lambda: run(server.port, "-t1", "-c128", "-R1000", "-d4s")) for _ in range(REPEATS)]
    for percent, true_ms in ((50, 2), (95, 20), (99.5, 200)):
        seen_ms = statistics.median(
            LatencyHistogram.decode(one["latency"]["success"]["hdr"]).percentile_us(percent) / 1e3 for one in results
        )
        off = seen_ms / true_ms - 1
        text = f"of a mixture p{percent:g} is {seen_ms:.2f} ms, {off:+.1%} off {true_ms} ms"
        yield promise(f"{text}, at most {MIXTURE_SHARE:.0%}", abs(off) <= MIXTURE_SHARE)


def pacing() -> Iterator[bool]:
    """Gaps between requests, as the server sees them."""
    for options in (("-t1", "-c8", "-R1000", "-d4s"), ("-t2", "-c10", "-R20", "-d20s")):
        for distribution in ("fixed", "exp"):

            def variation(asked: str = distribution, load: tuple[str, ...] = options) -> float:
                with reference("spin") as server:
                    run(server.port, *load, "-D", asked)
                assert server.gaps_s is not None
                gaps = np.sort(server.gaps_s)[: math.floor(0.999 * len(server.gaps_s))]
                return float(gaps.std(ddof=1) / gaps.mean())

            repeats = REPEATS if "-R1000" in options else 1
            cv = statistics.median(undisturbed(variation) for _ in range(repeats))
            low, high = (0.0, EVEN_CV) if distribution == "fixed" else POISSON_CV
            # A sample of 400 exponential gaps has a coefficient within 0.05 of 1 in two of three runs only.
            slack = 0.0 if "-R1000" in options or distribution == "fixed" else 0.1
            text = f"{' '.join(options)} -D {distribution}: gaps have a coefficient of variation of {cv:.3f}"
            fine = low - slack <= cv <= high + slack
            yield promise(f"{text}, {low - slack:g} to {high + slack:g}", fine)


def speed() -> Iterator[bool]:
    """The rate that nginx on the other core takes from one thread, beside wrk and wrk2, and how busy it is; memory."""
    programs = {"wrk": shutil.which("wrk"), "wrk2": os.environ.get("AEFM_TEST_WRK2"), "aefm-wrk": GENERATOR}
    missing = [name for name, path in programs.items() if not path]
    if missing or not shutil.which("nginx"):
        print(f"skipped: {', '.join(missing) or 'nginx'} is not there")
        return
    with tempfile.TemporaryDirectory() as folder, nginx(Path(folder)) as server:
        script = Path(folder) / "request.lua"
        script.write_text(SCRIPT)
        for shown, url, more, limits in (
            ("plain", server.url, (), {"wrk": WRK_SHARE, "wrk2": WRK2_SHARE}),
            ("with request()", server.url, ("-s", str(script)), {"wrk": SCRIPT_SHARE}),
            ("over TLS", server.tls_url, (), {}),
        ):
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
            for _ in range(REPEATS):
                for name, path in programs.items():
                    asked = () if name == "wrk" else ("-R", f"{2 * found['wrk'][-1][0]:.0f}")
                    trusting = ("--insecure",) if name == "aefm-wrk" else ()  # as wrk and wrk2 always are
                    found[name].append(undisturbed(partial(rate_of, server, str(path), *asked, *more, *trusting, url)))
            for name, runs in found.items():
                rate, busy = (statistics.median(column) for column in zip(*runs, strict=True))
                print(f"  {shown}: {name} {rate:.0f} req/s (nginx {busy:.0%} of its core)")
            for other, least in limits.items():
                ratio = statistics.median(
                    ours / theirs for (ours, _), (theirs, _) in zip(found["aefm-wrk"], found[other], strict=True)
                )
                yield promise(f"{shown}: {ratio:.2f} x {other}'s rate, at least {least:g}", ratio >= least)
        command = [GENERATOR, "-t1", f"-c{MEMORY_CONNECTIONS}", "-R1000", "-d2s", server.url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = f"{MEMORY_CONNECTIONS} connections take {usage.ru_maxrss / 1e3:.0f} MB, at most {MEMORY_MB:g}"
    yield promise(text, usage.ru_maxrss / 1e3 <= MEMORY_MB and process.returncode in (0, 5))


@dataclass
class Nginx:
    """An nginx that runs, and its one worker."""

    url: str
    tls_url: str
    worker: psutil.Process

    def used_s(self) -> float:
        """Return the CPU time that its worker has used."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    """Serve with one worker of nginx on core 1."""
    port, tls_port = free_ports(2)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, tls_port=tls_port))
    key = ["-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(folder / "key.pem")]
    command = ["openssl", "req", "-x509", *key, "-subj", "/CN=localhost", "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    process = subprocess.Popen(["taskset", "-c", "1", "nginx", "-c", str(folder / "nginx.conf")])
    try:
        until_open(port)
        (worker,) = psutil.Process(process.pid).children()
        yield Nginx(f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{tls_port}/", worker)
    finally:
        process.terminate()
        process.wait(10)


def rate_of(server: Nginx, generator: str, *options: str) -> tuple[float, float]:
    """Return the requests per second that a generator of wrk's family says, and the share of its core nginx used."""
    command = ["taskset", "-c", "0", generator, "-t1", "-c32", f"-d{SPEED_S}s", *options]
    before_s = server.used_s()
    said = subprocess.run(command, capture_output=True, text=True).stdout
    used_s = server.used_s() - before_s
    found = re.search(r"^Requests/sec:\s+(\S+)", said, re.MULTILINE)
    assert found, said
    return float(found[1]), used_s / SPEED_S


def stalls() -> Iterator[bool]:
    """Stalls to the end of the run, and in its middle."""
    with reference("stall", 8, 1000) as server:
        tail = known(run(server.port, "-t1", "-c64", "-R1000", "-d10s"), 99)
    fine = tail["value_us"] >= STALL_P99_S * 1e6 or (tail["high_us"] is None and tail["low_us"] <= STALL_P99_S * 1e6)
    high = "without end" if tail["high_us"] is None else f"{tail['high_us'] / 1e6:.2f} s"
    text = f"of a stall in the last 2 s of 10 p99 is {tail['value_us'] / 1e6:.2f} s or more, at most {high}"
    yield promise(f"{text}, at least {STALL_P99_S:g} s", fine)

    def middle_s() -> float:
        with reference("stall", 4, 1) as server:
            return float(known(run(server.port, "-t1", "-c64", "-R1000", "-d10s"), 99)["value_us"] / 1e6)

    p99_s = undisturbed(middle_s)
    off = p99_s / MIDDLE_P99_S - 1
    text = f"of a stall of 1 s in the middle p99 is {p99_s:.3f} s, {off:+.1%} off {MIDDLE_P99_S:g} s"
    yield promise(f"{text}, at most {MIDDLE_SHARE:.0%}", abs(off) <= MIDDLE_SHARE)


def coverage(runs: int) -> Iterator[bool]:
    """How often the 95 % interval holds the truth of exponential service times, after 2 s and after --precision."""
    plain = many(runs, 4, "-t1", "-c200", "-R1000", "-d2s")
    for percent in (50, 99):
        yield holds_truth(plain, percent, "after 2 s")
    precise = many(runs, 2, "-t1", "-c600", "-R4000", "-d30s", "--precision", f"p99:{WIDTH:.0%}")
    ended = [one["window"]["duration_ns"] / 1e9 for one in precise if one["ended_by"] == "precision"]
    yield holds_truth(precise, 99, f"after --precision, at {statistics.mean(ended):.1f} s on average")
    widths = [(known(one, 99)["high_us"] - known(one, 99)["low_us"]) / known(one, 99)["value_us"] for one in precise]
    text = f"{len(ended)} of {runs} runs were ended by precision, their intervals at most {max(widths):.1%} wide"
    yield promise(f"{text}, asked {WIDTH:.0%}", len(ended) == runs and max(widths) <= WIDTH)
    with reference("spin", "constant", SERVICE_MS) as server:
        quiet = run(server.port, "-t1", "-c600", "-R4000", "-d30s", "--precision", f"p99:{WIDTH:.0%}")
    quiet_s = quiet["window"]["duration_ns"] / 1e9
    yield promise(f"a quiet server's p99 is known after {quiet_s:g} s, earlier", quiet_s < statistics.mean(ended))
    with reference("spin", "constant", SERVICE_MS) as server:
        result = run(server.port, "-t1", "-c4", "-R1000", "-d3s")
    text = f"a growing queue is overload ({result['overloaded']}), exit status {result['status']} {result['said']}"
    yield promise(text, result["overloaded"] and result["status"] == 0)


def many(runs: int, at_once: int, *options: str) -> list[Result]:
    """Return the results of many runs, some of them at a time, each against service times of its own."""

    def one(seed: int) -> Result:
        return run(server.port, *options, "--seed", seed)

    with reference("spin", "exponential", SERVICE_MS, time.time_ns()) as server, ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(runs)))


def holds_truth(results: list[Result], percent: float, when: str) -> bool:
    """Say how many intervals of a percentile hold the true value."""
    true_us = -math.log(1 - percent / 100) * SERVICE_MS * 1e3
    found = [known(one, percent) for one in results]
    held = sum((one["low_us"] or 0) <= true_us <= (one["high_us"] or math.inf) for one in found) / len(found)
    text = f"{when} {held:.1%} of {len(found)} intervals hold the true p{percent:g} of {true_us / 1e3:.2f} ms"
    return promise(f"{text}, {COVERAGE[0]:.0%} to {COVERAGE[1]:.0%}", COVERAGE[0] <= held <= COVERAGE[1])


def counts() -> Iterator[bool]:
    """Short runs, slow runs, and as many requests as the server saw."""
    for rate, seconds in ((1, 3), (1000, 3), (20_000, 5)):
        with reference() as server:
            result = run(server.port, "-t1", "-c32", f"-R{rate}", f"-d{seconds}s")
        told = (result["offered"], result["successes"], server.seen, result["latency"]["success"]["count"])
        text = f"{rate} req/s for {seconds} s: {told[0]} offered, {told[1]} answered, {told[2]} seen by the server"
        yield promise(text, set(told) == {rate * seconds} and result["window"]["duration_ns"] == seconds * 10**9)


def main() -> int:
    """Measure, and say whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("parts", nargs="*", help="truth, pacing, speed, stalls, coverage, counts (all of them)")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[bool]]] = {
        "truth": truth,
        "pacing": pacing,
        "speed": speed,
        "stalls": stalls,
        "coverage": lambda: coverage(options.runs),
        "counts": counts,
    }
    held = [one for name in options.parts or parts for one in parts[name]()]
    return not all(held)


if __name__ == "__main__":
    sys.exit(main())
