"""The applications that experiments name: what they are, and where their topology lies. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, did_you_mean

__all__ = ["App", "find_app", "known_apps"]

_ROOT = Path(__file__).parent
_LOCAL = {
    "hotel": "A model of DeathStarBench's hotelReservation: the same call graph and HTTP requests, synthetic work "
    "and waits in place of its code and stores. It is not DeathStarBench.",
}
# AEFM 0.2.0 deploys these on Kubernetes; they have no topology here yet.
_WITHOUT_MODEL = ("media", "social", "train")


@dataclass(frozen=True)
class App:
    """An application with a local model; ``description`` belongs in every report of it."""

    name: str
    topology_path: Path
    description: str


def known_apps() -> tuple[str, ...]:
    """Return the names that ``find_app`` finds, sorted."""
    return tuple(sorted(_LOCAL))


def find_app(name: str) -> App:
    """Return an application by name.

    Raises:
        ConfigurationError: there is no such application, or no local model of it yet.
    """
    if name in _LOCAL:
        return App(name, _ROOT / name / "topology.yaml", _LOCAL[name])
    known = ", ".join(known_apps())
    if name in _WITHOUT_MODEL:
        raise ConfigurationError(f"app {name!r}", "has no local model yet", f"one of {known} on the local testbed")
    near = did_you_mean(name, (*known_apps(), *_WITHOUT_MODEL))
    raise ConfigurationError(f"app {name!r}", "unknown application", f"one of {known}", near)
