"""What runs in pods of load, here as processes that meet on loopback: together they are one generator."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.load.aefm_wrk import read_result
from pytest_aefm.load.lines import Told, read_log
from pytest_aefm.load.parts import Part, divide
from pytest_aefm.model import LoadSpec, Window
from pytest_aefm.testbeds.kubernetes.load_clock import Clock
from pytest_aefm.testbeds.kubernetes.load_merge import PodResult, merge
from pytest_aefm.testbeds.kubernetes.load_pods import LoadPods

if TYPE_CHECKING:
    from tests.native.conftest import Server

LOAD = LoadSpec("x.lua", rate_rps=60, duration_s=2, warmup_s=1, connections=7, seed=1)
SCRIPT = "function request() return wrk.format('GET', '/' .. math.random(1000000)) end\n"

Agent = subprocess.Popen[str]


class Agents:
    """Starts agents as a Job would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Agent] = []

    def start(self, url: str, script: Path, parts: Sequence[Part], only: Sequence[int] | None = None) -> list[Agent]:
        """Start an agent for each part, or for some of them."""
        made = LoadPods("name", "space", "r1", "image", ("node",), parts, url, deadline_s=20)
        plan: dict[str, Any] = json.loads(made.config_map(b"", "127.0.0.1")["data"]["plan.json"])
        with socket.create_server(("127.0.0.1", 0)) as taken:
            plan["meeting"]["port"] = taken.getsockname()[1]
        path = self.folder / "plan.json"
        path.write_text(json.dumps({**plan, "script": str(script), "deadline_s": 20 if only is None else 1}))
        command = [sys.executable, "-P", "-m", "pytest_aefm.load.agent", "--plan", str(path)]
        for index in range(len(parts)) if only is None else only:
            environment = {**os.environ, "JOB_COMPLETION_INDEX": str(index)}
            self.running.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            )
        return self.running

    def told(self) -> list[tuple[int, Told]]:
        """Wait for the end of all; return the exit status and the log of each."""
        logs = [one.communicate(timeout=60)[0] for one in self.running]
        return [(one.returncode, read_log(log)) for one, log in zip(self.running, logs, strict=True)]


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    """Return what starts agents, and end those that are left."""
    made = Agents(tmp_path)
    yield made
    for one in made.running:
        one.kill()
        one.communicate(timeout=10)


def test_three_agents_are_one_generator(
    agents: Agents, serve: Callable[[], Server], script: Callable[[str], Path]
) -> None:
    """They start together, send as many requests as one would, each of its own, and the histogram holds all of them."""
    server, parts = serve(), divide(LOAD, 3)
    agents.start(server.url, script(SCRIPT), parts)
    told = agents.told()
    assert [0, 0, 0] == [status for status, _ in told]
    start = told[0][1].start
    assert start is not None
    pods = []
    for part, (_, one) in zip(parts, told, strict=True):
        assert one.result is not None
        peer = start["peers"].get(str(part.index), {"offset_ns": 0, "uncertainty_ns": 0})
        result = read_result(one.result)
        assert one.result["tcp"]["sent"] > 0
        pods.append(PodResult(part, "pod", "node", result, peer["offset_ns"], peer["uncertainty_ns"]))
    planned = Window(0.0, start["start_ns"] / 1e9 + 1, 2)
    whole = merge(pods, planned, start["start_ns"], Clock(0.0, 0.001), asked=3)

    assert (120, 7) == (whole.offered, whole.connections_reached)
    assert whole.sent == whole.successes == whole.latency["success"].count > 0
    assert 60 + whole.successes == server.seen  # with a second of warm-up
    values = [value for one in pods for value, count in one.result.latency["success"].buckets() for _ in range(count)]
    assert LatencyHistogram.of(values) == whole.latency["success"]
    assert len({line.split()[1] for line in server.lines}) > 0.8 * server.seen  # no two send what the other sends
    assert told[0][1].clocks == tuple(sorted(told[0][1].clocks))
    assert len(told[0][1].clocks) > 5


def test_error_of_a_script_is_told(agents: Agents, serve: Callable[[], Server], script: Callable[[str], Path]) -> None:
    """The generator's exit status and words reach the log, also of one that works alone."""
    path = script("function init() nothing.there() end\n")
    agents.start(serve().url, path, divide(LOAD, 1))
    ((status, told),) = agents.told()
    assert told.failed is not None
    assert 2 == status == told.failed["status"]
    assert f"{path.name}:1: " in told.failed["output"]


def test_absent_agent_is_named(agents: Agents, script: Callable[[str], Path]) -> None:
    """Where one does not come nobody sends, and each says why."""
    agents.start("http://127.0.0.1:9", script(SCRIPT), divide(LOAD, 3), only=(0, 2))
    (first, one), (third, other) = agents.told()
    assert 5 == first == third
    assert one.failed is not None
    assert other.failed is not None
    assert one.failed["output"].endswith("did not come within 1 s: 1")
    assert "no start from the first generator" in other.failed["output"]


def test_ended_agent_sends_nothing_more(
    agents: Agents, serve: Callable[[], Server], script: Callable[[str], Path]
) -> None:
    """SIGTERM, by which a Job ends its pods, ends agent and generator at once."""
    server = serve()
    agents.start(server.url, script(SCRIPT), divide(replace(LOAD, duration_s=60), 1))
    deadline = time.monotonic() + 20
    while server.seen < 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    agents.running[0].send_signal(signal.SIGTERM)
    assert 128 + signal.SIGTERM == agents.running[0].wait(10)
    seen = server.seen
    time.sleep(0.5)
    assert server.seen - seen <= LOAD.connections  # those that were on their way
