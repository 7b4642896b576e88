"""What can be wrong between the parts of a topology file: names, calls, parameters, circles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pytest_aefm.errors import did_you_mean
from pytest_aefm.mesh.fields import path_parameters
from pytest_aefm.mesh.model import Endpoint, Service
from pytest_aefm.mesh.source import Location
from pytest_aefm.mesh.steps import Cache, Call, Step

if TYPE_CHECKING:
    from pytest_aefm.mesh.topology import Topology

__all__ = ["Contradiction", "contradictions"]

Contradiction = tuple[Location, str, str | None]
"""Where, what is wrong, a hint."""


def contradictions(topology: Topology) -> Iterator[Contradiction]:
    """Yield what is wrong between the parts of a file, the names first."""
    yield from _wrong_names(topology)
    for name, service in topology.services.items():
        for index, endpoint in enumerate(service.endpoints):
            location: Location = ("services", name, "endpoints", index)
            if _twin(service, index):
                yield location, f"{endpoint.name} is there twice", None
            for where, step in _located(endpoint.steps, (*location, "steps")):
                if step.call is not None:
                    yield from _wrong_call(topology, endpoint, (*where, "call"), step.call)
                if step.cache is not None:
                    yield from _wrong_cache(service, endpoint, (*where, "cache"), step.cache)
    yield from _wrong_smoke(topology)
    yield from _cycles(topology)


def _twin(service: Service, index: int) -> bool:
    """Whether an endpoint before this one takes the same requests."""
    mine = service.endpoints[index]
    shape = re.sub(r"\{\w+\}", "{}", mine.name)
    return any(shape == re.sub(r"\{\w+\}", "{}", one.name) for one in service.endpoints[:index])


def _wrong_names(topology: Topology) -> Iterator[Contradiction]:
    for name in topology.services:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            yield ("services", name), "expected a name of lower-case letters, digits and '-'", None
    if topology.entry not in topology.services:
        yield ("entry",), *_unknown("service", topology.entry, topology.services)


def _wrong_call(topology: Topology, caller: Endpoint, where: Location, call: Call) -> Iterator[Contradiction]:
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
    for parameter in path_parameters(call.endpoint):
        if parameter not in caller.known_parameters:
            what = f"the parameter {parameter!r} is none of {caller.name}"
            yield (*where, "endpoint"), what, f"write a value, or add {parameter!r} to its path or parameters"
    for parameter in target.parameters:
        if parameter not in caller.parameters:
            what = f"{call.service} requires the parameter {parameter!r}, which {caller.name} does not"
            yield where, what, f"add {parameter!r} to the parameters of {caller.name}: a call hands on its query"


def _wrong_cache(service: Service, endpoint: Endpoint, where: Location, cache: Cache) -> Iterator[Contradiction]:
    if cache.key is not None and cache.key not in endpoint.known_parameters:
        yield (*where, "key"), *_unknown(f"parameter of {endpoint.name}", cache.key, endpoint.known_parameters)
    if not cache.name:
        return
    for other in service.endpoints:
        for _, step in _located(other.steps, ()):
            known = step.cache
            if known is not None and known.name == cache.name and known.capacity != cache.capacity:
                yield (*where, "capacity"), f"the cache {cache.name!r} has two capacities", None
                return


def _wrong_smoke(topology: Topology) -> Iterator[Contradiction]:
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


def _cycles(topology: Topology) -> Iterator[Contradiction]:
    """Yield the first call that closes a cycle of endpoints, found depth first."""
    done: set[str] = set()
    for name, service in topology.services.items():
        for endpoint in service.endpoints:
            yield from _walk(topology, name, endpoint, (), done)


def _walk(
    topology: Topology, service: str, endpoint: Endpoint, above: tuple[str, ...], done: set[str]
) -> Iterator[Contradiction]:
    here = f"{service} {endpoint.name}"
    if here in done:
        return
    index = topology.services[service].endpoints.index(endpoint)
    steps: Location = ("services", service, "endpoints", index, "steps")
    for where, step in _located(endpoint.steps, steps):
        call = step.call
        target = topology.services[call.service].find(call.method, call.endpoint) if call else None
        if call is None or target is None:
            continue
        there = f"{call.service} {target.name}"
        if there in (*above, here):
            chain = [*above, here, there]
            yield (*where, "call"), f"calls in a circle: {' -> '.join(chain[chain.index(there) :])}", None
            return
        yield from _walk(topology, call.service, target, (*above, here), done)
    done.add(here)


def _unknown(what: str, name: str, known: Iterable[str]) -> tuple[str, str | None]:
    names = list(known)
    return f"unknown {what} {name!r}", did_you_mean(name, names) or f"known: {', '.join(names) or 'none'}"


def _located(steps: Iterable[Step], location: Location) -> Iterator[tuple[Location, Step]]:
    """Yield all steps, those within others as well, with where they stand."""
    for index, step in enumerate(steps):
        yield (*location, index), step
        for where, group, _ in step.groups():
            yield from _located(group, (*location, index, *where))
