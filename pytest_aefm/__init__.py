"""pytest-aefm: microservice performance experiments as tests."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AefmError": "errors",
    "Broken": "errors",
    "Case": "model",
    "ConfigurationError": "errors",
    "Experiment": "experiment",
    "Inconclusive": "errors",
    "InvalidMeasurement": "errors",
    "LatencyHistogram": "histogram",
    "NoData": "errors",
    "SLO": "slo",
    "SLOViolated": "errors",
    "Trial": "model",
    "Verdict": "model",
    "Window": "model",
    "run_trial": "trial",
}

__all__ = sorted(["__version__", *_HOMES])

__version__ = "0.3.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"pytest_aefm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pytest_aefm' has no attribute {name!r}")
