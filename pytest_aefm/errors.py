"""Every exception of the package, so that a caller can catch one name.

    AefmError                    the experiment could not be carried out (verdict: broken)
    ├── ConfigurationError       an experiment, marker, option or SLO is wrong; found before anything is deployed
    ├── DeploymentError          the application did not come up
    ├── InterferenceError        the disturbance did not start, or does not fit
    ├── LoadError                the load driver failed
    │   └── ScriptError          a Lua script has an error
    ├── DisruptionError          the cluster took a pod of ours away, or killed it (verdict: invalid)
    ├── CollectorError           a source of observations failed
    └── ReportError              a report or journal cannot be read or written
    VerdictError                 a finished trial did not pass; carries ``.trial``
    ├── SLOViolated              (AssertionError) an SLO does not hold
    ├── NoData                   (AssertionError) a metric that an SLO needs has no samples
    ├── Inconclusive             (AssertionError) the statistics cannot decide
    ├── InvalidMeasurement       a self-check of the apparatus failed
    └── Broken                   the experiment could not be carried out

A message reads *subject: what; expected; next step*.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AefmError",
    "Broken",
    "CollectorError",
    "ConfigurationError",
    "DeploymentError",
    "DisruptionError",
    "Inconclusive",
    "InterferenceError",
    "InvalidMeasurement",
    "LoadError",
    "NoData",
    "ReportError",
    "SLOViolated",
    "ScriptError",
    "VerdictError",
    "did_you_mean",
]


class AefmError(Exception):
    """The experiment could not be carried out.

    ``subject`` is what is wrong (a file and line where there is one), ``what`` is what was found, ``expected``
    what would be right, ``hint`` the next step. ``str()`` joins those that are given.
    """

    def __init__(self, subject: str, what: str, expected: str | None = None, hint: str | None = None) -> None:
        self.subject, self.what, self.expected, self.hint = subject, what, expected, hint
        tail = [f"expected {expected}" if expected else None, hint]
        super().__init__("; ".join([f"{subject}: {what}", *(part for part in tail if part)]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.subject, self.what, self.expected, self.hint)


class ConfigurationError(AefmError):
    """An experiment, a marker, an option or an SLO is wrong; nothing was deployed."""


class DeploymentError(AefmError):
    """The application did not come up, or could not be reached."""


class InterferenceError(AefmError):
    """The disturbance did not start, or the machine cannot hold it."""


class LoadError(AefmError):
    """The load driver failed."""


class ScriptError(LoadError):
    """A Lua script has an error; the subject is its file and line."""


class DisruptionError(AefmError):
    """The cluster took a pod of load or interference away, or killed it: the apparatus failed, not the experiment."""


class CollectorError(AefmError):
    """A source of observations failed."""


class ReportError(AefmError):
    """A report or a journal cannot be read or written."""


class VerdictError(Exception):
    """A finished trial did not pass; ``trial`` is the :class:`~pytest_aefm.model.Trial`."""

    def __init__(self, message: str, trial: Any = None) -> None:
        super().__init__(message)
        self.trial = trial

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.trial)


class SLOViolated(VerdictError, AssertionError):
    """An SLO does not hold."""


class NoData(VerdictError, AssertionError):
    """A metric that an SLO needs has no samples."""


class Inconclusive(VerdictError, AssertionError):
    """The statistics cannot decide an SLO."""


class InvalidMeasurement(VerdictError):
    """The apparatus cannot be trusted: a self-check failed."""


class Broken(VerdictError):
    """Deployment, testbed, driver, script or configuration failed."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return ``"did you mean 'x'?"`` for the nearest known name, or None where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f"did you mean {near[0]!r}?" if near else None
