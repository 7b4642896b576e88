"""What servers do wrong, and how it is counted: every request has exactly one outcome."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]
QUICK = ("-t1", "-c4", "-R50", "-d1s")


def test_error_statuses_are_not_successes(serve: Make, wrk: Make) -> None:
    """4xx, 5xx and unknown statuses have outcomes and histograms of their own."""
    statuses = [200, 302, 404, 503, 999]
    server = serve(lambda exchange: exchange.answer(statuses[exchange.number % 5]))
    run = wrk(*QUICK, server.url)
    assert {"success": 20, "4xx": 10, "5xx": 10, "other_status": 10} == run.report["outcomes"]
    assert 50 == run.report["achieved"]
    assert "Non-2xx or 3xx responses: 30" in run.stdout


def test_resets_are_read_errors(serve: Make, wrk: Make) -> None:
    """A connection that is reset instead of answered is a read error; the next request gets a new one."""
    server = serve(lambda exchange: exchange.reset() if exchange.number % 2 else exchange.answer())
    run = wrk(*QUICK, server.url)
    assert (25, 25) == (run.count("success"), run.count("read_error"))
    assert 50 == server.seen == run.report["sent"]


def test_a_response_cut_short_is_a_read_error(serve: Make, wrk: Make) -> None:
    """The end of the connection inside a body of known length is no success."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"
    server = serve(lambda exchange: (exchange.send(cut), exchange.close()))
    assert 50 == wrk(*QUICK, server.url).count("read_error")


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + b"x" * 70000,
    ],
)
def test_garbage_is_malformed(serve: Make, wrk: Make, garbage: bytes) -> None:
    """What is not HTTP is counted as such."""
    server = serve(lambda exchange: exchange.send(garbage))
    assert 50 == wrk(*QUICK, "--timeout", "1s", server.url).count("malformed")


def test_connection_close_is_followed(serve: Make, wrk: Make) -> None:
    """A server that closes after each response is reconnected to, and nothing is lost."""
    server = serve(lambda exchange: (exchange.answer(headers="Connection: close\r\n"), exchange.close()))
    run = wrk(*QUICK, server.url)
    assert 50 == run.count("success") == server.seen
    assert server.connections >= 50


def test_a_silent_close_between_requests_is_followed(serve: Make, wrk: Make) -> None:
    """An idle connection that the server closes unannounced is opened again before it is needed."""
    server = serve(lambda exchange: (exchange.answer(), exchange.wait(0.005), exchange.close()))
    run = wrk("-t1", "-c4", "-R20", "-d1s", server.url)
    assert 20 == run.count("success") == server.seen


def test_bodies_until_close_and_chunked_are_whole(serve: Make, wrk: Make) -> None:
    """Chunked responses with trailers, and those that the connection's end ends, are successes."""

    def behave(exchange: Any) -> None:
        if exchange.number % 2:
            exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
            exchange.send(b"lo\r\n0\r\nX: y\r\n\r\n")
        else:
            exchange.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            exchange.close()

    run = wrk(*QUICK, serve(behave).url)
    assert 50 == run.count("success")


def test_interim_responses_are_skipped(serve: Make, wrk: Make) -> None:
    """A 1xx before the response does not count, the response does."""
    server = serve(lambda exchange: (exchange.send(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"), exchange.answer()))
    assert {"success": 50} == wrk(*QUICK, server.url).report["outcomes"]


def test_slow_headers_are_waited_for(serve: Make, wrk: Make) -> None:
    """A head that comes byte by byte is a success, measured to its last byte."""

    def behave(exchange: Any) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
            exchange.send(bytes([byte]))
            exchange.wait(0.001)

    report = wrk("-t1", "-c8", "-R20", "-d1s", serve(behave).url).report
    assert 20 == report["successes"]
    assert report["latency"]["success"]["min_us"] >= 40_000


def test_timeouts_are_lower_bounds(serve: Make, wrk: Make) -> None:
    """A request without an answer is given up --timeout after it was sent, on a fresh connection afterwards."""
    server = serve(lambda exchange: exchange.wait(60))
    report = wrk("-t1", "-c20", "-R20", "-d1s", "--timeout", "300ms", server.url).report
    assert {"success": 0, "timeout": 20} == report["outcomes"]
    assert 20 == server.seen
    assert report["latency"]["timeout"]["min_us"] >= 300_000
    assert report["drain_ns"] >= 200_000_000


def test_a_stall_to_the_end_is_not_lost(serve: Make, wrk: Make) -> None:
    """A server that hangs for the last second leaves timeouts and unsent requests with their times so far."""
    begin = time.monotonic()
    server = serve(lambda exchange: (exchange.wait(60 if time.monotonic() > begin + 1.5 else 0), exchange.answer()))
    report = wrk("-t1", "-c4", "-R100", "-d3s", "--timeout", "2s", server.url).report
    outcomes = report["outcomes"]
    assert outcomes["timeout"] == 4
    assert outcomes["unsent"] >= 100
    assert outcomes["success"] + outcomes["timeout"] + outcomes["unsent"] == 300
    assert report["latency"]["unsent"]["max_us"] >= 1_000_000
    assert report["latency"]["timeout"]["min_us"] >= 2_000_000


def test_a_target_that_nobody_listens_on_is_refused_before_the_run(wrk: Make) -> None:
    """Without a single connection there is no run: exit 3, target and reason."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        run = wrk(*QUICK, f"http://127.0.0.1:{port}", status=3)
    assert f"127.0.0.1:{port}: Connection refused" in run.stderr


def test_a_server_that_dies_leaves_connect_errors(serve: Make, wrk: Make) -> None:
    """Once nothing can be connected, due requests are connect errors at once, and the CPU stays idle."""
    servers: list[Any] = []
    server = serve(lambda exchange: exchange.answer() if exchange.number < 20 else servers[0].die())
    servers.append(server)
    report = wrk("-t1", "-c4", "-R100", "-d2s", server.url).report
    outcomes = report["outcomes"]
    assert outcomes["connect_error"] >= 100
    assert report["attempted"] - report["sent"] == outcomes["connect_error"]
    assert report["threads_cpu"][0] < 0.5


def test_a_server_that_recovers_is_used_again(serve: Make, wrk: Make) -> None:
    """After a phase of resets every request succeeds again."""
    server = serve(lambda exchange: exchange.reset() if 5 <= exchange.number < 15 else exchange.answer())
    run = wrk("-t1", "-c2", "-R50", "-d2s", server.url)
    assert (90, 10) == (run.count("success"), run.count("read_error"))


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_report(serve: Make, engine: Path, tmp_path: Path, signal_number: int) -> None:
    """What was measured until the signal is reported; what was in flight is unanswered."""
    server = serve(lambda exchange: exchange.wait(60) if exchange.number == 10 else exchange.answer())
    result = tmp_path / "result.json"
    command = [engine, "-t1", "-c2", "-R50", "-d30s", "--timeout", "30s", "--json", result, server.url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while server.seen < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal_number)
        assert process.wait(timeout=5) in (0, 5)
    report = json.loads(result.read_text())
    assert report["interrupted"] is True
    assert report["outcomes"]["unanswered"] == 1
    assert report["offered"] == sum(report["outcomes"].values()) >= 30
    assert report["window"]["duration_ns"] < 30_000_000_000


def test_the_death_of_the_parent_ends_the_engine(serve: Make, engine: Path) -> None:
    """A generator does not outlive the process that started it."""
    server = serve()
    inner = (
        f"import subprocess,time; p=subprocess.Popen([{str(engine)!r},'-R50','-d60s',{server.url!r}],"
        "stdout=subprocess.DEVNULL); print(p.pid,flush=True); time.sleep(1)"
    )
    pid = int(subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True, timeout=30).stdout)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Tell whether a process runs still (a zombie does not)."""
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ipv6_targets_work(serve: Make, wrk: Make) -> None:
    """A bracketed address is connected to, and its Host header has the brackets."""
    server = serve(family=socket.AF_INET6)
    assert 50 == wrk(*QUICK, server.url).count("success")
    assert f"[::1]:{server.port}" == server.exchanges[0].header("Host")


def test_a_host_name_is_resolved(serve: Make, wrk: Make) -> None:
    """`localhost` is found on whichever of its addresses accepts."""
    server = serve()
    assert 50 == wrk(*QUICK, f"http://localhost:{server.port}").count("success")


def test_too_few_descriptors_are_local_failures(serve: Make, engine: Path, tmp_path: Path) -> None:
    """Connections that this machine could not open are counted, and the report shows fewer than asked."""
    server, result = serve(), tmp_path / "result.json"
    limited = ["sh", "-c", 'ulimit -n 20 && exec "$@"', "sh", str(engine)]
    command = [*limited, "-t1", "-c40", "-R50", "-d1s", "--json", str(result), server.url]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=30).returncode in (0, 5)
    report = json.loads(result.read_text())
    assert report["connections"]["open_failures"] > 0
    assert report["connections"]["reached"] < 40
    assert 50 == report["successes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-R", "x", "http://h"), "aefm-wrk: --rate: expected a positive number, got 'x'"),
        (
            ("-R", "1", "ftp://h"),
            "aefm-wrk: URL: expected http[s]://host[:port][/path], got 'ftp://h'",
        ),
        (("-R", "1"), "aefm-wrk: URL: expected one; see aefm-wrk --help"),
    ],
)
def test_bad_options_are_one_clear_line(wrk: Make, arguments: tuple[str, ...], message: str) -> None:
    """Usage errors exit 1 and say what was expected."""
    assert message == wrk(*arguments, status=1).stderr.strip()


def test_connections_are_opened_up_to_the_most(serve: Make, wrk: Make) -> None:
    """On every thread its share; more requests than that wait."""
    server = serve(lambda exchange: (exchange.wait(0.5), exchange.answer()))
    run = wrk("-t2", "-c3", "--max-connections", "7", "-R40", "-d1s", server.url)
    assert {"asked": 3, "max": 7, "reached": 7, "opened": 4} == {
        name: run.report["connections"][name] for name in ("asked", "max", "reached", "opened")
    }
    assert 7 == server.connections
    assert "Connections: 4 opened beyond the 3 asked for, at most 7" in run.stdout
    assert run.report["backlog"]["count"] > 0


def test_connections_that_are_free_are_enough(serve: Make, wrk: Make) -> None:
    """What may be opened need not be."""
    report = wrk("-t1", "-c8", "--max-connections", "16", "-R20", "-d1s", serve().url).report
    assert 0 <= report["connections"]["opened"] <= 1  # a busy machine may need one
