"""Is an environment (application and interference level) as it was when it converged? Asked before each case."""

from __future__ import annotations

import time
from typing import Protocol

from pytest_aefm.errors import DeploymentError

__all__ = ["Probed", "Settling", "limit_ms"]

BASELINE_REQUESTS, PROBE_REQUESTS = 10, 3
_FACTOR, _FLOOR_MS = 2.0, 5.0
_WAIT_S, _POLL_S = 10.0, 0.1


def limit_ms(baseline_ms: float) -> float:
    """Return how slow a probe may be: twice the environment's own p50, and 5 ms above it at least."""
    return max(_FACTOR * baseline_ms, baseline_ms + _FLOOR_MS)


class Probed(Protocol):
    """A deployed application, as far as it can be asked whether it is quiet."""

    def in_flight(self) -> int:
        """Return how many requests it has in flight.

        Raises:
            OSError: it does not say.
        """
        ...

    def probe_p50_ms(self, count: int) -> float:
        """Send its probe, the first smoke request, ``count`` times one after the other; return the median in ms.

        Raises:
            DeploymentError: one is not answered as it must be.
        """
        ...

    def ended(self) -> str:
        """Say which part of it has ended, so that no waiting helps; empty while all of it lives."""
        ...


class Settling:
    """Remembers each environment's p50 of its first ten probes, and holds later ones against it."""

    def __init__(self, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self.baselines_ms: dict[str, float] = {}
        self.probe_ms: float | None = None

    def facts(self, environment: str) -> dict[str, float | None]:
        """Return for the report what an environment's first probes took, and the last ones; None before there were."""
        found = {"baseline_p50_ms": self.baselines_ms.get(environment), "probe_p50_ms": self.probe_ms}
        return {name: None if value is None else round(value, 3) for name, value in found.items()}

    def wait(self, app: Probed, environment: str) -> str | None:
        """Wait until all is quiet; return None, or what was last seen if a service has ended or time is up."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                seen = self._look(app, environment)
            except (OSError, DeploymentError) as error:
                seen = str(error)
            if seen is None:
                return None
            if ended := app.ended():
                return ended
            if time.monotonic() > deadline:
                return f"{seen} (after {self._wait_s:g} s)"
            time.sleep(_POLL_S)

    def _look(self, app: Probed, environment: str) -> str | None:
        waiting = app.in_flight()
        if waiting:
            return f"{waiting} requests in flight; expected none"
        baseline = self.baselines_ms.get(environment)
        if baseline is None:
            self.probe_ms = self.baselines_ms[environment] = app.probe_p50_ms(BASELINE_REQUESTS)
            return None
        self.probe_ms = app.probe_p50_ms(PROBE_REQUESTS)
        if self.probe_ms <= limit_ms(baseline):
            return None
        return f"a probe takes {self.probe_ms:.1f} ms (p50); expected at most {limit_ms(baseline):.1f} ms"
