"""Parts of a topology in the words of the resolved JSON; a key that would only repeat its default is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_aefm.mesh.model import Endpoint, Service
from pytest_aefm.mesh.resolved import (
    CacheConfig,
    CallConfig,
    EndpointConfig,
    FailConfig,
    MemoryConfig,
    PeerConfig,
    ServiceConfig,
    StateConfig,
    StepConfig,
    WaitConfig,
)
from pytest_aefm.mesh.steps import Cache, Call, Fail, Memory, State, Step
from pytest_aefm.mesh.waits import Wait

__all__ = ["endpoint_config", "peer_config", "set_limits"]

TakesQuery = Callable[[Call], bool]
"""Whether a call hands on the query of the request being served."""


def endpoint_config(endpoint: Endpoint, takes_query: TakesQuery) -> EndpointConfig:
    """Return one endpoint."""
    return EndpointConfig(
        method=endpoint.method,
        path=endpoint.path,
        parameters=list(endpoint.parameters),
        response_bytes=endpoint.response_bytes,
        steps=[_step(step, takes_query) for step in endpoint.steps],
    )


def peer_config(service: Service, urls: list[str]) -> PeerConfig:
    """Return how a service is called that is at ``urls``."""
    peer = PeerConfig(urls=urls)
    if service.balance != "round_robin":
        peer["balance"] = service.balance
    if service.retry_budget is not None:
        peer["retry_budget"] = service.retry_budget
    if service.breaker is not None:
        peer["breaker"] = {"failures": service.breaker.failures, "open_ms": service.breaker.open_ms}
    return peer


def set_limits(config: ServiceConfig, service: Service) -> None:
    """Add the limits of a service to its configuration."""
    if service.threads > 1:
        config["threads"] = service.threads
    if service.workers is not None:
        config["workers"] = service.workers
    if service.queue is not None:
        config["queue"] = service.queue


def _step(step: Step, takes_query: TakesQuery) -> StepConfig:
    config: StepConfig = {"probability": step.probability}
    if step.cpu_us is not None:
        config["cpu_us"] = step.cpu_us
    if step.wait is not None:
        config["wait"] = _wait(step.wait)
    if step.call is not None:
        config["call"] = _call(step.call, takes_query(step.call))
    if step.memory is not None:
        config["memory"] = _memory(step.memory)
    if step.state is not None:
        config["state"] = _state(step.state)
    if step.fail is not None:
        config["fail"] = _fail(step.fail)
    if step.cache is not None:
        config["cache"] = _cache(step.cache, takes_query)
    if step.parallel is not None:
        config["parallel"] = [[_step(inner, takes_query) for inner in group] for group in step.parallel]
    if step.choice is not None:
        config["choice"] = [
            {"weight": branch.weight, "steps": [_step(inner, takes_query) for inner in branch.steps]}
            for branch in step.choice
        ]
    return config


def _wait(wait: Wait) -> WaitConfig:
    given: Any = wait.model_dump(mode="json", exclude_none=True)
    config: WaitConfig = given
    return config


def _call(call: Call, forward_query: bool) -> CallConfig:
    config = CallConfig(service=call.service, method=call.method, path=call.endpoint, forward_query=forward_query)
    if "timeout_ms" in call.model_fields_set:
        config["timeout_ms"] = call.timeout_ms
    if call.request_bytes:
        config["request_bytes"] = call.request_bytes
    if call.retries is not None:
        config["retries"] = {
            "attempts": call.retries.attempts,
            "backoff_ms": call.retries.backoff_ms,
            "backoff_max_ms": call.retries.backoff_max_ms,
        }
    return config


def _memory(memory: Memory) -> MemoryConfig:
    return MemoryConfig(touch_bytes=memory.touch, working_set_bytes=memory.working_set)


def _state(state: State) -> StateConfig:
    config = StateConfig(write_bytes=state.write, limit_bytes=state.limit)
    if state.scan_us_per_mib:
        config["scan_us_per_mib"] = state.scan_us_per_mib
    return config


def _fail(fail: Fail) -> FailConfig:
    config = FailConfig(status=fail.status)
    if fail.window_s is not None:
        config["window_s"] = list(fail.window_s)
    if fail.every_s is not None:
        config["every_s"] = fail.every_s
    return config


def _cache(cache: Cache, takes_query: TakesQuery) -> CacheConfig:
    config = CacheConfig(miss=[_step(step, takes_query) for step in cache.miss])
    if cache.hit_ratio is not None:
        config["hit_ratio"] = cache.hit_ratio
    if cache.capacity is not None:
        config["capacity"] = cache.capacity
    if cache.keys is not None:
        config["keys"] = cache.keys
    if cache.skew:
        config["skew"] = cache.skew
    if cache.key is not None:
        config["key"] = cache.key
    if cache.name:
        config["name"] = cache.name
    return config
