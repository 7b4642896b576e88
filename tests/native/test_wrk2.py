"""An installed wrk2 as a driver, for real: AEFM_TEST_WRK2 names the program (or several, as PATH does)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_aefm.errors import LoadError, ScriptError
from pytest_aefm.load.choice import open_driver
from pytest_aefm.load.wrk2 import Wrk2
from pytest_aefm.model import LoadResult, LoadSpec
from pytest_aefm.supervisor import Supervisor

from .conftest import Exchange, Server

_NAMED = os.environ.get("AEFM_TEST_WRK2") or shutil.which("wrk2") or ""
_HELLO = 'function request() return wrk.format("GET", "/hello") end'
_MISSING = "no wrk2: build it and name it in AEFM_TEST_WRK2, or put it on PATH"


@pytest.fixture(params=_NAMED.split(os.pathsep) if _NAMED else [pytest.param("", marks=pytest.mark.skip(_MISSING))])
def wrk2(request: pytest.FixtureRequest) -> Wrk2:
    """Return an installed wrk2; skip where there is none."""
    driver = open_driver(Path(request.param), "AEFM_TEST_WRK2")
    assert isinstance(driver, Wrk2)
    return driver


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Return an owner of processes, which ends with the test."""
    with Supervisor(tmp_path / "supervisor.log") as owner:
        yield owner


@pytest.fixture
def drive(wrk2: Wrk2, supervisor: Supervisor, tmp_path: Path) -> Callable[..., LoadResult]:
    """Return a function that runs a load to its end: by default 1 s of 40 requests per second, never calibrated."""

    def run(server: Server, path: Path, **changes: float) -> LoadResult:
        settings = {
            "rate_rps": 40,
            "duration_s": 1,
            "warmup_s": 0,
            "timeout_s": 2,
            "connections": 4,
            "seed": 7,
        } | changes
        started = wrk2.start(
            LoadSpec("x", **settings),  # type: ignore[arg-type]
            path,
            server.url,
            supervisor=supervisor,
            cpus=(),
            artifacts=tmp_path,
        )
        try:
            return started.result(60)
        finally:
            started.stop()

    return run


Drive = Callable[..., LoadResult]
Serve = Callable[..., Server]
Script = Callable[[str], Path]


def test_every_request_is_counted_once(drive: Drive, serve: Serve, script: Script) -> None:
    """What the accounts say was sent is what arrived, and all of it had an answer."""
    server = serve()
    load = drive(server, script(_HELLO), threads=2)
    assert server.seen == load.offered == load.sent == load.successes == load.latency["success"].count
    assert set(server.lines) == {"GET /hello HTTP/1.1"}
    assert 32 <= load.offered <= 40  # DeathStarBench's first requests come one period late
    assert not load.interrupted


def test_the_window_lies_after_the_calibration(drive: Drive, serve: Serve, script: Script) -> None:
    """In a long run only the window counts, while the server sees the warm-up, too; nothing comes after it."""
    server = serve(lambda exchange: (exchange.wait(0.02), exchange.answer())[1])
    load = drive(server, script(_HELLO), duration_s=3, warmup_s=2, connections=8, threads=2)
    window = load.window
    assert 120 == load.offered == load.successes
    assert abs(load.latency["success"].count - 120) <= 16  # and what was in flight when the window began
    assert 20 <= load.latency["success"].percentile_us(50) / 1e3 < 60
    assert server.seen > 450
    assert server.exchanges[-1].arrived_ns / 1e9 < window.end_mono_s + 0.5
    assert 3 == pytest.approx(window.duration_s)
    assert 0 <= max(load.threads_cpu) < 0.9


def test_requests_without_an_answer(drive: Drive, serve: Serve, script: Script) -> None:
    """A server that falls silent half-way leaves timeouts, and a latency that is at least the timeout."""

    def fall_silent(exchange: Exchange) -> None:
        exchange.wait(60) if exchange.number >= 20 else exchange.answer()

    load = drive(serve(fall_silent), script(_HELLO))
    assert 20 == load.successes
    assert load.outcomes["timeout"] >= 4
    assert load.offered == sum(load.outcomes.values())
    assert load.latency["timeout"].min_us >= 2e6


def test_the_script_decides_what_a_success_is(drive: Drive, serve: Serve, script: Script) -> None:
    """``response`` may call a 404 a success and a 200 none."""

    def alternate(exchange: Exchange) -> None:
        exchange.answer(404 if exchange.number % 2 else 200)

    text = _HELLO + " function response(status) if status == 404 then return true end return false end"
    load = drive(serve(alternate), script(text))
    assert {"success", "mismatch"} == set(load.outcomes)
    assert abs(load.outcomes["success"] - load.outcomes["mismatch"]) <= 1
    assert load.observed_latency() is None


def test_scripts_of_deathstarbench_run(drive: Drive, serve: Serve, script: Script) -> None:
    """They name another host, and ask for a socket library that is not installed: the target is asked all the same."""
    text = """
    local socket = require "socket"
    math.randomseed(socket.gettime() * 1000)
    function init(arguments) assert(arguments[0]:find("^http://127")) end
    function request()
      return wrk.format("GET", "http://localhost:5000/hotels?n=" .. math.random(1000000), { ["X-A"] = "b" }, nil)
    end
    """
    first, second = serve(), serve()
    drive(first, script(text))
    drive(second, script(text))
    assert all(line.startswith("GET /hotels?n=") for line in first.lines)
    assert first.exchanges[0].header("X-A") == "b"
    assert sorted(first.lines) == sorted(second.lines), "the seed gives every run the same requests"


def test_a_script_may_set_its_functions_anew(drive: Drive, serve: Serve, script: Script) -> None:
    """A ``request`` that is defined in ``init`` or in ``response`` is called from then on, and counted all the same."""
    text = """
    function init()
      request = function() return wrk.format("GET", "/first") end
    end
    function response()
      request = function() return wrk.format("GET", "/later") end
    end
    """
    server = serve()
    load = drive(server, script(text))
    assert server.seen == load.offered == load.successes
    assert {"GET /first HTTP/1.1", "GET /later HTTP/1.1"} == set(server.lines)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("\nfunction request( return end", ":2", "expected"),
        ("\n\nerror('no data')", ":3", "no data"),
        ("function init() undefined.field = 1 end", ":1", "undefined"),
        ("function request()\n return nil .. 'x' end", ":2", "nil"),
        ("function request() return 5 end", ":1", "returned no request"),
        ("function delay() return 1 end", ":1", "wrk2 never calls"),
    ],
)
def test_script_errors_have_file_and_line(wrk2: Wrk2, script: Script, text: str, where: str, what: str) -> None:
    """A dry run finds them without a network."""
    path = script(text)
    with pytest.raises(ScriptError, match=what) as caught:
        wrk2.check_script(path)
    assert f"{path}{where}" == caught.value.subject


def test_a_good_script_passes_the_dry_run(wrk2: Wrk2, script: Script) -> None:
    """The dry run knows ``setup``, ``init`` and ``request``, and what else wrk2 gives to scripts."""
    text = "function setup(thread) thread:set('id', 1) end function init() wrk.headers['A'] = 'b' end "
    wrk2.check_script(script(text + _HELLO))
    wrk2.check_script(script("wrk.method = 'POST' wrk.body = 'x'"))  # no request() at all


def test_a_script_that_fails_in_the_run(drive: Drive, serve: Serve, script: Script) -> None:
    """An error in the middle of a run ends it, with file and line."""
    path = script("local n = 0\nfunction request()\n n = n + 1\n if n > 20 then error('spent') end\n"
                  " return wrk.format() end")  # fmt: skip
    with pytest.raises(ScriptError, match="spent") as caught:
        drive(serve(), path)
    assert f"{path}:4" == caught.value.subject


def test_no_server(drive: Drive, serve: Serve, script: Script) -> None:
    """A target that refuses is the run's failure, in wrk2's own words."""
    server = serve()
    server.die()
    began = time.monotonic()
    with pytest.raises(LoadError, match=r"unable to connect to 127\.0\.0\.1"):
        drive(server, script(_HELLO))
    assert time.monotonic() - began < 5
