"""How the replicas of a local application are asked for faults."""

from __future__ import annotations

import json
from functools import partial

from pytest_aefm.mesh.resolved import FaultsConfig, FaultsReport
from pytest_aefm.testbeds import local_probe as probe
from pytest_aefm.testbeds.faults import Ask, Replicas, report_of
from pytest_aefm.testbeds.local_app import LocalApp, ServiceProcess

__all__ = ["replicas_of"]

_ASK_S = 2.0


def replicas_of(app: LocalApp | None) -> Replicas:
    """Return all replicas of an application, none where there is no application."""
    found: dict[str, dict[str, Ask]] = {}
    for one in app.services.values() if app is not None else ():
        found.setdefault(one.service, {})[one.name] = partial(_ask, one)
    return found


def _ask(replica: ServiceProcess, config: FaultsConfig | None) -> FaultsReport | str:
    method, body = ("GET", None) if config is None else ("POST", json.dumps(config).encode())
    try:
        status, text = probe.send(replica.port, method, "/-/faults", _ASK_S, body)
        return report_of(json.loads(text)) if status == 200 else f"status {status}: {text[:200]!r}"
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
