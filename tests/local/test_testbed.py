"""The local testbed with real processes: one application for all tests, disturbed, killed and deployed anew."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_aefm.collectors import Observations
from pytest_aefm.errors import ConfigurationError, InterferenceError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.model import AppSpec, Case, Dose, InterferenceSpec, LoadSpec, Window
from pytest_aefm.supervisor import descendants
from pytest_aefm.testbeds.local import LocalTestbed
from pytest_aefm.testbeds.local_counters import read_process
from pytest_aefm.testbeds.local_marks import Mark
from pytest_aefm.testbeds.local_prometheus import find_prometheus
from tests.noise import patience

HOTEL = AppSpec("hotel")
CASE = Case("hotel", "hotel", "local", HOTEL, (), LoadSpec("hotel/search.lua", 1, 1), {})
CPU = InterferenceSpec("cpu", 1)
SEARCH = "/hotels?inDate=2015-04-09&outDate=2015-04-10&lat=38.0235&lon=-122.095"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTestbed]:
    """A testbed with the hotel deployed."""
    folder = tmp_path_factory.mktemp("testbed")
    bed = LocalTestbed(folder / "run", folder / "cache")
    try:
        start = time.monotonic()
        bed.ensure_app(HOTEL)
        print(f"start-up {time.monotonic() - start:.2f} s")
        yield bed
    finally:
        assert bed.close() == ()


@pytest.fixture(autouse=True)
def quiet(testbed: LocalTestbed) -> None:
    """Every test begins with a healthy application and no interference."""
    testbed.ensure_app(HOTEL)
    testbed.ensure_interference(())


def pids(testbed: LocalTestbed) -> dict[str, int]:
    """Return the process of every service."""
    return {name: int(facts["pid"]) for name, facts in testbed.ensure_app(HOTEL).services.items()}


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for the condition, at most so long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def drive(testbed: LocalTestbed, count: int, rate_rps: float) -> tuple[Window, Mark, Mark, list[float]]:
    """Send ``count`` searches in an open loop; return the window, the marks at its edges and latencies in ms."""
    url = testbed.ensure_app(HOTEL).url + SEARCH
    latencies: list[float] = []
    window = Window(time.time(), time.monotonic(), count / rate_rps)
    before = testbed.mark()

    def send(due_mono_s: float) -> None:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
        latencies.append((time.monotonic() - due_mono_s) * 1e3)

    senders = []
    for number in range(count):
        due = window.start_mono_s + number / rate_rps
        time.sleep(max(0.0, due - time.monotonic()))
        senders.append(threading.Thread(target=send, args=(due,)))
        senders[-1].start()
    time.sleep(max(0.0, window.end_mono_s - time.monotonic()))
    after = testbed.mark()
    for sender in senders:
        sender.join()
    return window, before, after, latencies


def idle_window(testbed: LocalTestbed, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> Observations:
    """Return what is observed of a window in which only ``meanwhile`` happens."""
    window = Window(time.time(), time.monotonic(), seconds)
    before = testbed.mark()
    meanwhile()
    time.sleep(max(0.0, window.end_mono_s - time.monotonic()))
    return testbed.observe(before, testbed.mark(), window)


def proven_dose(testbed: LocalTestbed) -> Dose:
    """Return the dose of an idle window; one that the machine's pauses cut short is measured again."""
    for last in patience():
        (dose,) = idle_window(testbed, 2.0).doses
        print(dose)
        if last or dose.ok:
            break
    return dose


def workers(testbed: LocalTestbed) -> list[int]:
    """Return the pids of all workers that disturb."""
    return [pid for reading in testbed.mark().stressors for pid in reading.workers]


def case(**changes: object) -> Case:
    """Return a case of the hotel."""
    values: dict[str, object] = {
        "id": "case",
        "experiment": "test",
        "testbed": "local",
        "app": HOTEL,
        "interference": (),
        "load": LoadSpec("hotel/search.lua", 10, 1),
        "factors": {},
    }
    return Case(**{**values, **changes})  # type: ignore[arg-type]  # fields by name


def test_every_service_is_in_its_place(testbed: LocalTestbed) -> None:
    """Services run on their own cores at the priority that pytest had, all threads of them."""
    places = {
        (frozenset(os.sched_getaffinity(int(thread))), os.getpriority(os.PRIO_PROCESS, int(thread)))
        for pid in pids(testbed).values()
        for thread in os.listdir(f"/proc/{pid}/task")
    }
    assert places == {(testbed.cores.services, 0)}


@pytest.mark.skipif(find_prometheus() is None, reason="no Prometheus here")
def test_watchers_sit_beside_the_generator(testbed: LocalTestbed) -> None:
    """Receiver, Prometheus and pytest are on the generator's cores at nice 10."""
    services = set(pids(testbed).values())
    watchers = [pid for pid in descendants(testbed.supervisor.pid) if pid not in services]
    places = {
        (frozenset(os.sched_getaffinity(pid)), os.getpriority(os.PRIO_PROCESS, pid)) for pid in (*watchers, os.getpid())
    }
    assert len(watchers) == 2
    assert places == {(testbed.cores.generator, 10)}


def test_an_unchanged_application_costs_nothing(testbed: LocalTestbed) -> None:
    """Converging to what is there takes milliseconds and starts nothing."""
    before = pids(testbed)
    start = time.monotonic()
    deployment = testbed.ensure_app(HOTEL)
    assert time.monotonic() - start < 0.02
    assert {name: facts["pid"] for name, facts in deployment.services.items()} == before


def test_settling_is_quick_when_all_is_quiet(testbed: LocalTestbed) -> None:
    """Looking whether a quiet environment is as it was takes well under 150 ms."""
    testbed.settle()
    times = []
    for _ in range(5):
        start = time.monotonic()
        testbed.settle()
        times.append(time.monotonic() - start)
    print(f"settle {statistics.median(times) * 1e3:.0f} ms")
    assert statistics.median(times) < 0.15


def test_usage_of_each_service_is_observed(testbed: LocalTestbed) -> None:
    """The window's CPU, memory and restarts of each service are there, and no check fails for cores or clocks."""
    window, before, after, _ = drive(testbed, 40, 40)
    seen = testbed.observe(before, after, window)
    services = pids(testbed)
    assert all(0 <= float(seen.metrics[f"cpu({name})"]) < 1 for name in services)  # type: ignore[arg-type]  # numbers
    assert all(float(seen.metrics[f"memory({name})"]) > 2**20 for name in services)  # type: ignore[arg-type]
    assert float(seen.metrics["cpu(frontend)"]) > float(seen.metrics["cpu(user)"])  # type: ignore[arg-type]
    assert seen.metrics["restarts"] == 0
    assert [check.name for check in seen.checks][:1] == ["steal"]


def test_effect_is_the_delay_of_each_service(testbed: LocalTestbed) -> None:
    """How long each service waited for a core is recorded apart from the dose."""
    window, before, after, _ = drive(testbed, 20, 40)
    effect = testbed.observe(before, after, window).effect
    assert set(effect["run_delay_ms_per_s"]) == set(pids(testbed))


def test_marks_are_cheap(testbed: LocalTestbed) -> None:
    """Reading all counters takes some milliseconds."""
    times = []
    for _ in range(9):
        start = time.monotonic()
        testbed.mark()
        times.append(time.monotonic() - start)
    print(f"mark {statistics.median(times) * 1e3:.1f} ms")
    assert statistics.median(times) < 0.02


def test_traces_give_self_times(testbed: LocalTestbed) -> None:
    """Every request of the window is a trace, and each service on its way has self times."""
    traces = next(item for item in testbed.collectors(CASE) if item.name == "traces")
    window, _, _, latencies = drive(testbed, 200, 50)
    start = time.monotonic()
    seen = traces.collect(window)
    print(f"collect {time.monotonic() - start:.3f} s")
    assert (seen.details["traces"], len(latencies)) == (200, 200)
    assert (seen.details["orphans"], seen.details["dropped_since_start"], seen.details["not_flushed"]) == (0, {}, {})
    geo = seen.metrics["self_time(geo)"]
    assert isinstance(geo, LatencyHistogram)
    assert (geo.count, 500 < geo.percentile_us(50) < 50_000) == (200, True)  # 2 ms of work, on whatever machine


def test_traces_of_another_window_stay_out(testbed: LocalTestbed) -> None:
    """A collection holds the traces that began in its window and no others."""
    traces = next(item for item in testbed.collectors(CASE) if item.name == "traces")
    drive(testbed, 20, 100)
    window, *_ = drive(testbed, 10, 100)
    assert traces.collect(window).details["traces"] == 10


def test_interference_is_delivered_and_proven(testbed: LocalTestbed) -> None:
    """One core of cpu interference is running on the services' cores, and proven to be over the window."""
    testbed.ensure_interference((CPU,))
    assert {frozenset(os.sched_getaffinity(pid)) for pid in workers(testbed)} == {testbed.cores.services}
    dose = proven_dose(testbed)
    assert (dose.ok, dose.kind, dose.count) == (True, "cpu", 1)


def test_more_interference_than_cores_is_proven_by_waiting(testbed: LocalTestbed) -> None:
    """Stressors that share a core deliver their dose by waiting for it."""
    testbed.ensure_interference((InterferenceSpec("cpu", 2, 1.5),))
    dose = proven_dose(testbed)
    assert (dose.ok, dose.details["asked_core_s"]) == (True, pytest.approx(6.0, abs=0.1))


def test_a_share_of_a_core_is_delivered(testbed: LocalTestbed) -> None:
    """Half a core of interference is a dose of half a core."""
    testbed.ensure_interference((InterferenceSpec("cpu", 1, 0.5),))
    dose = proven_dose(testbed)
    assert (dose.ok, dose.details["asked_core_s"]) == (True, pytest.approx(1.0, abs=0.1))


def test_unchanged_interference_stays(testbed: LocalTestbed) -> None:
    """Converging to the interference that is there keeps its processes; a higher count adds to them."""
    testbed.ensure_interference((CPU,))
    before = workers(testbed)
    testbed.ensure_interference((CPU,))
    assert workers(testbed) == before


def test_interference_is_gone_after(testbed: LocalTestbed) -> None:
    """When a case wants none no stressor is left, and no dose is claimed."""
    testbed.ensure_interference((CPU,))
    before = workers(testbed)
    testbed.ensure_interference(())
    assert [read_process(pid) for pid in before] == [None]
    assert testbed.mark().stressors == ()


def test_interference_is_felt(testbed: LocalTestbed) -> None:
    """The demo's interference, two stressors on the one core, raises the median latency of searches by 1.3 x and more.

    One alone is felt, too, but by how much is the scheduler's choice: services sleep, and sleepers are let in first.
    What others do to the machine makes quiet searches slow: then it is measured again.
    """
    drive(testbed, 40, 40)
    for last in patience():
        testbed.ensure_interference(())
        quiet_ms = statistics.median(drive(testbed, 120, 40)[3])
        testbed.ensure_interference((InterferenceSpec("cpu", 2),))
        disturbed_ms = statistics.median(drive(testbed, 120, 40)[3])
        print(f"p50 {quiet_ms:.1f} ms, with interference {disturbed_ms:.1f} ms: {disturbed_ms / quiet_ms:.2f} x")
        if last or disturbed_ms > 1.3 * quiet_ms:
            break
    assert disturbed_ms > 1.3 * quiet_ms


def test_a_neighbour_that_nobody_asked_for_is_told(testbed: LocalTestbed) -> None:
    """What others take of the services' cores is a self-check that fails; interference of ours is none."""
    testbed.ensure_interference((CPU,))
    asked = {check.name: check for check in idle_window(testbed, 2.0).checks}
    testbed.ensure_interference(())
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            os.sched_setaffinity(neighbour.pid, testbed.cores.services)
            unasked = {check.name: check for check in idle_window(testbed, 2.0).checks}
        finally:
            neighbour.kill()
    assert asked["foreign load"].ok, asked["foreign load"].message
    assert not unasked["foreign load"].ok
    assert not unasked["foreign load"].warning
    assert f"pid {neighbour.pid}" in unasked["foreign load"].message


def test_a_killed_stressor_is_named(testbed: LocalTestbed) -> None:
    """A worker that is killed in the window makes the dose absent, and its pid is in the message."""
    testbed.ensure_interference((CPU,))
    (victim,) = workers(testbed)
    (dose,) = idle_window(testbed, 0.5, lambda: os.kill(victim, signal.SIGKILL)).doses
    assert not dose.ok
    assert f"stressor pid {victim} (cpu-1) ended in the window" in dose.message


def test_a_broken_stressor_is_replaced(testbed: LocalTestbed) -> None:
    """The next case gets a sound stressor in place of one that lost its worker."""
    testbed.ensure_interference((CPU,))
    (victim,) = workers(testbed)
    os.kill(victim, signal.SIGKILL)
    until(lambda: read_process(victim) is None)
    testbed.ensure_interference((CPU,))
    assert len(workers(testbed)) == 1
    assert victim not in workers(testbed)


def test_a_killed_service_is_a_restart(testbed: LocalTestbed) -> None:
    """A service that is killed in the window counts one restart, and is named with how it ended."""
    victim = pids(testbed)["geo"]

    def kill() -> None:
        os.kill(victim, signal.SIGKILL)
        until(lambda: read_process(victim) is None)

    seen = idle_window(testbed, 0.2, kill)
    assert (seen.metrics["restarts"], seen.metrics["restarts(geo)"], seen.metrics["restarts(rate)"]) == (1, 1, 0)
    assert "signal 9" in seen.details["services"]["geo"]["end"]
    assert "cpu(geo)" not in seen.metrics


def test_a_dead_service_brings_a_new_deployment(testbed: LocalTestbed) -> None:
    """After a service has ended all are deployed anew, on the same ports, and the generation counts up."""
    old = testbed.ensure_app(HOTEL)
    before = pids(testbed)
    os.kill(before["geo"], signal.SIGKILL)
    until(lambda: read_process(before["geo"]) is None)
    until(lambda: testbed.ensure_app(HOTEL).generation == old.generation + 1, timeout_s=30)
    after = pids(testbed)
    assert not set(before.values()) & set(after.values())
    assert [read_process(pid) for pid in before.values()] == [None] * len(before)
    assert testbed.ensure_app(HOTEL).url == old.url
    testbed.settle()


def slow(service: str) -> InterferenceSpec:
    """Return a fault that delays a service by 5 ms."""
    return InterferenceSpec("fault", 1, service=service, delay_ms=5.0)


def test_a_fault_is_delivered_and_proven(testbed: LocalTestbed) -> None:
    """While the rates are slow so are searches, and the service's own counts prove it; then all is as before."""
    testbed.ensure_interference((slow("rate"),))
    before = testbed.mark()
    urllib.request.urlopen(testbed.ensure_app(HOTEL).url + SEARCH, timeout=10).close()
    after = testbed.mark()
    (dose,) = testbed.observe(before, after, Window(before.wall_s, before.mono_s, 1.0)).doses
    assert (True, 1, 1) == (dose.ok, dose.details["requests"], dose.details["disturbed"])
    testbed.ensure_interference(())
    assert () == testbed.mark().faults


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"app": AppSpec("hotle")}, ConfigurationError, "did you mean 'hotel'"),
        ({"app": AppSpec("hotel", replicas={"geoo": 2})}, ConfigurationError, "replicas.geoo: unknown service"),
        ({"app": AppSpec("hotel", replicas={"frontend": 2})}, ConfigurationError, "the entry has one replica"),
        ({"interference": (slow("raet"),)}, ConfigurationError, "unknown service 'raet'"),
        ({"interference": (InterferenceSpec("network", 1),)}, ConfigurationError, "throughput is missing"),
        ({"interference": (InterferenceSpec("cpuu", 1),)}, ConfigurationError, "did you mean 'cpu'"),
    ],
)
def test_what_cannot_run_is_refused(
    testbed: LocalTestbed, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    """A case that this testbed cannot run is refused before anything is deployed."""
    with pytest.raises(error, match=message):
        testbed.check(case(**changes))


def test_missing_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case with interference is refused without the program that makes it, one without is not."""
    monkeypatch.setenv("PATH", str(tmp_path))
    fresh = LocalTestbed(tmp_path / "run", tmp_path / "cache")
    fresh.check(case())
    with pytest.raises(InterferenceError, match="apt-get install stress-ng"):
        fresh.check(case(interference=(CPU,)))
    with pytest.raises(InterferenceError, match="apt-get install iperf3"):
        fresh.check(case(interference=(InterferenceSpec("network", 1, throughput="1M"),)))
