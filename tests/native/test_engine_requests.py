"""One record of each request: as many as were counted, and the same latencies as in the histograms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aefm.errors import LoadError
from pytest_aefm.load.requests_file import Requests, read_requests
from tests.native.conftest import Exchange, Run

Make = Callable[..., Any]


def _mixed(exchange: Exchange) -> None:
    """Answer late, with an error, or never, as the request asks."""
    exchange.wait(exchange.number % 7 / 1000)
    if "/never" in exchange.line:
        exchange.wait(30)
    exchange.answer(503 if "/fails" in exchange.line else 200)


MIXED = """
local n = 0
local paths = {"/fails", "/fine", "/fine", "/never", "/fine", "/fine", "/fine", "/fine"}
function request()
  local path = paths[n % 8 + 1]
  n = n + 1
  if path ~= "/never" then wrk.tag(path == "/fails" and "bad" or "good") end
  return wrk.format("GET", path)
end
"""


@pytest.fixture
def mixed(serve: Make, wrk: Make, script: Make, tmp_path: Path) -> tuple[Run, Requests]:
    """Return a run of all kinds of requests, more of them than its connections can carry, and its records."""
    path = tmp_path / "requests.bin"
    load = ("-t2", "-c3", "-R80", "-d2s", "--warmup", "500ms", "--timeout", "200ms", "-s", script(MIXED))
    return wrk(*load, "--requests", path, serve(_mixed).url), read_requests(path)


def test_there_are_as_many_records_as_requests(mixed: tuple[Run, Requests]) -> None:
    """Of every outcome and of every tag, and none of the warm-up's."""
    (run, requests), report = mixed, mixed[0].report
    assert 160 == report["offered"] == len(requests.records)
    assert requests.complete
    counts = {name: len(requests.of(name)) for name in requests.outcomes}
    assert report["outcomes"] == {name: count for name, count in counts.items() if count}
    assert {"untagged", "bad", "good"} == set(requests.tags)
    tags = {name: len(requests.of(tag=name)) for name in requests.tags}
    assert {name: tag["offered"] for name, tag in report["tags"].items()} == tags
    assert 0 == run.stderr.count("--requests")


def test_percentiles_are_those_of_the_histograms(mixed: tuple[Run, Requests]) -> None:
    """Of each outcome, to the histograms' three digits and their microsecond."""
    run, requests = mixed
    for outcome, histogram in run.report["latency"].items():
        records = requests.of(outcome)
        latencies_us = np.sort((records["end_ns"] - records["intended_ns"]) / 1e3)
        for name, share in (("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99)):
            nearest_rank = latencies_us[max(0, int(np.ceil(share * len(latencies_us) - 1e-9)) - 1)]
            assert nearest_rank == pytest.approx(histogram[name], rel=1e-3, abs=1.0)


def test_records_follow_the_schedule(mixed: tuple[Run, Requests]) -> None:
    """They are in order of the times at which they were due, sent no earlier, and ended no earlier than sent."""
    run, requests = mixed
    records, window = requests.records, run.report["window"]
    due_ns = records["intended_ns"].astype(float)
    assert np.diff(due_ns) == pytest.approx(np.full(159, 1e9 / 80), abs=2)
    assert (window["duration_ns"] / 1e9, window["start_mono_ns"] / 1e9) == (
        requests.window.duration_s,
        requests.window.start_mono_s,
    )
    sent = records["sent_ns"] >= 0
    assert run.report["sent"] == int(sent.sum())
    assert (records["sent_ns"] >= records["intended_ns"])[sent].all()
    assert (records["end_ns"] >= records["sent_ns"]).all()
    waits_us = (records["sent_ns"] - records["intended_ns"])[sent & (records["waited"] == 1)] / 1e3
    assert run.report["backlog"]["count"] == len(waits_us)
    assert waits_us.max() == pytest.approx(run.report["backlog"]["max_us"], rel=1e-3, abs=1.0)


def test_what_cannot_be_written_is_known_before_the_load(wrk: Make, tmp_path: Path) -> None:
    """No server is needed for that."""
    run = wrk("-R1", "--requests", tmp_path / "none" / "file", "http://127.0.0.1:1", status=1)
    assert "aefm-wrk: --requests: cannot write" in run.stderr


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"[]\n", b"not JSON\n", b"\xff\n"])
def test_other_files_are_refused(tmp_path: Path, damage: bytes) -> None:
    """The message has the file."""
    path = tmp_path / "requests.bin"
    path.write_bytes(damage)
    with pytest.raises(LoadError, match=r"requests\.bin: unreadable"):
        read_requests(path)


def test_a_file_cut_short_is_refused(mixed: tuple[Run, Requests], tmp_path: Path) -> None:
    """Fewer records than the header says are no result."""
    path = tmp_path / "requests.bin"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LoadError, match="158 records of 28 bytes, the header says 160"):
        read_requests(path)
