"""Where connections go: the URL's host, or one or several other addresses, of any family."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Any]
QUICK = ("-t1", "-c4", "-R50", "-d1s")


def test_a_target_is_connected_to_and_the_url_is_asked_for(serve: Make, wrk: Make) -> None:
    """--target moves connections, not Host and path."""
    server = serve()
    report = wrk(*QUICK, "--target", f"127.0.0.1:{server.port}", "http://search:81/hotels").report
    assert [f"127.0.0.1:{server.port}"] == report["targets"]
    assert {"GET /hotels HTTP/1.1"} == set(server.lines)
    assert "search:81" == server.exchanges[0].header("Host")


def test_connections_are_spread_over_all_targets(serve: Make, wrk: Make) -> None:
    """Round robin over all threads together, whatever the family."""
    first, second, third = serve(), serve(family=socket.AF_INET6), serve()
    addresses = [f"127.0.0.1:{first.port}", f"[::1]:{second.port}", f"localhost:{third.port}"]
    report = wrk("-t2", "-c9", "-R90", "-d1s", *(f"--target={one}" for one in addresses), "http://h/").report
    assert [3, 3] == [first.connections, second.connections]
    assert third.connections in (3, 4)  # a name with several addresses is tried first
    assert 90 == report["successes"] == first.seen + second.seen + third.seen
    assert [*addresses[:2], f"127.0.0.1:{third.port}"] == report["targets"]
    assert min(server.seen for server in (first, second, third)) >= 10


def test_a_target_that_is_away_costs_only_its_connections(serve: Make, wrk: Make) -> None:
    """The others carry the load, and the report shows fewer connections than asked."""
    server = serve()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{unused.getsockname()[1]}"
        report = wrk(*QUICK, "--target", f"127.0.0.1:{server.port}", "--target", away, "http://h/").report
    assert 50 == report["successes"]
    assert (4, 2) == (report["connections"]["asked"], report["connections"]["reached"])
    assert 0 == report["connections"]["open_failures"]


def test_unix_sockets_are_targets(serve: Make, wrk: Make, tmp_path: Path) -> None:
    """`unix:PATH` is connected to; a script sees it as its thread's address."""
    server = serve(path=tmp_path / "app.sock")
    script = tmp_path / "script.lua"
    script.write_text("function setup(thread) print(thread.addr) end")
    run = wrk(*QUICK, "--target", f"unix:{server.path}", "-s", script, "http://localhost/x")
    assert 50 == run.count("success") == server.seen
    assert [f"unix:{server.path}"] == run.report["targets"]
    assert f"unix:{server.path}\n" in run.stdout


def test_a_unix_socket_that_is_not_there(wrk: Make, tmp_path: Path) -> None:
    """The message names the socket."""
    run = wrk(*QUICK, "--target", f"unix:{tmp_path}/none", "http://localhost/", status=3)
    assert f"aefm-wrk: unix:{tmp_path}/none: No such file or directory\n" == run.stderr


def test_a_script_chooses_an_address(serve: Make, wrk: Make, script: Make) -> None:
    """`thread.addr` in setup() comes before URL and targets; wrk.connect() tells which addresses accept."""
    server, other = serve(), serve()
    path = script(
        f"function setup(thread)\n"
        f"  for _, address in ipairs(wrk.lookup('127.0.0.1', '{server.port}')) do\n"
        f"    if wrk.connect(address) then thread.addr = address end\n"
        f"  end\n"
        f"end\n"
    )
    report = wrk(*QUICK, "-s", path, "--target", f"127.0.0.1:{other.port}", "http://h/").report
    assert (50, 0) == (server.seen, other.seen)
    assert 50 == report["successes"]


@pytest.mark.parametrize("target", ["nothing", "h:0", "h:x", "[::1]", "unix:", "unix:/" + "x" * 107])
def test_bad_targets_are_refused(wrk: Make, target: str) -> None:
    """A usage error says what was expected."""
    assert wrk("-R1", "--target", target, "http://h", status=1).stderr.startswith("aefm-wrk: --target: expected ")
