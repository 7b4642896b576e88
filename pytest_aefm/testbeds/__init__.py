"""Testbeds: where applications run. A testbed *converges* to the state that a case wants.

What has not changed costs nothing; only ``kubernetes`` talks to an API server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pytest_aefm.collectors import Collector, Observations
from pytest_aefm.load import Driver, LoadRun
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Window, as_json

__all__ = ["Cluster", "Deployment", "Lease", "Node", "Testbed", "state_key"]


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster: its name, its roles (``testbed``, ``infra``, ``load``) and what is known of it."""

    name: str
    roles: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a testbed stands on: for the local testbed one node, this machine."""

    kind: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running application: its entry, and its services by name with what is known of each (``pid``, ``url``)."""

    app: str
    url: str
    services: Mapping[str, Mapping[str, Any]]
    description: str = ""
    generation: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)


def state_key(what: str, state: Any) -> str:
    """Return what tells a wanted state from any other: to remember what became of it."""
    return f"{what} {json.dumps(as_json(state), sort_keys=True)}"


class Lease(Protocol):
    """The right to measure somewhere, for which processes take turns."""

    def acquire(self, wait_s: float, tell: Callable[[str], None] = ..., /) -> None:
        """Take it, or wait for it; ``tell`` is told for whom.

        Raises:
            DeploymentError: it was not free within ``wait_s`` seconds; names its holder.
        """
        ...

    def release(self) -> None:
        """Give it to the next one; nothing happens if it is not held."""
        ...


class Testbed(Protocol):
    """A place where applications run; used from one thread, ``close`` also after any failure."""

    @property
    def kind(self) -> str:
        """``local`` or ``kubernetes``."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what is known of the machine or the cluster, for the report."""
        ...

    def check(self, case: Case) -> None:
        """Refuse what cannot run here, before anything is deployed.

        Raises:
            AefmError: a tool is missing, the application is unknown here, a dose does not fit.
        """
        ...

    def ensure_app(self, app: AppSpec) -> Deployment:
        """Converge to a healthy deployment of ``app``; whatever died since is deployed anew.

        Raises:
            DeploymentError: it did not come up; a second call for the same spec fails at once, naming the first.
        """
        ...

    def ensure_interference(self, specs: tuple[InterferenceSpec, ...]) -> None:
        """Converge to exactly this interference, confirmed to be running; an empty tuple removes all of it.

        Raises:
            InterferenceError: it did not start in time, or does not fit.
        """
        ...

    def settle(self) -> None:
        """Return once nothing is in flight and a probe answers as this environment usually does.

        Raises:
            DeploymentError: it does not, not even after a restart.
        """
        ...

    def start_load(self, driver: Driver, load: LoadSpec, script: Path, artifacts: Path) -> LoadRun:
        """Start a load run against the deployed application."""
        ...

    def mark(self) -> Any:
        """Read all counters now: called at both edges of the window; cheap (some milliseconds)."""
        ...

    def observe(self, before: Any, after: Any, window: Window) -> Observations:
        """Return what two marks say: usage, restarts, doses with proof and effect, self-checks."""
        ...

    def collectors(self, case: Case) -> Sequence[Collector]:
        """Return the collectors that this testbed offers for a case of the application deployed."""
        ...

    def vacate(self) -> None:
        """Stop interference and application, so that another process can measure; ``ensure_app`` deploys anew."""
        ...

    def close(self) -> tuple[str, ...]:
        """Remove everything; return what could not be removed. Never raises."""
        ...
