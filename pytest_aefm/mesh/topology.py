"""A topology file: its model as a whole, the checks across its parts, and what a server of a service gets.

Every refusal names file, line and path. Nothing here serves anything.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import Field, PrivateAttr, ValidationError

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.mesh.model import Call, Endpoint, Service, SmokeRequest, Step, Strict
from pytest_aefm.mesh.resolved import EndpointConfig, ServiceConfig, StepConfig
from pytest_aefm.mesh.source import Location, YamlSource

__all__ = ["Topology", "load_topology", "parse_topology"]


class Topology(Strict):
    """An application: its services, the one that users reach (``entry``), and requests that show it works."""

    app: str
    description: str = ""
    entry: str
    smoke: Annotated[tuple[SmokeRequest, ...], Field(min_length=1)]
    services: Annotated[dict[str, Service], Field(min_length=1)]

    _source: YamlSource = PrivateAttr(default_factory=lambda: YamlSource("topology", None))

    def resolve(
        self,
        ports: Mapping[str, int],
        *,
        iterations_per_us: float,
        otlp_endpoint: str | None = None,
        sample_ratio: float = 1.0,
        seed: int = 0,
        labels: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
    ) -> dict[str, ServiceConfig]:
        """Return for each service the JSON that a program serving it reads.

        ``ports`` maps every service to its port; ``otlp_endpoint`` is the full URL that takes traces
        (``http://127.0.0.1:4318/v1/traces``); each service draws from a seed of its own, made of ``seed``.

        Raises:
            ConfigurationError: a service has no port, or wants more than one replica.
        """
        for name, service in self.services.items():
            if service.replicas > 1:
                what = f"expected 1 replica, got {service.replicas}: one process per service for now"
                raise self._source.error(("services", name, "replicas"), what)
            if name not in ports:
                raise ConfigurationError(f"app {self.app!r}", f"service {name!r} has no port")
        return {
            name: ServiceConfig(
                app=self.app,
                service=name,
                host=host,
                port=ports[name],
                peers={peer: {"urls": [f"http://{host}:{ports[peer]}"]} for peer in self.peers(name)},
                endpoints=[self._endpoint(endpoint) for endpoint in service.endpoints],
                iterations_per_us=iterations_per_us,
                otlp_endpoint=otlp_endpoint,
                sample_ratio=sample_ratio,
                seed=(seed << 32) ^ zlib.crc32(name.encode()),
                labels=dict(labels or {}),
            )
            for name, service in self.services.items()
        }

    def peers(self, service: str) -> list[str]:
        """Return the services that ``service`` calls, in order of first mention."""
        calls = (call for endpoint in self.services[service].endpoints for call in _calls(endpoint.steps))
        return list(dict.fromkeys(call.service for call in calls))

    def expected_spans(self, service: str, method: str, path: str) -> float:
        """Return the spans that one request makes in all services (a mean where steps have a probability).

        One server span per request served and one client span per call.

        Raises:
            KeyError: there is no such endpoint.
        """
        endpoint = self.services[service].find(method, path)
        if endpoint is None:
            raise KeyError(f"{method} {path}")
        return 1.0 + self._spans(endpoint.steps)

    def _spans(self, steps: Iterable[Step]) -> float:
        total = 0.0
        for step in steps:
            if step.call is not None:
                call = step.call
                total += step.probability * (1 + self.expected_spans(call.service, call.method, call.endpoint))
            for group in step.parallel or ():
                total += step.probability * self._spans(group)
        return total

    def _endpoint(self, endpoint: Endpoint) -> EndpointConfig:
        return EndpointConfig(
            method=endpoint.method,
            path=endpoint.path,
            parameters=list(endpoint.parameters),
            response_bytes=endpoint.response_bytes,
            steps=[self._step(step) for step in endpoint.steps],
        )

    def _step(self, step: Step) -> StepConfig:
        config = StepConfig(probability=step.probability)
        if step.cpu_us is not None:
            config["cpu_us"] = step.cpu_us
        if step.wait is not None:
            config["wait"] = step.wait.model_dump(mode="json", exclude_none=True)  # type: ignore[typeddict-item]  # the same shape
        if step.call is not None:
            target = self.services[step.call.service].find(step.call.method, step.call.endpoint)
            config["call"] = {
                "service": step.call.service,
                "method": step.call.method,
                "path": step.call.endpoint,
                "forward_query": bool(target and target.parameters),
            }
        if step.parallel is not None:
            config["parallel"] = [[self._step(inner) for inner in group] for group in step.parallel]
        return config


def load_topology(path: Path | str) -> Topology:
    """Read a topology file and check it whole.

    Raises:
        ConfigurationError: what is wrong, with file, line and path in the file.
    """
    return _build(YamlSource.read(Path(path)))


def parse_topology(text: str, name: str = "topology.yaml") -> Topology:
    """Read a topology from text; ``name`` stands for the file in messages.

    Raises:
        ConfigurationError: what is wrong, with file, line and path in the file.
    """
    return _build(YamlSource.parse(text, name))


def _build(source: YamlSource) -> Topology:
    try:
        topology = Topology.model_validate(source.data)
    except ValidationError as error:
        details = error.errors()
        # A sequence that lost an item to an error is reported as too short as well.
        causes = [d for d in details if not any(_within(d["loc"], other["loc"]) for other in details)]
        problems = [_problem(detail, source) for detail in causes]
        raise min(problems, key=lambda problem: problem[0])[1] from None
    topology._source = source
    for location, what, hint in _faults(topology):
        raise source.error(location, what, hint)
    return topology


def _within(outer: Location, inner: Location) -> bool:
    return len(outer) < len(inner) and inner[: len(outer)] == outer


def _problem(detail: Any, source: YamlSource) -> tuple[int, ConfigurationError]:
    """Turn one of pydantic's errors into (line, error in our words)."""
    location: Location = detail["loc"]
    context = detail.get("ctx", {})
    hint = None
    if detail["type"] == "unknown_key":
        location, hint = (*location, context["key"]), context["hint"]
        what = "unknown key"
    elif detail["type"] == "missing":
        what = "is missing"
    elif detail["type"] == "refused":
        what = context["what"]
    else:
        expected = re.sub(r"^(Input|[A-Z]\w+) should (be|have|match) ", "", detail["msg"])
        what = f"expected {expected}, got {detail['input']!r}"
    return source.line(location), source.error(location, what, hint)


_Fault = tuple[Location, str, str | None]


def _faults(topology: Topology) -> Iterator[_Fault]:
    """Yield what is wrong between the parts of a file, the names first."""
    yield from _wrong_names(topology)
    for name, service in topology.services.items():
        for index, endpoint in enumerate(service.endpoints):
            location: Location = ("services", name, "endpoints", index)
            if service.find(endpoint.method, endpoint.path) is not endpoint:
                yield location, f"{endpoint.name} is there twice", None
            for where, call in _located_calls(endpoint.steps, (*location, "steps")):
                yield from _wrong_call(topology, endpoint, where, call)
    yield from _wrong_smoke(topology)
    yield from _cycles(topology)


def _wrong_names(topology: Topology) -> Iterator[_Fault]:
    for name in topology.services:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield ("services", name), "expected a name of lower-case letters, digits and '-'", None
    if topology.entry not in topology.services:
        yield ("entry",), *_unknown("service", topology.entry, topology.services)


def _wrong_call(topology: Topology, caller: Endpoint, where: Location, call: Call) -> Iterator[_Fault]:
    if call.service not in topology.services:
        yield (*where, "service"), *_unknown("service", call.service, topology.services)
        return
    service = topology.services[call.service]
    target = service.find(call.method, call.endpoint)
    if target is None:
        name = f"{call.method} {call.endpoint}"
        what, hint = _unknown(f"endpoint of {call.service}", name, [e.name for e in service.endpoints])
        yield (*where, "endpoint"), what, hint
        return
    for parameter in target.parameters:
        if parameter not in caller.parameters:
            what = f"{call.service} requires the parameter {parameter!r}, which {caller.name} does not"
            yield where, what, f"add {parameter!r} to the parameters of {caller.name}: a call hands on its query"


def _wrong_smoke(topology: Topology) -> Iterator[_Fault]:
    service = topology.services[topology.entry]
    for index, request in enumerate(topology.smoke):
        location = ("smoke", index, "path")
        path, _, query = request.path.partition("?")
        endpoint = service.find(request.method, path)
        if endpoint is None:
            name = f"{request.method} {path}"
            what, hint = _unknown(f"endpoint of {topology.entry}", name, [e.name for e in service.endpoints])
            yield location, what, hint
        elif request.expect < 400:
            given = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
            for parameter in endpoint.parameters:
                if parameter not in given:
                    yield location, f"the parameter {parameter!r} is missing, got {request.path!r}", None


def _cycles(topology: Topology) -> Iterator[_Fault]:
    """Yield the first call that closes a cycle of endpoints, found depth first."""
    done: set[str] = set()
    for name, service in topology.services.items():
        for endpoint in service.endpoints:
            yield from _walk(topology, name, endpoint, (), done)


def _walk(
    topology: Topology, service: str, endpoint: Endpoint, above: tuple[str, ...], done: set[str]
) -> Iterator[_Fault]:
    here = f"{service} {endpoint.name}"
    if here in done:
        return
    index = topology.services[service].endpoints.index(endpoint)
    steps: Location = ("services", service, "endpoints", index, "steps")
    for where, call in _located_calls(endpoint.steps, steps):
        target = topology.services[call.service].find(call.method, call.endpoint)
        there = f"{call.service} {call.method} {call.endpoint}"
        if target is None:
            continue
        if there in (*above, here):
            chain = [*above, here, there]
            yield where, f"calls in a circle: {' -> '.join(chain[chain.index(there) :])}", None
            return
        yield from _walk(topology, call.service, target, (*above, here), done)
    done.add(here)


def _unknown(what: str, name: str, known: Iterable[str]) -> tuple[str, str | None]:
    names = list(known)
    return f"unknown {what} {name!r}", did_you_mean(name, names) or f"known: {', '.join(names)}"


def _calls(steps: Iterable[Step]) -> Iterator[Call]:
    return (call for _, call in _located_calls(steps, ()))


def _located_calls(steps: Iterable[Step], location: Location) -> Iterator[tuple[Location, Call]]:
    for index, step in enumerate(steps):
        if step.call is not None:
            yield (*location, index, "call"), step.call
        for number, group in enumerate(step.parallel or ()):
            yield from _located_calls(group, (*location, index, "parallel", number))
