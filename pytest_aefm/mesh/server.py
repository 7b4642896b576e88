"""One process that is one service of a topology: ``python -m pytest_aefm.mesh.server --config FILE.json``.

The file is one of those that ``Topology.resolve`` makes. Beside the topology's endpoints it answers ``/metrics``,
``/-/ready``, ``/-/inflight`` and ``POST /-/flush``; SIGTERM ends it within 2 s, unflushed spans are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, time_ns
from urllib.parse import unquote_plus

# aiohttp reads the system's certificates when imported (0.1 s); a mesh speaks plain HTTP only.
os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # traces must not leave through a proxy of the user's

import aiohttp
from aiohttp import web
from aiohttp.hdrs import METH_ALL
from opentelemetry.trace import SpanKind
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, Histogram, generate_latest

from pytest_aefm.mesh.resolved import EndpointConfig, ServiceConfig, StepConfig
from pytest_aefm.mesh.steps import Exchange, PeerError, Program, Steps
from pytest_aefm.mesh.tracing import Attributes, Tracer, configured, parse_traceparent

__all__ = ["Service", "main", "serve"]

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL_TIMEOUT_S = 30.0
_NO_QUERY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Route:
    """An endpoint, ready to be served."""

    name: str
    method: str
    path: str
    required: frozenset[str]
    body: bytes
    program: Program

    @classmethod
    def of(cls, endpoint: EndpointConfig, steps: Steps) -> _Route:
        method, path, size = endpoint["method"], endpoint["path"], endpoint["response_bytes"]
        body = b'"%s"' % (b"x" * (size - 2)) if size >= 2 else b"1" * size
        required = frozenset(endpoint["parameters"])
        return cls(f"{method} {path}", method, path, required, body, steps.compile(endpoint["steps"]))


class Service:
    """Serves one service's requests; one instance per process, since its metrics are the process's."""

    def __init__(self, config: ServiceConfig, session: aiohttp.ClientSession, tracer: Tracer | None) -> None:
        self._name, self._tracer = config["service"], tracer
        steps = Steps(config, session, tracer)
        routes = [_Route.of(endpoint, steps) for endpoint in config["endpoints"]]
        self._routes = {(route.method, route.path): route for route in routes}
        self._paths = {route.path for route in routes}
        self._in_flight = 0
        self._duration = Histogram(
            "http_server_request_duration_seconds",
            "Duration of requests served, by endpoint and status",
            ("endpoint", "status"),
            buckets=_BUCKETS_S,
        )
        gauge = Gauge("http_server_active_requests", "Requests in flight")
        gauge.set_function(lambda: self._in_flight)
        self._seen: dict[tuple[str, str, int], tuple[Histogram, Attributes]] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path, _, query = request.raw_path.partition("?")
        if path.startswith("/-/") or path == "/metrics":
            return await self._control(request.method, path)
        self._in_flight += 1
        try:
            return await self._measured(request, path, query)
        finally:
            self._in_flight -= 1

    async def _measured(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        start_ns, start_s = time_ns(), perf_counter()
        route = self._routes.get((request.method, path))
        tracer, parent, context = self._tracer, None, None
        if tracer is not None:
            header = request.headers.get("traceparent")
            parent = None if header is None else parse_traceparent(header)
            context = tracer.server_context(parent)
        exchange = Exchange(query, context, None if parent is None else request.headers.get("tracestate"))
        response, failure = await self._answer(route, request.method, path, exchange)

        method = request.method if request.method in METH_ALL else "_OTHER"
        name = method if route is None else route.name
        duration, attributes = self._by_outcome(name, method, path if route else "", response.status)
        duration.observe(perf_counter() - start_s)
        if tracer is not None and context is not None:
            tracer.end(name, SpanKind.SERVER, context, parent, start_ns, attributes, failure)
        return response

    async def _answer(
        self, route: _Route | None, method: str, path: str, exchange: Exchange
    ) -> tuple[web.Response, str | None]:
        """Return the answer, and for a failure of the server's what went wrong."""
        if route is None:
            return self._refuse(405 if path in self._paths else 404, f"no endpoint {method} {path}"), None
        if route.required:
            missing = route.required - _names(exchange.query)
            if missing:
                return self._refuse(400, f"{route.name} requires {', '.join(sorted(missing))}"), None
        try:
            await route.program(exchange)
        except PeerError as error:
            return self._refuse(502, str(error)), str(error)
        except Exception as error:
            traceback.print_exc()
            return self._refuse(500, repr(error)), repr(error)
        return web.Response(body=route.body, content_type="application/json"), None

    def _refuse(self, status: int, what: str) -> web.Response:
        return web.json_response({"service": self._name, "error": what}, status=status)

    def _by_outcome(self, name: str, method: str, path: str, status: int) -> tuple[Histogram, Attributes]:
        """Return the histogram and the span attributes of an outcome; there are only so many of them."""
        key = (name, path, status)
        if key not in self._seen:
            attributes: Attributes = {"http.request.method": method, "http.response.status_code": status}
            if path:
                attributes["url.path"] = path
            self._seen[key] = (self._duration.labels(name if path else "unknown", str(status)), attributes)
        return self._seen[key]

    async def _control(self, method: str, path: str) -> web.Response:
        if path == "/metrics":
            return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
        if path == "/-/ready":
            return web.json_response({"service": self._name, "pid": os.getpid()})
        if path == "/-/inflight":
            return web.json_response({"in_flight": self._in_flight})
        if path == "/-/flush":
            return await self._flush() if method == "POST" else self._refuse(405, "flush with POST")
        return self._refuse(404, f"no {path}")

    async def _flush(self) -> web.Response:
        if self._tracer is None:
            return web.json_response({"spans_exported": 0, "spans_dropped": 0, "complete": True})
        result = await asyncio.get_running_loop().run_in_executor(None, self._tracer.flush)
        return web.json_response(asdict(result), status=200 if result.complete else 503)


def _names(query: str) -> frozenset[str]:
    """Return the names of a query's parameters."""
    if not query:
        return _NO_QUERY
    return frozenset(unquote_plus(pair.partition("=")[0]) for pair in query.split("&"))


def _unserved(config: ServiceConfig) -> str:
    """Say what this server cannot do of a configuration, empty if nothing."""
    limits = {"threads", "workers", "queue", "faults"} & config.keys()
    peers = {key for peer in config["peers"].values() for key in peer if key != "urls" or len(peer["urls"]) > 1}
    paths = {endpoint["path"] for endpoint in config["endpoints"] if "{" in endpoint["path"]}
    steps = {key for endpoint in config["endpoints"] for step in endpoint["steps"] for key in _unknown_keys(step)}
    return ", ".join(sorted(limits | peers | paths | steps))


def _unknown_keys(step: StepConfig) -> Iterator[str]:
    known = {"probability", "cpu_us", "wait", "call", "parallel"}
    yield from step.keys() - known
    yield from step.get("wait", {}).keys() & {"pareto_ms", "empirical_ms"}
    yield from step.get("call", {}).keys() & {"timeout_ms", "retries", "request_bytes"}
    for group in step.get("parallel", ()):
        for inner in group:
            yield from _unknown_keys(inner)


async def serve(config: ServiceConfig) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status (1 where the port cannot be had)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600, ssl=False)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    ) as session:
        service = Service(config, session, configured(config))
        server = web.Server(service.handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, config["host"], config["port"], backlog=1024).start()
        except OSError as error:
            where = f"{config['host']}:{config['port']}"
            print(f"{config['service']}: cannot listen on {where}: {error.strerror}", file=sys.stderr)
            return 1
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)  # finished spans wait for a flush: do not walk them again and again
        await stop.wait()
        await runner.cleanup()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the service that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pytest_aefm.mesh.server", description="Serve one service")
    parser.add_argument("--config", type=Path, required=True, help="resolved service, JSON")
    path: Path = parser.parse_args(arguments).config
    try:
        config: ServiceConfig = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{path}: not a resolved service: {error}", file=sys.stderr)
        return 2
    if unserved := _unserved(config):
        print(f"{config['service']}: not served yet: {unserved}", file=sys.stderr)
        return 2
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        status = runner.run(serve(config))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a thread that still exports would hold the exit up


if __name__ == "__main__":
    sys.exit(main())
