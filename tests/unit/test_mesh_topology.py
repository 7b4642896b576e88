"""The topology file: what it means, and that every mistake is refused with file, line and path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_aefm.apps import find_app
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.topology import load_topology, parse_topology

TWO = """\
app: two
entry: front
smoke:
  - path: /a?q=1
services:
  front:
    endpoints:
      - path: /a
        parameters: [q]
        steps:
          - cpu_us: 100
          - call: {service: back, endpoint: /b}
          - parallel:
              - [{cpu_us: 5}, {wait: {constant_ms: 2}}]
              - {service: back, endpoint: /c, method: POST}
  back:
    cpu_limit: 0.5
    memory_limit: 256Mi
    endpoints:
      - path: /b
      - method: POST
        path: /c
        parameters: [q]
        steps:
          - wait: {lognormal_ms: {median: 2, sigma: 0.5}}
            probability: 0.5
"""


def refusal(text: str) -> str:
    """Return the message with which a topology is refused."""
    with pytest.raises(ConfigurationError) as caught:
        parse_topology(text, "two.yaml")
    return str(caught.value)


def test_limits_are_read_with_their_units() -> None:
    """cpu_limit is in cores, memory_limit a quantity of bytes; cores default to one."""
    services = parse_topology(TWO).services
    assert (1.0, None) == (services["front"].cpu_limit, services["front"].memory_limit_bytes)
    assert (0.5, 256 * 2**20) == (services["back"].cpu_limit, services["back"].memory_limit_bytes)


def test_a_resolved_service_is_plain_json() -> None:
    """resolve() gives for each service what a server needs, and nothing but JSON."""
    config = parse_topology(TWO).resolve(
        {"front": 1, "back": 2}, iterations_per_us=10.0, otlp_endpoint="http://x/v1/traces", labels={"run": "r"}
    )
    assert config == json.loads(json.dumps(config))
    assert {"back": {"urls": ["http://127.0.0.1:2"]}} == config["front"]["peers"]
    assert {} == config["back"]["peers"]
    assert {"run": "r"} == config["back"]["labels"]


def test_a_call_hands_on_the_query_only_to_who_requires_parameters() -> None:
    """forward_query is set exactly where the callee has parameters; a call alone is a parallel group."""
    config = parse_topology(TWO).resolve({"front": 1, "back": 2}, iterations_per_us=1.0)
    _, plain, parallel = config["front"]["endpoints"][0]["steps"]
    assert not plain["call"]["forward_query"]
    assert [2, 1] == [len(group) for group in parallel["parallel"]]
    assert {"service": "back", "method": "POST", "path": "/c", "forward_query": True} == parallel["parallel"][1][0][
        "call"
    ]


def test_seeds_differ_between_services_and_repeat() -> None:
    """Two services never draw the same waits; the same seed gives the same ones again."""

    def seeds(seed: int) -> list[int]:
        config = parse_topology(TWO).resolve({"front": 1, "back": 2}, iterations_per_us=1.0, seed=seed)
        return [service["seed"] for service in config.values()]

    assert len({*seeds(1), *seeds(2)}) == 4
    assert seeds(1) == seeds(1)


def test_expected_spans_count_one_per_request_and_one_per_call() -> None:
    """/a is served once and calls twice: 1 + 2 x (client + server) spans."""
    assert 5.0 == parse_topology(TWO).expected_spans("front", "GET", "/a")


def test_a_service_without_port_is_refused() -> None:
    """Every service needs a port."""
    with pytest.raises(ConfigurationError, match="service 'back' has no port"):
        parse_topology(TWO).resolve({"front": 1}, iterations_per_us=1.0)


def test_replicas_have_ports_seeds_and_callers() -> None:
    """Each replica is a process of its own, and whoever calls the service knows all of them."""
    topology = parse_topology(TWO.replace("cpu_limit: 0.5", "replicas: 2\n    balance: least_connections"))
    assert {"front": "front", "back.1": "back", "back.2": "back"} == topology.processes()
    config = topology.resolve({"front": 1, "back.1": 2, "back.2": 3}, iterations_per_us=1.0)
    peer = {"urls": ["http://127.0.0.1:2", "http://127.0.0.1:3"], "balance": "least_connections"}
    assert {"back": peer} == config["front"]["peers"]
    assert {("back", 2), ("back", 3)} == {(one["service"], one["port"]) for one in list(config.values())[1:]}
    assert config["back.1"]["seed"] != config["back.2"]["seed"]
    assert {"service.instance.id": "back.1"} == config["back.1"]["labels"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "cpu_us: 100",
            "cpu_ms: 100",
            "two.yaml:11: services.front.endpoints[0].steps[0].cpu_ms: unknown key; did you mean 'cpu_us'?",
        ),
        (
            "cpu_us: 100",
            "cpu_us: fast",
            "two.yaml:11: services.front.endpoints[0].steps[0].cpu_us: expected a valid number, got 'fast'",
        ),
        ("cpu_us: 100", "cpu_us: -1", "steps[0].cpu_us: expected greater than or equal to 0, got -1"),
        ("cpu_us: 100", "cpu_us: .inf", "steps[0].cpu_us: expected a finite number, got inf"),
        ("cpu_us: 100", "cpu_us: true", "steps[0].cpu_us: expected a valid number, got True"),
        ("cpu_us: 100", "wait: {}", "steps[0].wait: expected one of constant_ms, uniform_ms, exponential_ms"),
        (
            "cpu_us: 100",
            "{cpu_us: 1, wait: {constant_ms: 1}}",
            "cpu_us, wait, call, parallel, choice, cache, memory, state, fail, got cpu_us, wait",
        ),
        ("cpu_us: 100", "wait: {uniform_ms: [3, 1]}", "uniform_ms: expected [shortest, longest], got [3.0, 1.0]"),
        ("probability: 0.5", "probability: 1.5", "two.yaml:26: services.back.endpoints[1].steps[0].probability: exp"),
        ("service: back, endpoint: /b", "service: bakc, endpoint: /b", "unknown service 'bakc'; did you mean 'back'?"),
        (
            "service: back, endpoint: /b}",
            "service: back, endpoint: /d}",
            "two.yaml:12: services.front.endpoints[0].steps[1].call.endpoint: unknown endpoint of back 'GET /d'; "
            "did you mean 'GET /b'?",
        ),
        ("entry: front", "entry: frnt", "two.yaml:2: entry: unknown service 'frnt'; did you mean 'front'?"),
        ("entry: front\n", "", "two.yaml:1: entry: is missing"),
        ("path: /a?q=1", "path: /a", "two.yaml:4: smoke[0].path: the parameter 'q' is missing"),
        ("path: /a?q=1", "path: /z", "two.yaml:4: smoke[0].path: unknown endpoint of front 'GET /z'"),
        ("parameters: [q]\n        steps:\n          - cpu", "steps:\n          - cpu", "back requires the parameter"),
        (
            "- path: /b\n",
            "- path: /b\n        parameters: [q]\n        steps: [{call: {service: front, endpoint: /a}}]\n",
            "in a circle: front",
        ),
        ("- path: /b", "- {path: /b}\n      - path: /b", "services.back.endpoints[1]: GET /b is there twice"),
        ("path: /b", "path: /-/b", "'/-/b' is kept for the mesh itself"),
        ("memory_limit: 256Mi", "memory_limit: much", "expected a size such as '256Mi' or '1G', got 'much'"),
        ("cpu_limit: 0.5", "cpu_limit: 0", "two.yaml:17: services.back.cpu_limit: expected greater than 0, got 0"),
        (
            "cpu_limit: 0.5",
            "cpu_limit: 1\n    cpu_limit: 2",
            "two.yaml:18: services.back: key 'cpu_limit' is given twice",
        ),
        ("method: POST\n", "method: TAKE\n", "method: expected 'GET', 'POST', 'PUT', 'PATCH' or 'DELETE', got 'TAKE'"),
        ("entry: front", "entry: [front", "two.yaml:3: not YAML"),
        ("app: two", "app: &a [*a]", "app[0]: contains itself through a YAML alias"),
        ("  back:\n", "  Back_:\n", "expected a name of lower-case letters"),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_path(old: str, new: str, message: str) -> None:
    """Each wrong key, name, number or reference is named where it stands."""
    assert old in TWO
    assert message in refusal(TWO.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "7", "\x00", "a: !!python/object:os.system {}"])
def test_what_is_no_topology_is_refused(text: str) -> None:
    """An empty file, another shape or an unsafe tag is an error of the file, not a crash."""
    assert refusal(text).startswith("two.yaml")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """The message names the file and the reason."""
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read: No such file"):
        load_topology(tmp_path / "none.yaml")


def test_aliases_and_merge_keys_work() -> None:
    """YAML's own means against repetition are there; a key of one's own wins over a merged one."""
    text = TWO.replace("- path: /b\n", "- &b {path: /b, response_bytes: 7}\n      - {<<: *b, path: /e}\n")
    back = parse_topology(text).services["back"]
    assert [("/b", 7), ("/e", 7)] == [(e.path, e.response_bytes) for e in back.endpoints[:2]]


def test_the_hotel_says_that_it_is_a_model() -> None:
    """Nobody shall take the mesh for DeathStarBench."""
    app = find_app("hotel")
    assert "is not DeathStarBench" in app.description
    assert "is not DeathStarBench" in load_topology(app.topology_path).description


def test_the_hotel_has_dsbs_services_and_call_graph() -> None:
    """Eight services and nine stores; frontend -> search -> geo, rate; reservation; profile; recommendation; user."""
    topology = load_topology(find_app("hotel").topology_path)
    assert ["search", "reservation", "profile", "recommendation", "user"] == topology.peers("frontend")
    assert ["geo", "rate"] == topology.peers("search")
    assert ["memcached-rate", "mongodb-rate"] == topology.peers("rate")
    assert 17 == len(topology.services)
    assert 19.5 == topology.expected_spans("frontend", "GET", "/hotels")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hotle", "app 'hotle': unknown application; expected one of hotel; did you mean 'hotel'?"),
        ("social", "app 'social': has no local model yet; expected one of hotel on the local testbed"),
    ],
)
def test_an_unknown_app_is_refused(name: str, message: str) -> None:
    """The message gives the nearest name, or says that the application has no local model yet."""
    with pytest.raises(ConfigurationError) as caught:
        find_app(name)
    assert message == str(caught.value)
