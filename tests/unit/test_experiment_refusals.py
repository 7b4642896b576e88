"""Malformed experiment files: each message has the file, the line, the path and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import load

OURS = """\
app: hotel
script: hotel/search.lua
rate: [20, 40]
cpu: [0, 1]
interference:
  cpu: {cpu_size: 0.5}
rounds: 2
duration: 5s
slos: [p50 < 1s]
"""

AEFM = """\
app: social
duration: 40
test_cases:
  orders: [workload, round, cpu]
  round: {min: 1, max: 2, step: 1}
  workload:
    configs: {threads: 1, connections: 1, rate: 1, script: social/mixed.lua}
    range: [1, 2]
  interferences:
    cpu: {configs: {cpu_size: 1}, range: [1]}
  payload: [1, 2]
"""


def refusal(folder: Path, text: str) -> str:
    """Return the message with which a file of this text is refused."""
    path = folder / "hotel.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(path, shown="hotel.yaml").cases()
    return str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate: [20, 40]", "rate: [20, 200rps]", "3: rate[1]: expected a positive number, got '200rps'"),
        ("rate: [20, 40]", "rate: 0", "3: rate: expected a positive number, got 0"),
        ("rate: [20, 40]", "rate: -5", "3: rate: expected a positive number, got -5"),
        ("rate: [20, 40]", "rate: .nan", "3: rate: expected a positive number, got nan"),
        ("rate: [20, 40]", "rate: 1.0e+12", "3: rate: expected at most 1e+09 req/s, got 1000000000000.0"),
        ("rate: [20, 40]", "rate: yes", "3: rate: expected a positive number, got True"),
        ("rate: [20, 40]", "rate:", "3: rate: expected a value, got nothing"),
        ("rate: [20, 40]", "rate: []", "3: rate: expected at least one value, got none"),
        ("rate: [20, 40]", "rate:\n- 20\n- x", "5: rate[1]: expected a positive number, got 'x'"),
        ("rate: [20, 40]", "rate: {min: 5, max: 1}", "3: rate.max: expected at least min, which is 5, got 1"),
        ("rate: [20, 40]", "rate: {min: 1, max: 2, stop: 1}",
         "3: rate.stop: unknown key; expected min, max and step; did you mean 'step'?"),
        ("rate: [20, 40]", "rate: {min: 1}", "3: rate: 'max' is missing; expected {min, max, step}"),
        ("rate: [20, 40]", "rate: {min: 1, max: 2, step: 0}", "3: rate.step: expected a positive number, got 0"),
        ("rate: [20, 40]", "rate: {min: 1, max: 2, step: 1.0e-9}",
         "3: rate: expected at most 100000 values, got about 1e+09"),
        ("rate: [20, 40]", "rate: {min: 0, max: 2}", "3: rate.min: expected a positive number, got 0"),
        ("rate: [20, 40]\n", "", "1: rate: the key is missing; expected requests per second, here or in "
         "test_cases.workload.range"),
        ("cpu: [0, 1]", "cpu: -1", "4: cpu: expected a whole number from 0 to 10000, got -1"),
        ("cpu: [0, 1]", "cpu: [0.5]", "4: cpu[0]: expected a whole number from 0 to 10000, got 0.5"),
        ("cpu: [0, 1]", "cpu: {min: 0, max: 1, step: 0.5}",
         "4: cpu.step: expected a whole number from 0 to 10000, got 0.5"),
        ("cpu: [0, 1]", "cpuu: [0, 1]", "4: cpuu: unknown key; did you mean 'cpu'?"),
        ("  cpu: {", "  gpu: {", "6: interference.gpu: unknown key; did you mean 'cpu'?"),
        ("cpu_size: 0.5", "cpusize: 0.5", "6: interference.cpu.cpusize: unknown key; did you mean 'cpu_size'?"),
        ("cpu_size: 0.5", "cpu_size: lots",
         "6: interference.cpu.cpu_size: expected a positive number of cores such as 1, 0.5 or 500m, got 'lots'"),
        ("cpu_size: 0.5", "mem_size: 20Xi", "6: interference.cpu.mem_size: expected a positive size such as 200Mi, "
         "4Gi or a number of bytes, got '20Xi'"),
        ("rounds: 2", "rounds: 0", "7: rounds: expected a whole number of at least 1, got 0"),
        ("duration: 5s", "duration: 0",
         "8: duration: expected a positive duration such as 40, 500ms, 5s or 1m, got 0"),
        ("duration: 5s", "duration: -5",
         "8: duration: expected a positive duration such as 40, 500ms, 5s or 1m, got -5"),
        ("duration: 5s", "duration: 5 parsecs",
         "8: duration: expected a positive duration such as 40, 500ms, 5s or 1m, got '5 parsecs'"),
        ("p50 < 1s", "p50 = 1s", "9: slos[0]: malformed SLO 'p50 = 1s'; expected METRIC"),
        ("p50 < 1s", "latncy < 1s", "9: slos[0]: unknown metric 'latncy' in 'latncy < 1s'"),
        ("p50 < 1s", "5", "9: slos[0]: expected a condition such as 'p99 < 250ms', got 5"),
        ("p50 < 1s", "p95 < 1s, p99 < 1s, p90 < 1s", "9: slos[1]: p99 < 1s needs at least 299 requests; "
         "20 req/s x 5 s gives 100; expected a duration of at least 14.95 s"),
        ("rounds: 2", "order: sorted", "7: order: expected 'listed', 'blocks', 'cost' or 'randomised', got 'sorted'; "
         "did you mean 'listed'?"),
        ("rounds: 2", "order: listed", "7: order: there are no orders to follow; expected a list orders"),
        ("rounds: 2", "orders: [rate, mem]", "7: orders[1]: unknown factor 'mem'; expected one of cpu, rate"),
        ("rounds: 2", "orders: [rate, workload, cpu]", "7: orders[1]: 'workload' is listed twice"),
        ("rounds: 2", "orders: [cpu]", "7: orders: 'workload' (or 'rate') is missing, without which there is no load"),
        ("rounds: 2", "exclude: [{cpu: 2}]", "7: exclude[0].cpu: the factor has no value 2; expected one of 0, 1"),
        ("rounds: 2", "exclude: [{rate: [20, 30]}]",
         "7: exclude[0].rate[1]: the factor has no value 30; expected one of 20, 40"),
        ("rounds: 2", "exclude: [{rat: 20}]", "7: exclude[0].rat: unknown factor 'rat'; expected one of cpu, rate; "
         "did you mean 'rate'?"),
        ("rounds: 2", "exclude: [{cpu: [0, 1]}]", "7: exclude: it leaves no case; expected at least one case"),
        ("rounds: 2", "exclude: {cpu: 2}", "7: exclude: expected a list of mappings such as {cpu: 2, rate: [400]}"),
        ("rounds: 2", "threads: 20", "7: threads: got 20; expected at most the number of connections, which is 10 "
         "at 20 req/s"),
        ("rounds: 2", "threads: 0\nwarmup: x", "7: threads: expected a whole number of at least 1, got 0; "
         "also wrong: warmup (line 8)"),
        ("rounds: 2", "mutates: maybe", "7: mutates: expected true or false, got 'maybe'"),
        ("rounds: 2", "port: 0", "7: port: expected a port from 1 to 65535, got 0"),
        ("rounds: 2", "replicas: {a: some}", "7: replicas.a: expected a whole number of at least 0, got 'some'"),
        ("rounds: 2", "nodes: [{name: a, roles: [worker]}]",
         "7: nodes[0].roles[0]: expected 'testbed', 'infra' or 'load', got 'worker'"),
        ("rounds: 2", "nodes: [{roles: [infra]}]", "7: nodes[0].name: the key is missing"),
        ("rounds: 2", "file_paths: {yml_repo: x}", "7: file_paths.yml_repo: unknown key; did you mean 'yaml_repo'?"),
        ("rounds: 2", "test_cases:", "7: test_cases: expected a value, got nothing"),
        ("rounds: 2", "test_cases: {workload: {range: [1]}}", "3: rate: test_cases.workload.range says it too, in "
         "line 7; keep one of them"),
        ("rounds: 2", "connections: 9\ntest_cases: {workload: {configs: {connections: 1}}}",
         "7: connections: test_cases.workload.configs.connections says it too, in line 8; keep one of them"),
        ("rounds: 2", "distribution: poisson", "7: distribution: expected 'fixed', 'exp', 'norm' or 'zipf', "
         "got 'poisson'"),
        ("rounds: 2", "schedule: 1x:5s", "7: schedule: duration says it too; a schedule lasts as long as its phases"),
        ("rounds: 2", "schedule: 100:10s", "7: schedule: expected steps and ramps in multiples of the rate, such as "
         "'0.5x:10s, 1x..2x:60s', got '100:10s'"),
        ("rounds: 2", "max_connections: 19", "7: max_connections: got 19; expected at least the number of connections, "
         "which is 20 at 40 req/s"),
        ("rounds: 2", "precision: p99", "7: precision: expected a percentile and the width of its interval, such as "
         "p99:5%, got 'p99'"),
        ("rounds: 2", "precision: p100:5%", "7: precision: expected a percentile and the width"),
        ("rounds: 2", "abort: error_rate>100%:5s", "7: abort: expected a condition and for how long it must hold, such "
         "as 'error_rate>50%:5s', got 'error_rate>100%:5s'"),
        ("duration: 5s", "schedule: 1x:5s\nprecision: p50:5%", "9: precision: requests at several rates have no common "
         "percentile; expected no schedule"),
        ("rounds: 2", "tags: {a=b: /x}", "7: tags['a=b']: expected a name of 1 to 64 printable characters"),
        ("rounds: 2", "tags: {search: hotels}", "7: tags.search: expected a path such as '/hotels*', or 'GET "
         "/hotels*'"),
        ("app: hotel", "app: [hotel]", "1: app: expected a text, got ['hotel']"),
        ("app: hotel", "app: '!'", "1: app: '!' cannot be part of an id"),
        ("app: hotel", "2: x", "1: [2]: unknown key; expected one of name, app"),
    ],
)  # fmt: skip
def test_our_format(old: str, new: str, message: str, tmp_path: Path) -> None:
    """Each defect of a file with factors at the top level is told with its line and path."""
    assert old in OURS
    expected = f"hotel.yaml:{message}"
    assert expected == refusal(tmp_path, OURS.replace(old, new, 1))[: len(expected)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("range: [1, 2]", "range: 200rps", "8: test_cases.workload.range: expected a positive number, got '200rps'"),
        ("    range: [1, 2]", "    rnge: [1, 2]", "8: test_cases.workload.rnge: unknown key; did you mean 'range'?"),
        ("connections: 1", "conections: 1",
         "7: test_cases.workload.configs.conections: unknown key; did you mean 'connections'?"),
        ("  workload:", "  worklod:", "6: test_cases.worklod: unknown key; did you mean 'workload'? If it is a factor "
         "of your own, name it in orders"),
        ("orders: [", "ordres: [", "4: test_cases.ordres: unknown key; did you mean 'orders'?"),
        ("[workload, round, cpu]", "[workload, rond, cpu]", "4: test_cases.orders[1]: unknown factor 'rond'; expected "
         "one of cpu, payload, rate, round; did you mean 'round'?"),
        ("[workload, round, cpu]", "[workload, 3]", "4: test_cases.orders[1]: expected the name of a factor, got 3"),
        ("[workload, round, cpu]", "[]", "4: test_cases.orders: expected a list of factors, the innermost first"),
        ("{min: 1, max: 2, step: 1}", "3", "5: test_cases.round: expected a list or {min, max, step}, got 3"),
        ("{min: 1, max: 2, step: 1}", "[0.5]", "5: test_cases.round[0]: expected a whole number of at least 0"),
        ("    cpu:", "    cpus:", "10: test_cases.interferences.cpus: unknown key; did you mean 'cpu'?"),
        (", range: [1]}", "}", "10: test_cases.interferences.cpu.range: the key is missing"),
        ("range: [1]}", "range: [-1]}",
         "10: test_cases.interferences.cpu.range[0]: expected a whole number from 0 to 10000, got -1"),
        ("payload: [1, 2]", "payload: {1: 2}", "11: test_cases.payload[1]: unknown key; expected min, max and step"),
        ("payload: [1, 2]", "payload: [2024-01-01]",
         "11: test_cases.payload[0]: expected a text, a number, true or false, got datetime.date(2024, 1, 1)"),
        ("payload: [1, 2]", "cpu: [1, 2]", "11: test_cases.cpu: 'cpu' is no name for a factor of your own"),
        (", script: social/mixed.lua", "", "1: script: the key is missing; expected a Lua script"),
    ],
)  # fmt: skip
def test_aefms_format(old: str, new: str, message: str, tmp_path: Path) -> None:
    """Each defect of a file in AEFM's format is told with its line and path."""
    assert old in AEFM
    expected = f"hotel.yaml:{message}"
    assert expected == refusal(tmp_path, AEFM.replace(old, new, 1))[: len(expected)]


def test_one_point_of_confidence_needs_one_request(tmp_path: Path) -> None:
    """With confidence 0 the point value decides, and no SLO is undecidable."""
    path = tmp_path / "hotel.yaml"
    path.write_text(OURS.replace("p50 < 1s", "p99.9 < 1s"))
    assert 8 == len(load(path).cases(confidence=0))


@pytest.mark.parametrize("slo", ["p99{outcome=5xx} < 1s", "max < 1s", "self_time(rate, p99) < 1s"])
def test_only_slos_over_successes_are_refused(slo: str, tmp_path: Path) -> None:
    """Conditions that are not over the successes' latency are left to the trial."""
    path = tmp_path / "hotel.yaml"
    path.write_text(OURS.replace("[p50 < 1s]", f"['{slo}']"))
    assert 8 == len(load(path).cases())
