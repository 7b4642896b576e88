"""The local testbed when something goes wrong: what is said, what is tried again, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_aefm.apps import App
from pytest_aefm.collectors.prometheus import PrometheusCollector
from pytest_aefm.errors import CollectorError, DeploymentError, InterferenceError
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Window
from pytest_aefm.supervisor import descendants
from pytest_aefm.testbeds import local, local_app, local_watch
from pytest_aefm.testbeds.local import LocalTestbed
from pytest_aefm.testbeds.local_counters import read_process
from pytest_aefm.testbeds.local_prometheus import find_prometheus
from pytest_aefm.testbeds.settling import Settling, limit_ms

TINY = """
app: tiny
description: Two services, for tests.
entry: front
smoke:
  - {path: /work, expect: EXPECT}
services:
  front:
    endpoints:
      - {path: /work, steps: [{call: {service: back, endpoint: /work}}]}
      - {path: /slow, steps: [{wait: {constant_ms: 20000}}]}
  back:
    endpoints:
      - {path: /work, steps: [{cpu_us: 500}]}
"""
APP = AppSpec("tiny")
CASE = Case("tiny", "tiny", "local", APP, (), LoadSpec("tiny.lua", 1, 1), {})


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The topology file of the only application that there is."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("EXPECT", "200"))
    monkeypatch.setattr(local, "find_app", lambda name: App(name, path, "tiny"))
    return path


@pytest.fixture
def testbed(topology: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTestbed]:
    """A testbed without an application yet."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    bed = LocalTestbed(tmp_path / "run", cache, ready_timeout_s=10)
    try:
        yield bed
    finally:
        assert bed.close() == ()


def programs(monkeypatch: pytest.MonkeyPatch, service: str, argv: list[str]) -> None:
    """Make a service run another program."""
    original = local_app.service_program

    def choose(program: Path, config: Path) -> list[str]:
        return argv if config.name == f"{service}.json" else original(program, config)

    monkeypatch.setattr(local_app, "service_program", choose)


def failure(call: Callable[[], object]) -> tuple[str, float]:
    """Return the message of the DeploymentError that a call raises, and its seconds."""
    start = time.monotonic()
    with pytest.raises(DeploymentError) as caught:
        call()
    return str(caught.value), time.monotonic() - start


def test_a_service_that_exits_is_named(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends while starting is named, with its exit status and the tail of its log."""
    programs(monkeypatch, "back", ["sh", "-c", "echo no database >&2; exit 3"])
    message, _ = failure(lambda: testbed.ensure_app(APP))
    assert message == "app 'tiny': service 'back' ended with exit status 3\nno database"


def test_a_service_that_is_never_ready_is_named(
    topology: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not get ready in time is named, with what was last seen of it and its log."""
    programs(monkeypatch, "back", ["sh", "-c", "echo starting; sleep 60"])
    bed = LocalTestbed(tmp_path / "run", tmp_path_factory.getbasetemp() / "cache", ready_timeout_s=3)
    try:
        message, _ = failure(lambda: bed.ensure_app(APP))
        assert "app 'tiny': not ready after 3 s: 1/2 services ready; service 'back': [Errno 111]" in message
        assert message.endswith("starting")
    finally:
        assert bed.close() == ()


def test_a_failed_smoke_request_is_told(testbed: LocalTestbed, topology: Path) -> None:
    """An application that is up and does not work did not come up; the request and its answer are named."""
    topology.write_text(TINY.replace("EXPECT", "201"))
    message, _ = failure(lambda: testbed.ensure_app(APP))
    assert message.startswith("app 'tiny': smoke request GET /work: status 200")


def test_a_failure_is_remembered(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same application fails at once the second time, naming the first failure."""
    programs(monkeypatch, "back", ["sh", "-c", "exit 3"])
    failure(lambda: testbed.ensure_app(APP))
    message, seconds = failure(lambda: testbed.ensure_app(APP))
    assert "failed before and is not tried again: service 'back' ended with exit status 3" in message
    assert seconds < 0.1


def test_nothing_is_left_of_a_failed_deployment(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one service fails the others are ended."""
    programs(monkeypatch, "back", ["sh", "-c", "exit 3"])
    failure(lambda: testbed.ensure_app(APP))
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(testbed.supervisor.pid)]
    assert not any("aefm-mesh" in command for command in commands)


def test_a_taken_port_is_no_failure(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another program has taken a port another one is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        original, wrong = local_app.free_ports, [taken.getsockname()[1]]
        monkeypatch.setattr(
            local,
            "free_ports",
            lambda count, known=(): [*wrong, *original(count)][:count] if wrong else original(count),
        )
        start = local_app.deploy

        def deploy(*arguments: object) -> object:
            try:
                return start(*arguments)  # type: ignore[arg-type]  # handed on
            finally:
                wrong.clear()

        monkeypatch.setattr(local, "deploy", deploy)
        assert testbed.ensure_app(APP).generation == 2


def test_interference_that_does_not_start_is_told(
    testbed: LocalTestbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stressor that ends at once is named with its log, and the same interference is not tried again."""
    testbed.ensure_app(APP)
    program = tmp_path / "bin" / "stress-ng"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'stress-ng, version 0.17.08';; *) echo no; exit 2;; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(InterferenceError, match=r"interference cpu-1: ended with exit status 2\nno"):
        testbed.ensure_interference((InterferenceSpec("cpu", 1),))
    with pytest.raises(InterferenceError, match="failed before and is not tried again"):
        testbed.ensure_interference((InterferenceSpec("cpu", 1),))
    assert testbed.mark().stressors == ()


def test_a_request_that_never_ends_brings_a_new_deployment(
    testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application that does not get quiet in time is deployed anew."""
    monkeypatch.setattr(testbed, "_settling", Settling(wait_s=0.5))
    deployment = testbed.ensure_app(APP)
    testbed.settle()

    def hang() -> None:
        with pytest.raises(OSError), urllib.request.urlopen(deployment.url + "/slow", timeout=30):
            pass

    def wait_for(requests: int) -> None:
        deadline = time.monotonic() + 10
        while requests != json.load(urllib.request.urlopen(deployment.url + "/-/inflight"))["in_flight"]:
            assert time.monotonic() < deadline

    wait_for(0)
    hanging = threading.Thread(target=hang)
    hanging.start()
    wait_for(1)
    testbed.settle()
    hanging.join(10)
    assert testbed.ensure_app(APP).generation == deployment.generation + 1


def test_an_application_that_stays_slow_is_told(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that is slow even after a new deployment is a failure with both figures, remembered."""
    settling = Settling(wait_s=0.2)
    monkeypatch.setattr(testbed, "_settling", settling)
    testbed.ensure_app(APP)
    testbed.settle()
    settling.baselines_ms = dict.fromkeys(settling.baselines_ms, -100.0)
    message, _ = failure(testbed.settle)
    assert "app 'tiny': not quiet: a probe takes" in message
    assert "deployed anew: a probe takes" in message
    assert failure(testbed.settle)[1] < 0.1


@pytest.mark.parametrize(("baseline_ms", "limit"), [(1.0, 6.0), (5.0, 10.0), (50.0, 100.0)])
def test_limit_of_a_probe(baseline_ms: float, limit: float) -> None:
    """A probe may take twice the environment's own median, and 5 ms more than it at least."""
    assert limit_ms(baseline_ms) == limit


def test_without_a_prometheus_the_testbed_works(testbed: LocalTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Prometheus its collector is left out, and the reason is in the description."""
    monkeypatch.setattr(local_watch, "find_prometheus", lambda: None)
    testbed.ensure_app(APP)
    assert [collector.name for collector in testbed.collectors(CASE)] == ["traces"]
    assert "no Prometheus on PATH" in testbed.describe()["prometheus_reason"]


def test_a_broken_prometheus_is_left_out(
    testbed: LocalTestbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Prometheus that ends while starting is left out with what it said."""
    program = tmp_path / "prometheus"
    program.write_text("#!/bin/sh\necho cannot run >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(local_watch, "find_prometheus", lambda: program)
    testbed.ensure_app(APP)
    assert [collector.name for collector in testbed.collectors(CASE)] == ["traces"]
    assert "cannot run" in testbed.describe()["prometheus_reason"]


@pytest.mark.skipif(find_prometheus() is None, reason="no Prometheus here")
def test_a_prometheus_that_dies_is_told(testbed: LocalTestbed) -> None:
    """A Prometheus that is killed later fails its collector with its address; the application is left alone."""
    first = testbed.ensure_app(APP)
    (collector,) = [found for found in testbed.collectors(CASE) if isinstance(found, PrometheusCollector)]
    processes = map(psutil.Process, descendants(testbed.supervisor.pid))
    (prometheus,) = [process for process in processes if process.name() == "prometheus"]
    prometheus.kill()
    prometheus.wait(10)
    with pytest.raises(CollectorError, match=f"^Prometheus: {collector.url}: "):
        collector.collect(Window(time.time() - 1, time.monotonic() - 1, 1))
    assert first.generation == testbed.ensure_app(APP).generation


def test_close_ends_everything_and_gives_the_cores_back(testbed: LocalTestbed) -> None:
    """After closing no process of the testbed is left, pytest has its cores, and closing again does nothing."""
    cores = os.sched_getaffinity(0)
    testbed.ensure_app(APP)
    testbed.ensure_interference((InterferenceSpec("cpu", 1),))
    running = descendants(testbed.supervisor.pid)
    assert len(running) > 4
    assert (testbed.close(), testbed.close()) == ((), ())
    assert [pid for pid in running if read_process(pid)] == []
    assert os.sched_getaffinity(0) == cores


def test_a_killed_supervisor_is_told(testbed: LocalTestbed) -> None:
    """Without its supervisor a testbed can deploy nothing more, says so, and can still be closed."""
    testbed.ensure_app(APP)
    running = [testbed.supervisor.pid, *descendants(testbed.supervisor.pid)]
    os.kill(testbed.supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(read_process(pid) for pid in running):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    message, _ = failure(lambda: testbed.ensure_app(APP))
    assert "supervisor" in message
    assert testbed.close() == ()


def test_a_closed_testbed_deploys_nothing(testbed: LocalTestbed) -> None:
    """A testbed that was closed says so."""
    testbed.close()
    message, _ = failure(lambda: testbed.ensure_app(APP))
    assert message == "local testbed: it is closed"
