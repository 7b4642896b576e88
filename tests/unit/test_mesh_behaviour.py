"""The service model of a topology file beyond calls and waits: what it means in the resolved JSON, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.caching import lru_miss_ratio
from pytest_aefm.mesh.resolved import ServiceConfig
from pytest_aefm.mesh.topology import Topology, parse_topology
from pytest_aefm.mesh.waits import Wait

SHOP = """\
app: shop
entry: web
smoke: [{path: /items/7}]
services:
  web:
    endpoints:
      - path: /items/{id}
        steps:
          - WEB
  store:
    SERVICE
    endpoints:
      - path: /rows/{row}
        steps: [{cpu_us: 100}]
      - path: /rows/first
"""
CALL = "call: {service: store, endpoint: '/rows/{id}'}"


def shop(step: str = CALL, service: str = "cpu_limit: 1") -> Topology:
    """Return the shop with this step in the web service and this line in the store."""
    return parse_topology(SHOP.replace("WEB", step).replace("SERVICE", service), "shop.yaml")


def resolved(topology: Topology) -> dict[str, ServiceConfig]:
    """Return what its services read."""
    return topology.resolve(dict.fromkeys(topology.processes(), 1), iterations_per_us=1.0)


def step_of(step: str) -> Any:
    """Return a step of the web service as its program reads it, its probability apart."""
    (found,) = resolved(shop(step))["web"]["endpoints"][0]["steps"]
    assert 1.0 == found.pop("probability")
    return found


@pytest.mark.parametrize(
    ("step", "means"),
    [
        ("wait: {pareto_ms: {minimum: 1, shape: 2.5}}", {"wait": {"pareto_ms": {"minimum": 1.0, "shape": 2.5}}}),
        ("wait: {empirical_ms: [1, 2, 9]}", {"wait": {"empirical_ms": [1.0, 2.0, 9.0]}}),
        ("memory: {touch: 4Ki, working_set: 1Mi}", {"memory": {"touch_bytes": 4096, "working_set_bytes": 2**20}}),
        ("state: {write: 10, limit: 1k}", {"state": {"write_bytes": 10, "limit_bytes": 1000}}),
        ("fail: {}", {"fail": {"status": 503}}),
        (
            "fail: {status: 500, window_s: [1, 2], every_s: 5}",
            {"fail": {"status": 500, "window_s": [1.0, 2.0], "every_s": 5.0}},
        ),
        ("cache: {hit_ratio: 0.9, miss: [{cpu_us: 1}]}", {"cache": {"hit_ratio": 0.9, "miss": [{"cpu_us": 1.0}]}}),
        (
            "cache: {capacity: 10, keys: 99, skew: 1, name: c, miss: {cpu_us: 1}}",
            {"cache": {"capacity": 10, "keys": 99, "skew": 1.0, "name": "c", "miss": [{"cpu_us": 1.0}]}},
        ),
        (
            "cache: {capacity: 10, key: id, miss: [{cpu_us: 1}]}",
            {"cache": {"capacity": 10, "key": "id", "miss": [{"cpu_us": 1.0}]}},
        ),
        (
            "choice: [{weight: 3, steps: [{cpu_us: 1}]}, {weight: 1}]",
            {"choice": [{"weight": 3.0, "steps": [{"cpu_us": 1.0}]}, {"weight": 1.0, "steps": []}]},
        ),
        (
            "call: {service: store, endpoint: /rows/first, timeout_ms: 50, retries: {attempts: 2}, request_bytes: 9}",
            {
                "call": {
                    "service": "store",
                    "method": "GET",
                    "path": "/rows/first",
                    "forward_query": False,
                    "timeout_ms": 50.0,
                    "request_bytes": 9,
                    "retries": {"attempts": 2, "backoff_ms": 10.0, "backoff_max_ms": 1000.0},
                }
            },
        ),
    ],
)
def test_a_step_is_resolved(step: str, means: dict[str, Any]) -> None:
    """Each kind of step becomes what the program reads; what is a default is left out."""
    found = step_of(step)
    for inner in [*found.get("cache", {}).get("miss", []), *(s for b in found.get("choice", []) for s in b["steps"])]:
        del inner["probability"]
    assert means == found


def test_a_service_is_resolved_with_its_limits() -> None:
    """Threads, workers and queue are the service's own; balance, budget and breaker its callers'."""
    given = ["threads: 2", "workers: 4", "queue: 8", "retry_budget: 0.2", "breaker: {failures: 5, open_ms: 100}"]
    configs = resolved(shop(service="\n    ".join(given)))
    store, peer = configs["store"], configs["web"]["peers"]["store"]
    assert (2, 4, 8) == (store["threads"], store["workers"], store["queue"])
    assert (0.2, {"failures": 5, "open_ms": 100.0}) == (peer["retry_budget"], peer["breaker"])
    assert not {"threads", "workers", "queue"} & configs["web"].keys()


def test_a_path_without_parameters_goes_before_one_with() -> None:
    """/rows/first is its own endpoint, any other row the one with a parameter; an empty segment is none."""
    store = shop().services["store"]
    found = [store.find("GET", path) for path in ("/rows/first", "/rows/2", "/rows/", "/rows/2/3")]
    assert ["/rows/first", "/rows/{row}", None, None] == [one and one.path for one in found]


@pytest.mark.parametrize(
    ("wait", "mean_ms"),
    [
        ({"constant_ms": 2.0}, 2.0),
        ({"uniform_ms": [1.0, 3.0]}, 2.0),
        ({"exponential_ms": 2.0}, 2.0),
        ({"lognormal_ms": {"median": 2.0, "sigma": 0.5}}, 2.2663),
        ({"pareto_ms": {"minimum": 1.0, "shape": 3.0}}, 1.5),
        ({"empirical_ms": [0.0, 2.0, 10.0]}, 3.5),
    ],
)
def test_the_mean_of_a_wait(wait: dict[str, Any], mean_ms: float) -> None:
    """Each distribution's mean is that of the textbook."""
    assert mean_ms == pytest.approx(Wait.model_validate(wait).mean_ms, rel=1e-4)


@pytest.mark.parametrize(
    ("step", "service", "message"),
    [
        ("wait: {empirical_ms: [2, 1, 3]}", "", "empirical_ms: expected ascending quantiles, got [2.0, 1.0, 3.0]"),
        ("wait: {pareto_ms: {minimum: 1, shape: 1}}", "", "pareto_ms.shape: expected greater than 1, got 1"),
        ("memory: {touch: 2Mi, working_set: 1Mi}", "", "expected a working set of at least 2097152 bytes"),
        ("memory: {touch: 0, working_set: 1Mi}", "", "memory.touch: expected a size above 0, got 0"),
        ("memory: {touch: much, working_set: 1}", "", "expected a size such as '256Mi', '1G' or bytes, got 'much'"),
        ("state: {limit: 9T}", "", "state.limit: expected a size"),
        ("fail: {status: 200}", "", "fail.status: expected greater than or equal to 400, got 200"),
        ("fail: {every_s: 5}", "", "shop.yaml:9: services.web.endpoints[0].steps[0].fail: expected a window_s within"),
        ("fail: {window_s: [2, 1]}", "", "expected window_s: [from, to], got [2.0, 1.0]"),
        ("cache: {miss: [{cpu_us: 1}]}", "", "expected one of hit_ratio, capacity, got none of them"),
        ("cache: {hit_ratio: 1, keys: 3, miss: [{cpu_us: 1}]}", "", "expected no keys, skew, key or name beside hit"),
        ("cache: {capacity: 1, miss: [{cpu_us: 1}]}", "", "expected either keys or key beside capacity"),
        ("cache: {capacity: 1, key: no, miss: [{cpu_us: 1}]}", "", "expected a valid string, got False"),
        (
            "cache: {capacity: 1, key: it, miss: [{cpu_us: 1}]}",
            "",
            "cache.key: unknown parameter of GET /items/{id} 'i",
        ),
        (
            "cache: {hit_ratio: 0.5, miss: [{call: {service: store, endpoint: /row}}]}",
            "",
            "steps[0].cache.miss[0].call.endpoint: unknown endpoint of store 'GET /row'",
        ),
        (
            "choice: [{weight: 1, steps: [{call: {service: shop, endpoint: /}}]}]",
            "",
            "choice[0].steps[0].call.service: unknown service 'shop'",
        ),
        ("call: {service: store, endpoint: '/rows/{row}'}", "", "the parameter 'row' is none of GET /items/{id}"),
        ("call: {service: store, endpoint: /rows/1, retries: {}}", "", "call.retries.attempts: is missing"),
        (CALL, "queue: 3", "expected workers beside queue"),
        (CALL, "threads: 0", "shop.yaml:11: services.store.threads: expected greater than or equal to 1, got 0"),
        (CALL, "balance: random", "expected 'round_robin' or 'least_connections', got 'random'"),
        (CALL, "retry_budget: 2", "retry_budget: expected less than or equal to 1, got 2"),
        (CALL, "breaker: {failures: 1}", "breaker.open_ms: is missing"),
    ],
)
def test_a_mistake_is_refused(step: str, service: str, message: str) -> None:
    """With file, line and path."""
    with pytest.raises(ConfigurationError) as caught:
        shop(step, service or "cpu_limit: 1")
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["/a/{}", "/a/{b}c", "/a{b}", "/{a}/{a}", "/a?b", "a", "/{1}", "/a b"])
def test_a_malformed_path_is_refused(path: str) -> None:
    """A parameter is a whole segment with a name of its own."""
    with pytest.raises(ConfigurationError, match=r"endpoints\[1\].path: expected"):
        parse_topology(SHOP.replace("WEB", CALL).replace("SERVICE", "cpu_limit: 1").replace("/rows/first", f"'{path}'"))


def test_two_patterns_for_the_same_requests_are_refused() -> None:
    """Parameters of other names make no other endpoint."""
    text = SHOP.replace("WEB", CALL).replace("SERVICE", "cpu_limit: 1").replace("/rows/first", "/rows/{other}")
    with pytest.raises(ConfigurationError, match=r"GET /rows/\{other\} is there twice"):
        parse_topology(text)


def test_a_cache_named_twice_has_one_capacity() -> None:
    """Caches of one name are one."""
    one = "cache: {capacity: 1, keys: 9, name: c, miss: {cpu_us: 1}}"
    with pytest.raises(ConfigurationError, match="the cache 'c' has two capacities"):
        shop(f"{one}\n          - {one.replace('capacity: 1', 'capacity: 2')}")


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0, 2))
def test_the_share_of_misses_is_one(capacity: int, keys: int, skew: float) -> None:
    """It lies between 0 and 1, and is 0 where every key has room."""
    share = lru_miss_ratio(capacity, keys, skew)
    assert 0.0 <= share <= 1.0
    assert (share == 0.0) == (capacity >= keys)


def test_keys_drawn_alike_miss_by_the_room_there_is() -> None:
    """Of 1,000 keys that are drawn alike a cache of 250 misses three quarters."""
    assert 0.75 == pytest.approx(lru_miss_ratio(250, 1000, 0.0), abs=1e-6)
