"""A load divided among pods is the load that was asked for, and its results are merged whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.errors import ConfigurationError, LoadError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.judgement import load_checks
from pytest_aefm.load.lines import clock_line, failed_line, read_log, result_lines, start_line
from pytest_aefm.load.parts import Part, divide
from pytest_aefm.model import Account, CheckResult, LoadResult, LoadSpec, Window
from pytest_aefm.testbeds.kubernetes.load_clock import Clock, Look, compare
from pytest_aefm.testbeds.kubernetes.load_merge import PodResult, merge
from pytest_aefm.testbeds.kubernetes.load_pods import LoadPods
from pytest_aefm.testbeds.kubernetes.loading import ClusterLoad, InsideDriver

LOAD = LoadSpec("search.lua", rate_rps=100, duration_s=10, warmup_s=2, connections=8, threads=2, seed=7)


def due(load: LoadSpec, shift_s: float = 0.0) -> list[float]:
    """Return when an engine sends the requests of its window, from the common start."""
    count = int(load.rate_rps * (load.warmup_s + load.duration_s)) + 2
    times = [slot / load.rate_rps for slot in range(count)]
    inside = (time for time in times if load.warmup_s <= time < load.warmup_s + load.duration_s)
    return [shift_s + time for time in inside]


@pytest.mark.parametrize("warmup_s", [0.0, 0.01, 2.0])
@pytest.mark.parametrize("rate_rps", [1.0, 30.0, 100.0, 333.0, 20_000.0])
@pytest.mark.parametrize("pods", [1, 2, 3, 7])
def test_parts_together_send_what_one_would(pods: int, rate_rps: float, warmup_s: float) -> None:
    """The requests of all windows are as many as one generator's, due at the same times, interleaved."""
    load = replace(LOAD, rate_rps=rate_rps, warmup_s=warmup_s, duration_s=3.0)
    whole = due(load)
    parts = sorted(time for part in divide(load, pods) for time in due(part.load, part.shift_s))
    assert len(whole) == len(parts)
    assert all(abs(one - other) < 2e-6 for one, other in zip(whole, parts, strict=True))


@given(
    rate_rps=st.floats(0.5, 1e5),
    connections=st.integers(1, 500),
    threads=st.integers(1, 16),
    pods=st.integers(1, 40),
    seed=st.integers(0, 2**53),
)
def test_parts_add_up(rate_rps: float, connections: int, threads: int, pods: int, seed: int) -> None:
    """Rates and connections add up, none has more threads than connections, windows end together, seeds differ."""
    threads = min(threads, connections)
    load = replace(LOAD, rate_rps=rate_rps, connections=connections, threads=threads, seed=seed)
    parts = divide(load, pods)
    assert 1 <= len(parts) <= min(pods, connections)
    assert pytest.approx(rate_rps, rel=1e-12) == sum(part.load.rate_rps for part in parts)
    assert connections == sum(part.load.connections for part in parts)
    assert all(1 <= part.load.threads <= part.load.connections for part in parts)
    assert len(parts) == len({part.load.seed for part in parts})
    ends = [part.window_after_s + part.load.duration_s for part in parts]
    assert max(ends) - min(ends) < 1e-5


def test_one_generator_has_the_load_itself() -> None:
    """Where there is one pod nothing is changed, and no more pods take part than have something to do."""
    assert (Part(0, 0.0, LOAD),) == divide(LOAD, 1)
    assert 2 == len(divide(replace(LOAD, connections=2, threads=1), 5))
    assert 1 == len(divide(replace(LOAD, rate_rps=0.1), 5))


def test_log_is_read_whole() -> None:
    """A start, the clock and a result come out as they went in, among whatever else is written."""
    document = {"hdr": "x" * 20_000, "noise": [str(number**5) for number in range(3000)]}
    chunks = list(result_lines(document))
    assert len(chunks) > 3
    peers = {1: {"offset_ns": -5, "uncertainty_ns": 2}}
    log = "\n".join([start_line(50, peers), clock_line(45), "hello from Lua", *chunks]) + "\n"
    told = read_log(log)
    assert document == told.result
    assert {"start_ns": 50, "peers": {"1": peers[1]}} == told.start
    assert ((45,), ("hello from Lua",), None) == (told.clocks, told.others, told.damage)


def test_log_that_is_not_whole_is_no_result() -> None:
    """A result that is still being written is none yet; one that lost a line or a letter is damaged."""
    log = "\n".join(result_lines({"text": [str(number**5) for number in range(3000)]})) + "\n"
    assert (None, None) == (read_log(log[:-2]).result, read_log(log[:-2]).damage)
    lines = log.splitlines()
    cut = read_log("\n".join(lines[1:]) + "\n")
    assert (None, f"1 of {len(lines) - 1} parts of the result are missing") == (cut.result, cut.damage)
    wrong = read_log(log.replace(lines[0][-9:], lines[0][-9:].swapcase()))
    assert wrong.result is None
    assert wrong.damage is not None


def test_failure_is_told() -> None:
    """A pod that fails says with which status, and what its generator said."""
    told = read_log(failed_line(2, "/etc/aefm/script.lua:3: attempt to call nil") + "\n")
    assert {"status": 2, "output": "/etc/aefm/script.lua:3: attempt to call nil"} == told.failed


def test_clock_is_bounded_by_what_the_log_held() -> None:
    """The truth lies within the uncertainty, which is half the shortest reading and half a tick at most."""
    truth_s, tick_ns = 1000.0, 10_000_000
    ticks = [1_000_000_000 + number * tick_ns for number in range(100)]

    def look(read_s: float, before_s: float, after_s: float) -> Look:
        last = max(tick for tick in ticks if tick / 1e9 + truth_s <= read_s)
        return Look(read_s - before_s, read_s + after_s, last)

    looks = [look(1001.2034, 0.004, 0.030), look(1001.4012, 0.020, 0.002), look(1001.6077, 0.015, 0.015)]
    clock = compare(looks, ticks)
    assert abs(truth_s - clock.offset_s) <= clock.uncertainty_s <= 0.012
    assert pytest.approx(1002.5, abs=0.012) == clock.ours_s(2_500_000_000 - 1_000_000_000 + 1_000_000_000 - 1)


def test_clock_that_was_read_too_late_is_not_known() -> None:
    """Where the log had said its last when it was read, only one bound is there."""
    assert compare([Look(5.0, 5.1, 3_000_000_000)], [3_000_000_000]).uncertainty_s == float("inf")
    with pytest.raises(ValueError, match="no readings"):
        compare([], [])


def result(**more: Any) -> LoadResult:
    """Return what a generator measured."""
    values = {"outcomes": {"success": 100}, "latency": {"success": LatencyHistogram.of([1000.0] * 100)}, **more}
    plain: Mapping[str, Any] = {
        "driver": "aefm-wrk",
        "version": "0.3.0",
        "window": Window(0.0, 102.0, 10.0),
        "drain_s": 0.1,
        "offered": 100,
        "sent": 100,
        "attempted": 100,
        "achieved": 100,
        "pacer_lag": LatencyHistogram.of([10.0] * 100),
        "backlog": LatencyHistogram(),
        "backlog_quarters": (0.0, 0.5, 1.0, 1.5),
        "backlog_at_end": 1,
        "connections_asked": 4,
        "connections_reached": 4,
        "open_failures": 0,
        "threads_cpu": (0.1,),
        "clock_step_s": 0.0,
    }
    return LoadResult(**{**plain, **values})


def merged(*results: LoadResult, offsets_ns: tuple[int, ...] = (), uncertainty_s: float = 0.002) -> LoadResult:
    """Merge results of pods whose common start was at 100 s on the first one's clock, 1100 s on ours."""
    offsets = offsets_ns or (0,) * len(results)
    parts = [Part(index, 0.0, replace(LOAD, rate_rps=50)) for index in range(len(results))]
    pods = [
        PodResult(part, f"pod-{part.index}", "worker-2", one, offset, 1000)
        for part, one, offset in zip(parts, results, offsets, strict=True)
    ]
    clock = Clock(1000.0, uncertainty_s)
    return merge(pods, Window(5000.0, 1102.0, 10.0), 100_000_000_000, clock, asked=len(pods))


def test_merged_histogram_is_that_of_all_requests() -> None:
    """Latencies of each outcome are those of all pods, counts are sums, windows are on our clock."""
    first = result(latency={"success": LatencyHistogram.of([1000.0] * 60), "5xx": LatencyHistogram.of([9.0] * 40)})
    second = result(latency={"success": LatencyHistogram.of([3000.0] * 80), "timeout": LatencyHistogram.of([2e6] * 20)})
    first = replace(first, outcomes={"success": 60, "5xx": 40})
    second = replace(second, outcomes={"success": 80, "timeout": 20})
    both = merged(first, second)
    assert LatencyHistogram.of([1000.0] * 60 + [3000.0] * 80) == both.latency["success"]
    assert {"success": 140, "5xx": 40, "timeout": 20} == both.outcomes
    assert (200, 200, 200, 200) == (both.offered, both.sent, both.attempted, both.achieved)
    assert (8, 8, 2, (0.0, 1.0, 2.0, 3.0)) == (
        both.connections_asked,
        both.connections_reached,
        both.backlog_at_end,
        both.backlog_quarters,
    )
    assert Window(5000.0, 1102.0, 10.0) == both.window
    assert ["worker-2", "worker-2"] == [pod["node"] for pod in both.details["pods"]]
    assert all(check.ok for check in load_checks(both))


def test_what_each_pod_found_correlated_counts_for_all() -> None:
    """Pods that found their requests worth all of them leave all; the worst one's correlation lasts p times as long."""
    latency = {"success": LatencyHistogram.of([1000.0] * 100)}
    alone = result(latency=latency, outcomes={"success": 100}, n_eff={2000: 100.0})
    assert 200 == merged(alone, alone).n_eff[2000]
    half = result(latency=latency, outcomes={"success": 100}, n_eff={2000: 50.0})
    assert 200 / 3 == pytest.approx(merged(alone, half).n_eff[2000])


def test_tags_and_own_checks_of_pods_are_merged() -> None:
    """A tag's requests are those of all pods; a warning of one pod is one of the load."""
    search = Account(
        offered=5,
        sent=5,
        attempted=5,
        achieved=5,
        outcomes={"success": 5},
        latency={"success": LatencyHistogram.of([9.0])},
    )
    odd = CheckResult("trend", False, 0.5, 0.33, "delta", "requests became slower", warning=True)
    both = merged(result(tags={"search": search}, checks=(odd,)), result(tags={"search": search, "login": search}))
    assert {"search": 10, "login": 5} == {name: tag.offered for name, tag in both.tags.items()}
    assert 2 == both.tags["search"].latency["success"].count
    assert odd in both.checks


@pytest.mark.parametrize("change", [{"schedule": ((50.0, 100.0, 10.0),)}, {"distribution": "zipf"}])
def test_loads_that_do_not_add_up_are_refused(change: dict[str, Any]) -> None:
    """Parts of a schedule, or of gaps that are no Poisson process, would be another load."""
    with pytest.raises(ConfigurationError, match=r"load from 3 pods: .*cannot be divided"):
        divide(replace(LOAD, **change), 3)
    assert 1 == len(divide(replace(LOAD, **change), 1))


def test_pods_that_would_end_for_themselves_are_refused() -> None:
    """One pod may end its window early; that of the merged result is as long as it was."""
    load = replace(LOAD, precision=(99.0, 0.05))
    with pytest.raises(ConfigurationError, match="load from 2 pods: each pod would end for itself"):
        divide(load, 2)
    assert 1 == len(divide(load, 1))
    alone = merged(result(window=Window(0.0, 102.0, 4.0), ended_by="precision", precision={"percentile": 99.0}))
    assert (4.0, "precision", {"percentile": 99.0}) == (alone.window.duration_s, alone.ended_by, alone.precision)


def test_what_stays_in_pods_is_refused() -> None:
    """Records of requests would be gone with the pod that wrote them."""
    with pytest.raises(ConfigurationError, match="load from pods: records of requests stay in the pods"):
        divide(replace(LOAD, requests=True), 1)


def failed_checks(load: LoadResult) -> set[str]:
    """Return the self-checks that make a trial invalid."""
    return {check.name for check in load_checks(load) if not check.ok}


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"pacer_lag": LatencyHistogram.of([10.0] * 90 + [20_000.0] * 10)}, "pacer lag p99"),
        ({"threads_cpu": (0.1, 0.97)}, "generator cpu"),
        ({"connections_reached": 3}, "connections"),
        ({"open_failures": 1}, "local open failures"),
        ({"clock_step_s": -0.5}, "clock step"),
        ({"interrupted": True}, "load complete"),
        ({"window": Window(0.0, 102.07, 10.0)}, "load start skew"),
    ],
)
def test_one_bad_pod_among_many_is_found(bad: dict[str, Any], name: str) -> None:
    """A self-check is that of the worst pod, however many were good."""
    good = [result() for _ in range(19)]
    assert set() == failed_checks(merged(*good, result()))
    assert {name} == failed_checks(merged(*good, result(**bad)))


def test_clocks_of_pods_may_differ() -> None:
    """A start is late by the first pod's clock, not by its node's; a clock that is not known is no measurement."""
    ahead = result(window=Window(0.0, 102.0 + 77.0, 10.0))
    assert set() == failed_checks(merged(result(), ahead, offsets_ns=(0, 77_000_000_000)))
    assert {"load start skew"} == failed_checks(merged(result(), ahead, offsets_ns=(0, 77_100_000_000)))
    assert {"load clock"} == failed_checks(merged(result(), uncertainty_s=0.2))
    assert {"load clock"} == failed_checks(merged(result(), uncertainty_s=float("inf")))


def test_late_window_is_told_as_it_was() -> None:
    """The window of the result is where the pods were, not where they should have been."""
    late = replace(result(), window=Window(0.0, 102.03, 10.0))
    assert pytest.approx(1102.03) == merged(late, late).window.start_mono_s
    assert pytest.approx(5000.03) == merged(late, late).window.start_wall_s


def pods(count: int = 3) -> LoadPods:
    """Return the objects of a load."""
    return LoadPods("aefm-load-r1-1", "shop", "r1", "aefm-load:1", ("worker-2",), divide(LOAD, count), "http://x", 60)


def test_job_is_one_that_ends_by_itself() -> None:
    """One pod for each part, never tried again, with a deadline, on nodes of load and never beside what is tested."""
    spec = pods().job()["spec"]
    assert ("Indexed", 3, 3, 0) == (
        spec["completionMode"],
        spec["completions"],
        spec["parallelism"],
        spec["backoffLimit"],
    )
    assert 0 < spec["activeDeadlineSeconds"] <= 60
    pod = spec["template"]["spec"]
    assert ("Never", False) == (pod["restartPolicy"], pod["automountServiceAccountToken"])
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    (term,) = pod["affinity"]["nodeAffinity"][key]["nodeSelectorTerms"]
    assert ["worker-2"] == term["matchExpressions"][0]["values"]
    (apart,) = pod["affinity"]["podAntiAffinity"][key]
    assert {"aefm.dev/run": "r1", "aefm.dev/role": "under_test"} == apart["labelSelector"]["matchLabels"]


def test_all_objects_are_labelled() -> None:
    """Run, role and application are on everything, pods included, so that all of it is found again."""
    made = [pods().service(), pods().config_map(b"x", "10.0.0.1"), pods().job()]
    metadata = [item["metadata"] for item in made] + [pods().job()["spec"]["template"]["metadata"]]
    for one in metadata:
        expected = {"aefm.dev/run": "r1", "aefm.dev/role": "load", "aefm.dev/app": "aefm-load"}
        assert expected.items() <= one["labels"].items()
    plan = json.loads(made[1]["data"]["plan.json"])
    assert 3 == len(plan["parts"])
    assert LOAD.rate_rps == pytest.approx(sum(part["load"]["rate_rps"] for part in plan["parts"]))


class Nobody:
    """Keeps nothing alive."""

    def keep(self, path: str, uid: str) -> None:
        """Do nothing."""

    def drop(self, path: str) -> None:
        """Do nothing."""


def cluster_load(nodes: tuple[str, ...] = ("worker-2",)) -> ClusterLoad:
    """Return one that cannot reach a cluster."""
    connection: Any = None
    return ClusterLoad(connection, Nobody(), namespace="shop", run="r1", nodes=nodes, pods=3, image="aefm-load:1")


def test_load_needs_a_node(tmp_path: Path) -> None:
    """Without a node of role load, with another generator or a script that is too large, nothing is asked for."""
    with pytest.raises(ConfigurationError, match="no node of role load"):
        cluster_load(())
    with pytest.raises(LoadError, match="wrk2: does not run in the cluster"):
        cluster_load().start("wrk2", LOAD, tmp_path / "x.lua", "http://x", tmp_path)
    script = tmp_path / "large.lua"
    script.write_text("-- " + "x" * 2**20)
    with pytest.raises(ConfigurationError, match="at most"):
        InsideDriver().check_script(script)
    with pytest.raises(ConfigurationError, match="at most"):
        cluster_load().start("aefm-wrk", LOAD, script, "http://x", tmp_path)
