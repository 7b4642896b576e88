"""wrk2 as a driver: which programs are one, what they are asked for, and what their recorded accounts say.

The accounts are those of real runs, 40 requests per second for 4 s on 10 connections of 2 threads, against a server
that answers after 10 ms: always (ok), with a 500 to every twentieth (mix), not at all in the last 2 s (hang), with a
reset of every fiftieth connection (reset), after 600 ms (slow), gone in the last 2 s (die).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError, LoadError
from pytest_aefm.judgement import judge_slos, load_checks
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.choice import find_driver, open_driver
from pytest_aefm.load.wrk2 import Wrk2
from pytest_aefm.load.wrk2_accounts import read_result
from pytest_aefm.load.wrk2_plan import DEATHSTARBENCH, GILTENE, Dialect, Plan, dry_run
from pytest_aefm.model import LoadResult, LoadSpec
from pytest_aefm.slo import parse

DATA = Path(__file__).parent / "data" / "wrk2"
SPEC = LoadSpec("search.lua", 40, 4, warmup_s=2, timeout_s=2, threads=2, connections=10, seed=7)


def program(folder: Path, usage: str, name: str = "wrk2") -> Path:
    """Return a program that prints a recorded usage, as the generators do when asked for their version."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n/bin/cat '{DATA / usage}'\nexit 1\n")
    path.chmod(0o755)
    return path


def recorded(name: str, dialect: Dialect = GILTENE, **changes: object) -> LoadResult:
    """Read the recorded accounts of a run, with changes."""
    document = json.loads((DATA / f"{name}.json").read_text())
    return read_result(document | changes, Plan.of(SPEC, dialect), "4.0.0")


@pytest.mark.parametrize(
    ("usage", "dialect"), [("giltene-usage.txt", GILTENE), ("deathstarbench-usage.txt", DEATHSTARBENCH)]
)
def test_both_dialects_are_recognised_by_their_usage(tmp_path: Path, usage: str, dialect: Dialect) -> None:
    """Gil Tene's wrk2 and DeathStarBench's are told apart, whatever their file is called."""
    wrk = program(tmp_path, usage, "wrk")
    assert Wrk2(wrk, dialect, "4.0.0") == open_driver(wrk, "--aefm-wrk")


def test_plain_wrk_is_refused(tmp_path: Path) -> None:
    """A closed loop is no generator here, and the message says why and what would do."""
    with pytest.raises(ConfigurationError, match=r"--aefm-wrk: .*plain wrk: it has no rate.*open-loop.*aefm-wrk"):
        open_driver(program(tmp_path, "plain-wrk-usage.txt"), "--aefm-wrk")


def test_other_programs_are_refused(tmp_path: Path) -> None:
    """What is no generator, or cannot be run, is said so before anything is deployed."""
    with pytest.raises(ConfigurationError, match="neither aefm-wrk nor wrk2; expected aefm-wrk or wrk2"):
        open_driver(Path("/bin/echo"), "--aefm-wrk")
    with pytest.raises(ConfigurationError, match=r"cannot run .*No such file"):
        open_driver(tmp_path / "missing", "--aefm-wrk")


def test_the_engine_is_found_before_an_installed_wrk2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named comes first, then the bundled engine, then wrk2 on PATH; without any the engine is asked for."""
    path, beside = tmp_path / "path", tmp_path / "beside"
    beside.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    with pytest.raises(LoadError, match="load driver aefm-wrk: not found"):
        find_driver()
    installed = program(path, "giltene-usage.txt")
    assert Wrk2(installed, GILTENE, "4.0.0") == find_driver()
    (beside / "aefm-wrk").touch()
    assert AefmWrk(beside / "aefm-wrk") == find_driver()
    assert Wrk2(installed, GILTENE, "4.0.0") == find_driver(installed)


def test_command_line() -> None:
    """The experiment's connections, threads, rate and timeout become wrk2's options; its end leaves room to drain."""
    argv = Plan.of(SPEC, GILTENE).command_line(Path("/opt/wrk2"), Path("load.lua"), "http://127.0.0.1:5000")
    text = "/opt/wrk2 -t 2 -c 10 -R 40 -d 19s --timeout 2s --latency -s load.lua http://127.0.0.1:5000"
    assert text.split() == argv


@pytest.mark.parametrize(
    ("warmup_s", "duration_s", "dialect", "expected"),
    [
        (2, 4, GILTENE, (10.025, 19)),  # the calibration is the warm-up: 10 s, and 5 ms for each of 5 connections
        (2, 4, DEATHSTARBENCH, (10.005, 19)),
        (0, 4, GILTENE, (0, 8)),  # wrk2 ends before it calibrates
        (0, 30, GILTENE, (10.025, 45)),
        (10, 4, GILTENE, (10.025, 19)),
    ],
)
def test_the_calibration_is_the_warm_up(
    warmup_s: float, duration_s: float, dialect: Dialect, expected: tuple[float, int]
) -> None:
    """The window begins where wrk2's histogram does, and wrk2 ends by itself after window and timeout."""
    plan = Plan.of(LoadSpec("x", 40, duration_s, warmup_s, 2, 2, 10), dialect)
    assert expected == (round(plan.warmup_s, 6), plan.limit_s)


@pytest.mark.parametrize(
    ("spec", "dialect", "message"),
    [
        (LoadSpec("x", 0.5, 5), GILTENE, "rate 0.5; expected a whole number"),
        (LoadSpec("x", 40, 5, threads=4, connections=10), GILTENE, "would open 8; expected a multiple of 4"),
        (LoadSpec("x", 41, 5, threads=2, connections=10), DEATHSTARBENCH, "rate 41 on 2 threads"),
        (LoadSpec("x", 40, 5, distribution="exp", tags={"a": "/a"}), GILTENE, "distribution, tags: it does not know"),
        (
            LoadSpec("x", 40, 5, abort=(0.5, 5.0), max_connections=9),
            GILTENE,
            "max_connections, abort: it does not know",
        ),
        (LoadSpec("x", 40, 5, warmup_s=20), GILTENE, "warmup of 20 s.*expected at most 10.04 s"),
    ],
)
def test_what_wrk2_would_round_is_refused(spec: LoadSpec, dialect: Dialect, message: str) -> None:
    """No other load than the one asked for is sent silently."""
    with pytest.raises(ConfigurationError, match=f"load driver wrk2: .*{message}.*aefm-wrk"):
        Plan.of(spec, dialect)


def test_paths_are_quoted_for_lua() -> None:
    """Whatever is in a path stays in its Lua string."""
    text = dry_run(Path('/tmp/a "b"\\\n.lua'), "http://127.0.0.1:1")
    assert r'script = "/tmp/a \034b\034\092\010.lua"' in text


@pytest.mark.parametrize(("name", "dialect"), [("giltene-ok", GILTENE), ("deathstarbench-ok", DEATHSTARBENCH)])
def test_a_good_run(name: str, dialect: Dialect) -> None:
    """Every request that was due in the window is counted once; what wrk2 cannot tell is absent, with the reason."""
    load = recorded(name, dialect)
    assert (160, 160, 160, {"success": 160}) == (load.offered, load.sent, load.achieved, load.outcomes)
    assert (1.0, 0.0, 4.0) == (load.goodput, load.error_rate, round(load.window.duration_s, 6))
    assert 10 < load.latency["success"].percentile_us(50) / 1e3 < 12
    assert (None, None, None) == (load.pacer_lag, load.connections_reached, load.open_failures)
    silent = {check.name for check in load_checks(load) if "not judged" in check.message}
    assert {"pacer lag p99", "connections", "local open failures"} == silent


def test_latencies_of_mixed_answers_are_absent() -> None:
    """wrk2 has one histogram for all answers: where some failed it is that of no outcome, and decides nothing."""
    load = recorded("giltene-mix")
    assert ({"success": 152, "5xx": 8}, {"answered"}) == (load.outcomes, set(load.latency))
    (errors, p95) = judge_slos([parse("p95 < 1s"), parse("error_rate < 1%")], load.metrics(), 0.95, load.unknown)
    assert ("violated", "no_data") == (errors.verdict, p95.verdict)
    assert "one histogram for all answers (152 success, 8 5xx)" in p95.reason


@pytest.mark.parametrize(
    ("name", "dialect", "outcomes"),
    [
        ("giltene-hang", GILTENE, {"success": 76, "timeout": 10, "unsent": 74}),  # its connections wait
        ("deathstarbench-hang", DEATHSTARBENCH, {"success": 70, "timeout": 90}),  # it sends all the same
        ("giltene-slow", GILTENE, {"success": 0, "unsent": 160}),  # what was answered was due in the warm-up
    ],
)
def test_a_stall_that_lasts_to_the_end_is_seen(name: str, dialect: Dialect, outcomes: dict[str, int]) -> None:
    """Requests without an answer are counted, and are lower bounds of the percentiles."""
    load = recorded(name, dialect)
    assert outcomes == load.outcomes
    assert load.offered == sum(outcomes.values())
    (p95,) = judge_slos([parse("p95 < 1s")], load.metrics(), 0.95)
    assert "violated" == p95.verdict


def test_a_generator_that_slept_is_invalid() -> None:
    """Requests that were late while no connection was in use are wrk2's fault, where they are more than one in 100."""
    (lag,) = [check for check in load_checks(recorded("giltene-mix")) if check.name == "pacer lag p99"]
    assert (False, 8.0) == (lag.ok, round(lag.observed or 0))
    assert "requests left late although a connection was free" in lag.message


def test_overload_is_told() -> None:
    """A backlog that grows over the window is overload."""
    load = recorded("giltene-slow")
    assert (True, 160) == (load.overloaded, load.backlog_at_end)


def test_broken_connections() -> None:
    """A request that broke is a read error; after it DeathStarBench's latencies are those of other requests."""
    patient, pipelining = recorded("giltene-reset"), recorded("deathstarbench-reset", DEATHSTARBENCH)
    assert {"success": 159, "read_error": 11} == patient.outcomes  # all but the last were sent again
    assert {"success": 149, "read_error": 11} == pipelining.outcomes
    assert patient.observed_latency() is not None
    assert pipelining.observed_latency() is None
    assert "a connection broke" in pipelining.unknown["latency"]


def test_an_application_that_is_gone() -> None:
    """wrk2 counts attempts, and repeats each: how many requests failed so is not known, but goodput is."""
    load = recorded("deathstarbench-die", DEATHSTARBENCH)
    assert (160, None, {"success": 70, "unanswered": 90}) == (load.offered, load.attempted, load.outcomes)
    slos = [parse("goodput >= 99%"), parse("error_rate < 1%")]
    (goodput, errors) = judge_slos(slos, load.metrics(), 0.95, load.unknown)
    assert ("violated", "no_data") == (goodput.verdict, errors.verdict)
    assert "attempts to connect or to write failed" in errors.reason


def test_a_histogram_that_was_reset_late_is_absent() -> None:
    """Latencies that are not those of the window are not given as such."""
    load = recorded("giltene-ok", latency=[[10_000, 60]])
    assert load.observed_latency() is None
    assert "holds 60 answers" in load.unknown["latency"]


def test_a_run_that_ended_early_is_said_to_be_interrupted() -> None:
    """What a script or a signal cut short is no complete run."""
    whole = json.loads((DATA / "giltene-ok.json").read_text())
    early = min(thread["stop"] for thread in whole["threads"]) - 1
    assert recorded("giltene-ok", ended=early).interrupted
    with pytest.raises(LoadError, match="before its window"):
        recorded("giltene-ok", ended=early - 10)


def test_damaged_accounts_are_refused() -> None:
    """Accounts of another schema, incomplete, or with more answers than requests are no result."""
    for changes, message in (({"schema": 2}, "schema 2"), ({"errors": {}}, "unreadable")):
        with pytest.raises(LoadError, match=message):
            recorded("giltene-ok", **changes)
    threads = json.loads((DATA / "giltene-ok.json").read_text())["threads"]
    with pytest.raises(LoadError, match="one request of each call"):
        recorded("giltene-ok", threads=[thread | {"answered": thread["sent"] + 1} for thread in threads])
