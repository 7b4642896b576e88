"""What a verdict means to a caller: an exception, and the words that explain it."""

from __future__ import annotations

from pytest_aefm.errors import (
    AefmError,
    Broken,
    Inconclusive,
    InvalidMeasurement,
    NoData,
    SLOViolated,
    VerdictError,
)
from pytest_aefm.judgement import blame_lines, slo_table
from pytest_aefm.model import Trial, Verdict

__all__ = ["explain", "raise_for_verdict"]


def raise_for_verdict(trial: Trial, check: bool = True) -> None:
    """Raise what the verdict asks for, as ``subprocess.run(check=True)`` would; ``check=False`` leaves broken, invalid.

    Raises:
        Broken, InvalidMeasurement: always. SLOViolated, NoData, Inconclusive: with ``check``.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    kinds: dict[Verdict, type[VerdictError]] = {
        Verdict.BROKEN: Broken,
        Verdict.INVALID: InvalidMeasurement,
        Verdict.VIOLATED: SLOViolated,
        Verdict.NO_DATA: NoData,
        Verdict.INCONCLUSIVE: Inconclusive,
    }
    kind = kinds.get(trial.verdict)
    if kind is None or not (check or kind in (Broken, InvalidMeasurement)):
        return
    # An AefmError says in its message what is to be known; its traceback would be of the plugin.
    raise kind(explain(trial), trial) from (None if isinstance(trial.error, AefmError) else trial.error)


def explain(trial: Trial) -> str:
    """Say why a trial has its verdict: the reason first, then every further finding and the table of SLOs."""
    lines = [trial.reason]
    lines += [f"also {item.verdict}: {item.message}" for item in trial.findings if item.message != trial.reason]
    if trial.blame is not None:
        lines += blame_lines(trial.blame)
    if trial.verdict == Verdict.INVALID:
        lines.append("this says nothing of the application: measure again, or see what 'aefm doctor' says")
    if trial.slos:
        severity = list(Verdict)
        ordered = sorted(trial.slos, key=lambda result: severity.index(Verdict(result.verdict)))
        lines += ["", *(["not counted:"] if trial.verdict == Verdict.INVALID else []), slo_table(ordered)]
    return "\n".join(lines)
