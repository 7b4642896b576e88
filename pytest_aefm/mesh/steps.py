"""What an endpoint does: its steps, compiled once into functions that run for every request.

CPU work is a fixed number of iterations. Waits are as fine as the event loop's timers, about 1 ms.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import log
from time import time_ns

import aiohttp
from opentelemetry.trace import SpanContext, SpanKind
from yarl import URL

from pytest_aefm.mesh.resolved import CallConfig, ServiceConfig, StepConfig, WaitConfig
from pytest_aefm.mesh.tracing import Attributes, Tracer, traceparent
from pytest_aefm.mesh.work import work

__all__ = ["Exchange", "PeerError", "Steps", "sampler_s"]


class PeerError(Exception):
    """A call of another service failed; the text names the service, the request and why."""


@dataclass(slots=True)
class Exchange:
    """The request being served: its query, its server span, its ``tracestate``."""

    query: str
    context: SpanContext | None
    tracestate: str | None


_Step = Callable[[Exchange], Awaitable[None] | None]
Program = Callable[[Exchange], Awaitable[None]]


def sampler_s(wait: WaitConfig, rng: random.Random) -> Callable[[], float]:
    """Return a function that draws a wait in seconds."""
    if "constant_ms" in wait:
        constant = wait["constant_ms"] / 1e3
        return lambda: constant
    if "uniform_ms" in wait:
        low, high = (bound / 1e3 for bound in wait["uniform_ms"])
        return lambda: rng.uniform(low, high)
    if "exponential_ms" in wait:
        rate = 1e3 / wait["exponential_ms"]
        return lambda: rng.expovariate(rate)
    mu, sigma = log(wait["lognormal_ms"]["median"] / 1e3), wait["lognormal_ms"]["sigma"]
    return lambda: rng.lognormvariate(mu, sigma)


class Steps:
    """Compiles the steps of one service; all its programs share a client session, a tracer and a random source."""

    def __init__(self, config: ServiceConfig, session: aiohttp.ClientSession, tracer: Tracer | None) -> None:
        self._session, self._tracer = session, tracer
        self._peers = config["peers"]
        self._iterations_per_us = config["iterations_per_us"]
        self._rng = random.Random(config["seed"])

    def compile(self, steps: Sequence[StepConfig]) -> Program:
        """Return the function that runs ``steps`` in order; it raises PeerError where a call fails."""
        compiled = [self._step(step) for step in steps]

        async def program(exchange: Exchange) -> None:
            for step in compiled:
                pending = step(exchange)
                if pending is not None:
                    await pending

        return program

    def _step(self, step: StepConfig) -> _Step:
        action = self._action(step)
        probability = step.get("probability", 1.0)
        if probability >= 1.0:
            return action
        draw = self._rng.random
        return lambda exchange: action(exchange) if draw() < probability else None

    def _action(self, step: StepConfig) -> _Step:
        if "cpu_us" in step:
            iterations = round(step["cpu_us"] * self._iterations_per_us)

            def compute(_: Exchange) -> None:
                work(iterations)

            return compute
        if "wait" in step:
            sample = sampler_s(step["wait"], self._rng)
            return lambda _: asyncio.sleep(sample())
        if "call" in step:
            return self._call(step["call"])
        return self._parallel([self.compile(group) for group in step["parallel"]])

    def _parallel(self, programs: list[Program]) -> _Step:
        async def parallel(exchange: Exchange) -> None:
            # All groups end before a failure is raised, so that no span outlives its parent.
            for result in await asyncio.gather(*(program(exchange) for program in programs), return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

        return parallel

    def _call(self, call: CallConfig) -> _Step:
        service, method, path = call["service"], call["method"], call["path"]
        base = self._peers[service]["urls"][0] + path
        plain = URL(base, encoded=True)
        name, forward = f"{method} {path}", call["forward_query"]
        send, tracer, attributes = self._session.request, self._tracer, _ClientAttributes(service, method, path)

        async def perform(exchange: Exchange) -> None:
            url = URL(f"{base}?{exchange.query}", encoded=True) if forward and exchange.query else plain
            headers, context = {}, None
            if tracer is not None and exchange.context is not None:
                context = tracer.child_context(exchange.context)
                headers["traceparent"] = traceparent(context)
                if exchange.tracestate:
                    headers["tracestate"] = exchange.tracestate
            start_ns, status, failure = time_ns(), 0, None
            try:
                async with send(method, url, headers=headers) as response:
                    await response.read()
                    status = response.status
                    failure = None if status < 400 else f"status {status}"
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = str(error) or type(error).__name__
            if tracer is not None and context is not None:
                tracer.end(name, SpanKind.CLIENT, context, exchange.context, start_ns, attributes[status], failure)
            if failure is not None:
                raise PeerError(f"call of {service} failed: {name}: {failure}")

        return perform


class _ClientAttributes(dict[int, Attributes]):
    """Span attributes by status, shared by all spans that have them; status 0 means no answer."""

    def __init__(self, service: str, method: str, path: str) -> None:
        self._common: Attributes = {"http.request.method": method, "url.path": path, "peer.service": service}

    def __missing__(self, status: int) -> Attributes:
        answered = {"http.response.status_code": status} if status else {}
        self[status] = made = {**self._common, **answered}
        return made
