"""Interference: from what is asked to what is run, and from two readings to a proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError, InterferenceError
from pytest_aefm.interference import (
    Host,
    Stressor,
    StressorReading,
    Traffic,
    WorkerReading,
    check,
    filling_s,
    find_iperf3,
    find_stress_ng,
    plan,
    prove,
    unfit,
)
from pytest_aefm.interference.kinds import bits_per_s
from pytest_aefm.model import Dose, InterferenceSpec

MIB, GIB = 2**20, 2**30
PROGRAM = Path("/usr/bin/stress-ng")
HOST = Host({"stress-ng": PROGRAM, "iperf3": Path("/usr/bin/iperf3")}, 15_001, 32 * MIB)


@pytest.mark.parametrize(
    ("cpu_size", "arguments", "workers", "worker_cores"),
    [
        (1, "--cpu 1 --cpu-method loop", 1, 1.0),
        (2, "--cpu 2 --cpu-method loop", 2, 1.0),
        (0.5, "--cpu 1 --cpu-method loop --cpu-load 50 --cpu-load-slice 50", 1, 0.5),
        (1.5, "--cpu 2 --cpu-method loop --cpu-load 75 --cpu-load-slice 50", 2, 0.75),
        (0.001, "--cpu 1 --cpu-method loop --cpu-load 1 --cpu-load-slice 50", 1, 0.01),
    ],
)
def test_cpu_is_workers_with_a_duty_cycle(cpu_size: float, arguments: str, workers: int, worker_cores: float) -> None:
    """``cpu_size`` rounded up is the number of workers; a share of a core is a load in slices of 50 ms."""
    (stressor,) = plan([InterferenceSpec("cpu", 1, cpu_size)], HOST, 60)
    assert stressor.argv == (str(PROGRAM), *arguments.split(), "--timeout", "60s")
    assert (stressor.workers, stressor.worker_cores) == (workers, worker_cores)


def test_one_program_per_count() -> None:
    """``count`` is the number of programs, each with a name of its own; zero is none."""
    stressors = plan([InterferenceSpec("cpu", 3), InterferenceSpec("cpu", 0, 2)], HOST, 60)
    assert [stressor.name for stressor in stressors] == ["cpu-1", "cpu-2", "cpu-3"]


def test_mem_capacity_fills_nine_tenths_and_holds() -> None:
    """A program of ``mem_capacity`` fills 0.9 x mem_size once and then sleeps; nothing respawns it."""
    first, second = plan([InterferenceSpec("mem_capacity", 2, mem_size=256 * MIB)], HOST, 60)
    size = 9 * 256 * MIB // 10
    arguments = f"--vm 1 --vm-bytes {size} --vm-keep --vm-populate --vm-hang 0 --vm-method zero-one --oomable"
    assert first.argv == (str(PROGRAM), *arguments.split(), "--timeout", "60s")
    assert (first.resident_bytes, first.worker_cores, first.name, second.name) == (
        size,
        0,
        "mem_capacity-1",
        "mem_capacity-2",
    )


@pytest.mark.parametrize(
    ("spec", "cache", "resident"),
    [
        (InterferenceSpec("mem_bandwidth", 1), "4M", 48 * MIB),
        (InterferenceSpec("mem_bandwidth", 1, mem_size=GIB, dram=True), f"{32 * MIB}b", 384 * MIB),
    ],
)
def test_mem_bandwidth_streams(spec: InterferenceSpec, cache: str, resident: int) -> None:
    """A program of ``mem_bandwidth`` streams on one core through 50 MB, or with ``dram`` past the last-level cache."""
    (stressor,) = plan([spec], HOST, 60)
    arguments = f"--stream 1 --stream-l3-size {cache} --oomable --timeout 60s"
    assert stressor.argv == (str(PROGRAM), *arguments.split())
    assert (stressor.resident_bytes, stressor.workers, stressor.worker_cores) == (resident, 1, 1.0)


def test_network_is_one_client_with_count_streams() -> None:
    """``count`` is the number of streams between one server and one client, each of ``throughput``, on loopback."""
    server, client = plan([InterferenceSpec("network", 3, throughput="0.2G")], HOST, 60)
    alone = "--server --bind 127.0.0.1 --port 15001 --interval 0"
    assert server.argv[1:] == tuple(alone.split())
    wanted = "--client 127.0.0.1 --port 15001 --interval 0 --time 60 --bitrate 200000000 --parallel 3 --length 131072"
    assert client.argv[1:] == tuple(wanted.split())
    assert (server.name, client.name) == ("network-server", "network-client")
    assert (client.bits_per_s, client.streams, server.streams) == (0.6e9, 3, 0)


@pytest.mark.parametrize(("throughput", "length"), [("1M", "1250"), ("50M", "62500"), ("10G", "131072"), ("1", "128")])
def test_slow_streams_send_small_blocks(throughput: str, length: str) -> None:
    """A stream sends a hundred blocks a second at least, so that a slow one is even over any window."""
    _, client = plan([InterferenceSpec("network", 1, throughput=throughput)], HOST, 60)
    assert client.argv[-2:] == ("--length", length)


@pytest.mark.parametrize(
    ("text", "number"), [("1500", 1500.0), ("64k", 64e3), ("100M", 100e6), ("1.5G", 1.5e9), ("1T", 1e12)]
)
def test_throughputs_are_powers_of_1000(text: str, number: float) -> None:
    """A throughput is read as iperf3 reads its own."""
    assert bits_per_s(text) == number


@pytest.mark.parametrize(
    ("specs", "cores", "seconds"),
    [
        ([], 1, 0.0),
        ([InterferenceSpec("cpu", 4)], 1, 0.0),
        ([InterferenceSpec("mem_capacity", 1, 1, 4 * GIB)], 1, 1.8),
        ([InterferenceSpec("mem_capacity", 1, 0.01, 4 * GIB)], 8, 180.0),
        ([InterferenceSpec("mem_capacity", 1, 2, 4 * GIB)], 8, 1.8),
        ([InterferenceSpec("mem_capacity", 4, 1, 4 * GIB)], 8, 1.8),
        ([InterferenceSpec("mem_capacity", 4, 1, 4 * GIB)], 1, 7.2),
        ([InterferenceSpec("mem_capacity", 0, 1, 4 * GIB)], 1, 0.0),
    ],
)
def test_filling_takes_what_two_gib_a_second_take(specs: list[InterferenceSpec], cores: int, seconds: float) -> None:
    """A dose is filled after 0.9 x mem_size / (cpu_size x 2 GiB/s), with one core each at most, and shared cores."""
    assert filling_s(specs, cores) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("spec", "room", "message"),
    [
        (InterferenceSpec("cpu", 9), 2 * GIB, ""),
        (InterferenceSpec("mem_capacity", 1, 1, 10 * GIB), 10 * GIB, ""),
        (
            InterferenceSpec("mem_capacity", 2, 1, 10 * GIB),
            10 * GIB,
            "the dose does not fit: 2 x 9.0 GiB of memory are asked for, and there is room for 9 GiB",
        ),
        (
            InterferenceSpec("mem_bandwidth", 3),
            GIB,
            "the dose does not fit: 3 x 0.047 GiB of memory are asked for, and there is room for 0 GiB",
        ),
    ],
)
def test_a_dose_leaves_one_gib(spec: InterferenceSpec, room: int, message: str) -> None:
    """A dose fits if one GiB of what is available stays free; otherwise both figures are told."""
    assert unfit([spec], room) == message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            InterferenceSpec("network", 1),
            "interference 'network': throughput is missing; expected bits per second of one stream, such as 100M",
        ),
        (
            InterferenceSpec("network", 129, throughput="1M"),
            "interference 'network': count 129; expected at most 128 streams, as iperf3 has it",
        ),
        (
            InterferenceSpec("mem_capacity", 1, mem_size=MIB),
            "interference 'mem_capacity': mem_size 1048576; expected at least 64Mi, for stress-ng itself takes some",
        ),
        (
            InterferenceSpec("mem_bandwidth", 1, mem_size=50 * MIB),
            "interference 'mem_bandwidth': mem_size 50Mi is too small; expected at least 64Mi: three arrays, "
            "and stress-ng itself",
        ),
        (
            InterferenceSpec("mem_bandwidth", 1, dram=True),
            "interference 'mem_bandwidth': mem_size 200Mi is too small; expected at least 400Mi: twelve times the "
            "last-level cache of 32 MiB, and stress-ng itself",
        ),
        (
            InterferenceSpec("mem_bandwidth", 1, 0.5),
            "interference 'mem_bandwidth': cpu_size 0.5 cannot be kept: nothing limits a stream on the local testbed; "
            "expected 1: it takes one core",
        ),
        (
            InterferenceSpec("mem_bandwith", 1),
            "interference 'mem_bandwith': unknown kind; expected one of cpu, mem_capacity, mem_bandwidth, network, "
            "fault, chaos; did you mean 'mem_bandwidth'?",
        ),
        (InterferenceSpec("cpu", -1), "interference 'cpu': count -1; expected 0 or more stressors"),
        (InterferenceSpec("cpu", 1, 0), "interference 'cpu': cpu_size 0; expected a positive number of cores"),
    ],
)
def test_what_cannot_be_run_is_refused(spec: InterferenceSpec, message: str) -> None:
    """Kinds that are unknown or not available, and impossible doses, are refused with what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        check(spec, 32 * MIB)
    assert str(caught.value) == message


def test_dram_needs_a_known_cache() -> None:
    """Where the machine does not tell the size of its last-level cache nothing can be sized by it."""
    with pytest.raises(ConfigurationError, match="does not tell the size of its last-level cache"):
        check(InterferenceSpec("mem_bandwidth", 1, mem_size=GIB, dram=True))


def fake(folder: Path, script: str, name: str = "stress-ng") -> str:
    """Put a program into a folder; return a PATH that holds it alone."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


def test_stress_ng_is_found(tmp_path: Path) -> None:
    """The program on PATH and its version are found."""
    found = find_stress_ng(fake(tmp_path, "echo 'stress-ng, version 0.17.08 (gcc 13.2.0, x86_64)'"))
    assert (found.program, found.version) == (tmp_path / "stress-ng", "0.17.08")


def test_iperf3_is_found(tmp_path: Path) -> None:
    """iperf3 and its version are found; one that is too old is refused."""
    found = find_iperf3(fake(tmp_path, "echo 'iperf 3.12 (cJSON 1.7.15)'", "iperf3"))
    assert (found.program, found.version) == (tmp_path / "iperf3", "3.12")
    with pytest.raises(InterferenceError, match=r"is version 3.1; expected iperf3 >= 3.7; .*apt-get install iperf3"):
        find_iperf3(fake(tmp_path, "echo 'iperf 3.1'", "iperf3"))


def test_missing_iperf3_names_the_line_that_installs_it(tmp_path: Path) -> None:
    """Without iperf3 the message says how to get it."""
    with pytest.raises(InterferenceError, match=r"iperf3: not found on PATH; .*apt-get install iperf3"):
        find_iperf3(str(tmp_path))


def test_missing_stress_ng_names_the_line_that_installs_it(tmp_path: Path) -> None:
    """Without stress-ng the message says how to get it."""
    with pytest.raises(InterferenceError, match=r"not found on PATH; .*>= 0.15; .*apt-get install stress-ng"):
        find_stress_ng(str(tmp_path))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'stress-ng, version 0.13.12 (gcc)'", "is version 0.13.12; expected stress-ng >= 0.15"),
        ("echo hello", "does not tell its version: 'hello"),
    ],
)
def test_unfit_stress_ng_is_refused(tmp_path: Path, script: str, message: str) -> None:
    """An old stress-ng, and what is none, are refused."""
    with pytest.raises(InterferenceError, match=message):
        find_stress_ng(fake(tmp_path, script))


(ONE,) = plan([InterferenceSpec("cpu", 1, 2)], HOST, 60)
BEFORE = StressorReading(
    ONE,
    10,
    True,
    100.0,
    {11: WorkerReading(11, 500, frozenset({1}), 1.0, 0.0), 12: WorkerReading(12, 501, frozenset({1}), 1.0, 0.0)},
)


def later(run_s: float = 2.5, wait_s: float = 2.5, **changes: object) -> StressorReading:
    """Return the reading 5 s after BEFORE, each worker having run and waited for so long in between."""
    workers = {
        pid: replace(worker, run_s=worker.run_s + run_s, wait_s=worker.wait_s + wait_s)
        for pid, worker in BEFORE.workers.items()
    }
    values: dict[str, object] = {"mono_s": 105.0, "workers": workers, **changes}
    return replace(BEFORE, **values)  # type: ignore[arg-type]  # fields by name


def proof(after: StressorReading, before: StressorReading = BEFORE) -> Dose:
    """Return the one dose that two readings prove."""
    (dose,) = prove([before], [after], {1})
    return dose


def test_waiting_for_a_core_is_delivered() -> None:
    """Two workers on one core run half of the time and wait the other half: the whole dose."""
    dose = proof(later())
    assert (dose.ok, dose.share, dose.count, dose.kind) == (True, 1.0, 1, "cpu")
    assert dose.details["asked_core_s"] == 10.0
    assert (dose.details["run_s"], dose.details["waiting_s"]) == (5.0, 5.0)


def test_a_load_share_is_the_dose_of_a_worker() -> None:
    """A worker that was asked for half a core has delivered all when it ran half of the time."""
    (half,) = plan([InterferenceSpec("cpu", 1, 0.5)], HOST, 60)
    worker = WorkerReading(11, 500, frozenset({1}), 0.0, 0.0)
    before = StressorReading(half, 10, True, 0.0, {11: worker})
    after = replace(before, mono_s=10.0, workers={11: replace(worker, run_s=5.0)})
    assert (proof(after, before).ok, proof(after, before).share) == (True, 1.0)


def test_too_little_is_no_dose() -> None:
    """Less than 90 % of the dose is not ok, and the message has the figure."""
    dose = proof(later(2.0, 2.0))
    assert (dose.ok, dose.share) == (False, 0.8)
    assert "80% of the dose was delivered, at least 90% is needed" in dose.message


def test_one_worker_does_not_make_up_for_another() -> None:
    """What a worker gave beyond its share does not count for one that stood still."""
    after = later()
    still = {**after.workers, 12: replace(BEFORE.workers[12])}
    dose = proof(replace(after, workers=still))
    assert (dose.ok, dose.share) == (False, 0.5)
    assert "worker pid 12 of cpu-1 gave 0% of its load" in dose.message


def without(after: StressorReading, pid: int) -> StressorReading:
    """Return a reading without one worker."""
    return replace(after, workers={key: value for key, value in after.workers.items() if key != pid})


def with_worker(after: StressorReading, pid: int, **changes: object) -> StressorReading:
    """Return a reading in which one worker is different, or there at all."""
    worker = replace(after.workers.get(pid, after.workers[12]), pid=pid, **changes)  # type: ignore[arg-type]
    return replace(after, workers={**after.workers, pid: worker})


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (BEFORE, without(later(), 12), "cpu: stressor pid 12 (cpu-1) ended in the window"),
        (BEFORE, with_worker(later(), 12, started=999), "cpu: stressor pid 12 (cpu-1) ended in the window"),
        (BEFORE, with_worker(later(), 13), "cpu: stressor pid 13 (cpu-1) began in the window"),
        (BEFORE, with_worker(later(), 12, cpus=frozenset({0, 1})), "pid 12 (cpu-1) could run on cpus 0,1, outside 1"),
        (BEFORE, later(alive=False, workers={}), "cpu: stressor cpu-1 (pid 10) ended in the window"),
        (replace(BEFORE, alive=False, workers={}), later(alive=False, workers={}), "had ended before the window"),
        (without(BEFORE, 12), without(later(), 12), "cpu-1 had 1 of 2 workers when the window began"),
    ],
    ids=[
        "worker ended",
        "pid used again",
        "worker began",
        "out of place",
        "stressor ended",
        "dead before",
        "one short",
    ],
)
def test_what_failed_is_named(before: StressorReading, after: StressorReading, message: str) -> None:
    """A worker that ended, began, moved or was replaced makes the dose absent, and the message names it."""
    dose = proof(after, before)
    assert not dose.ok
    assert message in dose.message


def test_a_stressor_that_was_not_read_again_is_absent() -> None:
    """A stressor without a second reading proves nothing."""
    (dose,) = prove([BEFORE], [], {1})
    assert (dose.ok, dose.share) == (False, 0.0)


def test_stressors_of_one_spec_are_one_dose() -> None:
    """The programs of a spec are proven together, those of another apart."""
    specs = [InterferenceSpec("cpu", 2), InterferenceSpec("cpu", 1, 0.5)]

    def read(stressor: Stressor, pid: int, seconds: float) -> StressorReading:
        worker = WorkerReading(pid + 1, pid, frozenset({1}), seconds * stressor.worker_cores, 0.0)
        return StressorReading(stressor, pid, True, seconds, {pid + 1: worker})

    stressors = plan(specs, HOST, 60)
    before = [read(stressor, 10 * index, 1.0) for index, stressor in enumerate(stressors)]
    after = [read(stressor, 10 * index, 6.0) for index, stressor in enumerate(stressors)]
    assert [(dose.count, dose.details["asked_core_s"], dose.ok) for dose in prove(before, after, {1})] == [
        (2, 10.0, True),
        (1, 2.5, True),
    ]


(HOLDER,) = plan([InterferenceSpec("mem_capacity", 1, mem_size=1000 * MIB)], HOST, 60)


def holding(mib: int, *, pid: int = 11, mono_s: float = 100.0, cores: int = 1) -> StressorReading:
    """Return a reading of the stressor of 900 MiB, whose worker holds so much."""
    idle = WorkerReading(10, 499, frozenset({1}), 0.0, 0.0, 2 * MIB, True)
    holder = WorkerReading(pid, 500, frozenset({cores}), 0.5, 0.0, mib * MIB, True)
    return StressorReading(HOLDER, 9, True, mono_s, {10: idle, pid: holder})


@pytest.mark.parametrize(
    ("before", "after", "ok", "share", "message"),
    [
        (902, 902, True, 1.0, "mem_capacity: 100% of the dose was delivered: 902 MiB resident"),
        (902, 820, True, 0.9111, "mem_capacity: 91% of the dose was delivered: 820 MiB resident"),
        (902, 800, False, 0.8889, "mem_capacity: mem_capacity-1 held 800 of 900 MiB when the window ended"),
        (300, 902, False, 0.3333, "mem_capacity: mem_capacity-1 held 300 of 900 MiB when the window began"),
    ],
)
def test_memory_is_proven_at_both_edges(before: int, after: int, ok: bool, share: float, message: str) -> None:
    """At least 90 % of what was asked for is resident when the window begins and when it ends; it need not run."""
    dose = proof(holding(after, mono_s=105.0), holding(before))
    assert (dose.ok, dose.share) == (ok, share)
    assert message in dose.message
    assert dose.details["held_bytes"] == min(before, after) * MIB


def test_another_holder_is_no_proof() -> None:
    """Memory that another process holds at the end was not held over the window."""
    dose = proof(holding(902, pid=12, mono_s=105.0), holding(902))
    assert not dose.ok
    assert "stressor pid 11 (mem_capacity-1) ended in the window" in dose.message
    assert "stressor pid 12 (mem_capacity-1) began in the window" in dose.message


(STREAM,) = plan([InterferenceSpec("mem_bandwidth", 1)], HOST, 60)


@pytest.mark.parametrize(
    ("run_s", "wait_s", "mib", "ok", "share"),
    [(3.0, 2.0, 50, True, 1.0), (3.0, 1.0, 50, False, 0.8), (5.0, 0.0, 20, False, 0.4167)],
)
def test_a_stream_runs_and_is_resident(run_s: float, wait_s: float, mib: int, ok: bool, share: float) -> None:
    """A stream is proven by the time in which it ran or waited, and by its memory: the worse of both is its share."""
    worker = WorkerReading(11, 500, frozenset({1}), 1.0, 0.0, mib * MIB)
    before = StressorReading(STREAM, 10, True, 100.0, {11: worker})
    ran = replace(worker, run_s=1.0 + run_s, wait_s=wait_s)
    dose = proof(replace(before, mono_s=105.0, workers={11: ran}), before)
    assert (dose.ok, dose.share) == (ok, share)
    assert dose.details["workers"] == [{"pid": 11, "run_s": run_s, "wait_s": wait_s, "rss_bytes": mib * MIB}]


def test_a_stream_has_no_rate_while_it_runs() -> None:
    """stress-ng tells a stream's rate at its end alone: until then it is absent, with the reason, and not zero."""
    worker = WorkerReading(11, 500, frozenset({1}), 1.0, 0.0, 50 * MIB)
    before = StressorReading(STREAM, 10, True, 100.0, {11: worker})
    details = proof(replace(before, mono_s=105.0), before).details
    assert details["rate_mb_per_s"] is None
    assert "only when it ends" in details["rate_reason"]


SERVER, CLIENT = plan([InterferenceSpec("network", 2, throughput="100M")], HOST, 60)


def client(
    acked: int, retransmits: int = 0, ports: tuple[int, ...] = (1, 2, 3), mono_s: float = 100.0
) -> StressorReading:
    """Return a reading of a client with these connections."""
    itself = {10: WorkerReading(10, 500, frozenset({1}), 0.0, 0.0)}
    return StressorReading(CLIENT, 10, True, mono_s, itself, Traffic(frozenset(ports), acked, retransmits))


def test_traffic_is_what_was_acknowledged() -> None:
    """Offered are throughput x count; what was acknowledged in the window counts, and it is called loopback traffic."""
    dose = proof(client(125_000_000, 7, mono_s=105.0), client(1_000_000, 4))
    assert (dose.ok, dose.share) == (True, 0.992)
    assert dose.message == ("network (loopback): 99% of the dose was delivered: 0.198 of 0.2 Gbit/s, 3 retransmits")
    assert dose.details == {
        "cpu_size": 1.0,
        "streams": 2,
        "offered_gbit_per_s": 0.2,
        "achieved_gbit_per_s": 0.1984,
        "retransmits": 3,
        "path": "loopback",
    }


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (client(0), client(100_000_000, mono_s=105.0), "80% of the dose was delivered, at least 90% is needed"),
        (client(0), client(125_000_000, 0, (1, 2, 4), 105.0), "connections of network-client ended or began"),
        (
            client(0, 0, (1, 2)),
            client(125_000_000, 0, (1, 2), 105.0),
            "network-client had 1 of 2 streams when the window began",
        ),
        (client(0), replace(client(0, mono_s=105.0), traffic=None), "the kernel does not tell of the connections"),
        (client(0), replace(client(0, mono_s=105.0), alive=False, workers={}), "(pid 10) ended in the window"),
    ],
    ids=["too little", "other connections", "a stream short", "unknown", "client ended"],
)
def test_traffic_that_failed_is_named(before: StressorReading, after: StressorReading, message: str) -> None:
    """Too little traffic, other connections or an ended client make the dose absent, and the message says which."""
    dose = proof(after, before)
    assert not dose.ok
    assert message in dose.message


def test_a_dead_server_is_named() -> None:
    """The server offers nothing itself, but without it the dose is absent."""
    worker = {20: WorkerReading(20, 500, frozenset({1}), 0.0, 0.0)}
    server = StressorReading(SERVER, 20, True, 100.0, worker)
    ended = replace(server, alive=False, workers={}, mono_s=105.0)
    (dose,) = prove([server, client(0)], [ended, client(125_000_000, mono_s=105.0)], {1})
    assert (dose.ok, dose.message) == (
        False,
        "network (loopback): stressor network-server (pid 20) ended in the window",
    )
