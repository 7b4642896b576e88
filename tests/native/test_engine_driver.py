"""The bundled generator as the plugin drives it: what a LoadSpec asks for, and what comes back of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_aefm.decision import check
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.requests_file import read_requests
from pytest_aefm.model import LoadResult, LoadSpec
from pytest_aefm.slo import parse
from pytest_aefm.supervisor import Supervisor
from tests.native.conftest import Server

SCRIPT = """
local n = 0
function request()
  n = n + 1
  return wrk.format("GET", n % 4 == 0 and "/slow" or "/fast")
end
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """What starts the generator."""
    with Supervisor(tmp_path / "supervisor.log") as made:
        yield made


def drive(load: LoadSpec, server: Server, supervisor: Supervisor, folder: Path) -> LoadResult:
    """Drive a server with this load."""
    script = folder / "mix.lua"
    script.write_text(SCRIPT)
    run = AefmWrk.find().start(load, script, server.url, supervisor=supervisor, cpus=(), artifacts=folder)
    return run.result(30.0)


def test_a_schedule_with_tags_and_limits(serve: Callable[[], Server], supervisor: Supervisor, tmp_path: Path) -> None:
    """Phases say how many requests there are, tags whose they were, limits how many independent ones they are worth."""
    load = LoadSpec(
        "mix.lua",
        rate_rps=40,
        duration_s=3.0,
        warmup_s=0.0,
        connections=16,
        schedule=((20.0, 20.0, 1.0), (20.0, 60.0, 2.0)),
        distribution="exp",
        tags={"slow": "/slow", "fast": "GET /fast*"},
        limits_ms=(250.0, 1000.0),
    )
    result = drive(load, serve(), supervisor, tmp_path)
    assert 60 <= result.offered <= 140  # 100 are expected, and their standard deviation is 10
    assert {"slow", "fast"} <= set(result.tags)
    assert result.offered == sum(tag.offered for tag in result.tags.values())
    assert abs(result.tags["slow"].offered - result.offered / 4) <= 1
    assert {250_000, 1_000_000} == set(result.n_eff)
    metrics = result.all_metrics()
    assert "passed" == check(parse("goodput{tag=slow} >= 1%"), metrics).verdict
    overall = check(parse("p50 < 250ms"), metrics)
    assert overall.n_eff == result.n_eff[250_000]
    assert check(parse("p50{tag=fast} < 1s"), metrics).n_eff == result.tags["fast"].n_eff[1_000_000]


def test_records_of_requests_are_kept(serve: Callable[[], Server], supervisor: Supervisor, tmp_path: Path) -> None:
    """The file lies among the artifacts, and has every request."""
    load = LoadSpec("mix.lua", rate_rps=50, duration_s=1.0, warmup_s=0.0, requests=True)
    result = drive(load, serve(), supervisor, tmp_path)
    requests = read_requests(tmp_path / "requests.bin")
    assert 50 == result.offered == len(requests.records)
    assert result.window.start_mono_s == requests.window.start_mono_s


def test_connections_are_opened_when_none_is_free(
    serve: Callable[..., Server], supervisor: Supervisor, tmp_path: Path
) -> None:
    """As many as requests overlap, and no more; the result says how many."""
    load = LoadSpec("mix.lua", 40, 2.0, warmup_s=0.0, connections=1, max_connections=60)
    result = drive(load, serve(lambda exchange: (exchange.wait(0.25), exchange.answer())), supervisor, tmp_path)
    assert {"success": 80} == result.outcomes
    assert result.connections_opened is not None
    assert 9 <= result.connections_opened <= 59
    assert result.connections_reached == 1 + result.connections_opened
    assert 1 == result.connections_asked
