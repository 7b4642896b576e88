"""Windows that end before their duration: by precision, or because the run is hopeless. Both are results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.requests_file import read_requests
from pytest_aefm.model import LoadSpec
from pytest_aefm.supervisor import Supervisor
from tests.native.conftest import Exchange

Make = Callable[..., Any]


def _steps(exchange: Exchange) -> None:
    """Answer after 20 to 29 ms, so that what a busy machine adds is little."""
    exchange.wait(0.02 + exchange.number * 7 % 10 / 1000)
    exchange.answer()


def test_a_window_ends_once_a_percentile_is_known(serve: Make, wrk: Make, tmp_path: Path) -> None:
    """At a doubling time, with the interval that was asked for, and nothing of what was sent after it."""
    server, path = serve(_steps), tmp_path / "requests.bin"
    run = wrk("-t2", "-c20", "-R100", "-d40s", "--precision", "p50:60%", "--requests", path, server.url)
    report, duration_ns = run.report, run.report["window"]["duration_ns"]
    assert "precision" == report["ended_by"]
    assert duration_ns in {seconds * 1_000_000_000 for seconds in (1, 2, 4, 8, 16, 32)}
    assert {"percentile": 50.0, "asked": 0.6, "reached": True} == {
        name: value for name, value in report["precision"].items() if name != "width"
    }
    (median,) = (one for one in report["percentiles"]["values"] if one["percentile"] == 50)
    assert (median["high_us"] - median["low_us"]) / median["value_us"] <= 0.6
    assert duration_ns / 1e7 == report["offered"] == report["outcomes"]["success"] == len(read_requests(path).records)
    assert report["offered"] <= server.seen
    assert report["offered"] == report["pacer_lag"]["count"] + report["backlog"]["count"]
    assert report["offered"] == sum(second["offered"] for second in report["series"]["seconds"])
    assert f"Ended by precision after {duration_ns / 1e9:.2f}s: p50 to " in run.stdout
    assert not report["interrupted"]


def test_tags_of_a_window_that_ended_early_add_up(serve: Make, wrk: Make) -> None:
    """Each tag's requests are those of the window, too."""
    rules = ("--tag-path", "one=GET /one", "--tag-path", "none=GET /none")
    load = ("-t1", "-c20", "-R100", "-d40s", "--precision", "p50:60%", *rules)
    report = wrk(*load, f"{serve(_steps).url}/one").report
    assert {"one": report["offered"], "none": 0} == {name: tag["offered"] for name, tag in report["tags"].items()}
    assert report["bytes_read"] == report["tags"]["one"]["bytes_read"] > 0


def test_the_duration_is_the_upper_limit(serve: Make, wrk: Make) -> None:
    """What was not reached is said, with how far it came."""
    run = wrk("-t1", "-c4", "-R50", "-d1500ms", "--precision", "p99:5%", serve().url)
    assert ("duration", 75) == (run.report["ended_by"], run.report["offered"])
    assert {"percentile": 99.0, "asked": 0.05, "width": None, "reached": False} == run.report["precision"]
    assert "Not ended by precision: p99 is not bounded, asked 5 %" in run.stdout


def test_an_interrupted_run_has_looked_for_nothing(serve: Make, wrk: Make, script: Make) -> None:
    """A script that stops its threads ends the run while looks go on."""
    path = script("local n = 0\nfunction response()\n  n = n + 1\n  if n > 20 then wrk.thread:stop() end\nend\n")
    report = wrk("-t1", "-c4", "-R50", "-d20s", "--precision", "p99:1%", "-s", path, serve().url).report
    assert ("interrupt", False) == (report["ended_by"], report["precision"]["reached"])


def test_a_hopeless_run_is_aborted(serve: Make, wrk: Make) -> None:
    """Once most of what ended over the asked time has failed: a result, with exit status 0, that says so."""
    server = serve(lambda exchange: exchange.answer(503 if exchange.number >= 40 else 200))
    run = wrk("-t2", "-c4", "-R40", "-d40s", "--abort-on", "error_rate>80%:1s", server.url)
    report = run.report
    assert "abort" == report["ended_by"]
    assert report["abort"]["aborted"]
    assert report["abort"]["error_rate"] > 0.8
    assert 1.7e9 < report["window"]["duration_ns"] < 30e9
    assert 40 == report["outcomes"]["success"]
    assert report["offered"] == pytest.approx(report["window"]["duration_ns"] / 1e9 * 40, abs=1)
    assert f"error_rate {report['abort']['error_rate'] * 100:.1f} % over 1s, more than 80 %" in run.stdout


def test_failures_that_are_few_enough_abort_nothing(serve: Make, wrk: Make) -> None:
    """Half is not more than half."""
    server = serve(lambda exchange: exchange.answer(503 if exchange.number % 2 else 200))
    report = wrk("-t1", "-c4", "-R40", "-d2s", "--abort-on", "error_rate>60%:500ms", server.url).report
    assert ("duration", 80, False) == (report["ended_by"], report["offered"], report["abort"]["aborted"])


def test_a_target_that_is_gone_aborts(serve: Make, wrk: Make) -> None:
    """Connections that fail are failures of requests that were due."""
    server = serve(lambda exchange: exchange.answer())
    server.behave = lambda exchange: server.die() if exchange.number == 9 else exchange.answer()
    report = wrk("-t1", "-c4", "-R40", "-d40s", "--abort-on", "error_rate>50%:500ms", server.url).report
    assert "abort" == report["ended_by"]
    assert report["outcomes"]["connect_error"] > 0


def test_the_driver_asks_and_tells(serve: Make, tmp_path: Path) -> None:
    """What a LoadSpec asks for comes back in the result, with the window that there was."""
    script = tmp_path / "plain.lua"
    script.write_text('wrk.path = "/"')
    load = LoadSpec("plain.lua", 100, 40.0, warmup_s=0.0, connections=20, precision=(50.0, 0.6), abort=(0.5, 1.0))
    with Supervisor(tmp_path / "supervisor.log") as supervisor:
        url = serve(_steps).url
        run = AefmWrk.find().start(load, script, url, supervisor=supervisor, cpus=(), artifacts=tmp_path)
        result = run.result(60.0)
    assert ("precision", True) == (result.ended_by, result.window.duration_s < 40)
    assert result.precision is not None
    assert result.precision["reached"]
    assert result.abort is not None
    assert not result.abort["aborted"]
    assert 40.0 == run.window.duration_s
