"""A topology file: its model as a whole, how it is read, and what a server of its services gets.

Every refusal names file, line and path. Nothing here serves anything.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.mesh.checks import contradictions
from pytest_aefm.mesh.fields import Strict
from pytest_aefm.mesh.model import Endpoint, Service, SmokeRequest
from pytest_aefm.mesh.resolved import ServiceConfig
from pytest_aefm.mesh.resolving import endpoint_config, peer_config, set_limits
from pytest_aefm.mesh.source import Location, YamlSource
from pytest_aefm.mesh.steps import Call

__all__ = ["Topology", "load_topology", "parse_topology"]


class Topology(Strict):
    """An application: its services, the one that users reach, and requests that show it works."""

    app: str
    """Name of the application."""
    description: str = ""
    """What it is; goes into reports."""
    entry: str
    """The service that users reach."""
    smoke: Annotated[tuple[SmokeRequest, ...], Field(min_length=1)]
    """Requests of the entry service that show that it works."""
    services: Annotated[dict[str, Service], Field(min_length=1)]
    """Its services by name: lower-case letters, digits, `-`."""

    _source: YamlSource = PrivateAttr(default_factory=lambda: YamlSource("topology", None))

    def scaled(self, replicas: Mapping[str, int]) -> Topology:
        """Return the topology with these numbers of replicas of some of its services.

        Raises:
            ConfigurationError: there is no such service, or a number is not 1 or more.
        """
        services = dict(self.services)
        for name, count in replicas.items():
            subject = f"app {self.app!r}: replicas.{name}"
            if name not in services:
                raise ConfigurationError(subject, "unknown service", None, did_you_mean(name, services))
            if count < 1:
                raise ConfigurationError(subject, f"{count} replicas", "1 or more")
            services[name] = services[name].model_copy(update={"replicas": count})
        return self.model_copy(update={"services": services}) if replicas else self

    def replicas(self, service: str) -> list[str]:
        """Return the names of a service's replicas: its own, or ``geo.1``, ``geo.2`` where there are several."""
        count = self.services[service].replicas
        return [service] if count == 1 else [f"{service}.{number}" for number in range(1, count + 1)]

    def processes(self) -> dict[str, str]:
        """Return the service of each replica by the replica's name, in the order of the file."""
        return {replica: service for service in self.services for replica in self.replicas(service)}

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
        faults: bool = False,
    ) -> dict[str, ServiceConfig]:
        """Return for each replica of each service, by the replica's name, the JSON that a program serving it reads.

        ``ports`` maps every replica to its port; ``otlp_endpoint`` is the full URL that takes traces
        (``http://127.0.0.1:4318/v1/traces``); each replica draws from a seed of its own, made of ``seed``; with
        ``faults`` it lets itself be disturbed at run time.

        Raises:
            ConfigurationError: a replica has no port.
        """
        for name in self.processes():
            if name not in ports:
                raise ConfigurationError(f"app {self.app!r}", f"service {name!r} has no port")
        configs: dict[str, ServiceConfig] = {}
        for name, service in self.processes().items():
            own = {"service.instance.id": name} if name != service else {}
            config = ServiceConfig(
                app=self.app,
                service=service,
                host=host,
                port=ports[name],
                peers={
                    peer: peer_config(
                        self.services[peer], [f"http://{host}:{ports[one]}" for one in self.replicas(peer)]
                    )
                    for peer in self.peers(service)
                },
                endpoints=[endpoint_config(one, self._takes_query) for one in self.services[service].endpoints],
                iterations_per_us=iterations_per_us,
                otlp_endpoint=otlp_endpoint,
                sample_ratio=sample_ratio,
                seed=(seed << 32) ^ zlib.crc32(name.encode()),
                labels={**(labels or {}), **own},
            )
            set_limits(config, self.services[service])
            if faults:
                config["faults"] = True
            configs[name] = config
        return configs

    def peers(self, service: str) -> list[str]:
        """Return the services that ``service`` calls, in order of first mention."""
        calls = (call for endpoint in self.services[service].endpoints for _, call in endpoint.calls())
        return list(dict.fromkeys(call.service for call in calls))

    def target(self, call: Call) -> Endpoint:
        """Return the endpoint that a call reaches."""
        endpoint = self.services[call.service].find(call.method, call.endpoint)
        assert endpoint is not None, "checked when the file was read"
        return endpoint

    def expected_spans(self, service: str, method: str, path: str) -> float:
        """Return the spans that one request makes in all services (a mean where steps have a probability).

        One server span per request served and one client span per call; where nothing fails.

        Raises:
            KeyError: there is no such endpoint.
        """
        endpoint = self.services[service].find(method, path)
        if endpoint is None:
            raise KeyError(f"{method} {path}")
        return self._spans(endpoint)

    def _spans(self, endpoint: Endpoint) -> float:
        return 1.0 + sum(often * (1.0 + self._spans(self.target(call))) for often, call in endpoint.calls())

    def _takes_query(self, call: Call) -> bool:
        return bool(self.target(call).parameters)


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
    for location, what, hint in contradictions(topology):
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
