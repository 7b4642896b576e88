"""The report: a fold over messages, the same live and from a journal. Entries are plain JSON values.

Messages are ``{"kind": "run" | "phase" | "trial" | "outcome" | "end", ...}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_aefm.comparison import with_growth
from pytest_aefm.errors import ReportError
from pytest_aefm.judgement import format_value
from pytest_aefm.model import Case, LoadResult, Trial, as_json
from pytest_aefm.redaction import redact

__all__ = [
    "SCHEMA_VERSION",
    "Report",
    "broken_entry",
    "check_writable",
    "identity",
    "table_rows",
    "trial_entry",
    "write_report",
]

SCHEMA_VERSION = 1

_NAMES = ("id", "nodeid", "case", "experiment", "app", "factors")
"""What tells trials apart: no secret, whatever it looks like."""


def trial_entry(trial: Trial, *, nodeid: str, worker: str | None = None) -> dict[str, Any]:
    """Return the report's entry of a trial; ``outcome`` and ``message`` follow with the test's own report."""
    case = trial.case
    entry = {
        "id": identity(nodeid),
        "nodeid": nodeid,
        "case": case.id,
        "worker": worker,
        "attempt": trial.attempt,
        "experiment": case.experiment,
        "app": case.app.name,
        "testbed": case.testbed,
        "factors": dict(case.factors),
        "repeats": case.repeats,
        "seed": case.seed,
        "judged": case.judged,
        "verdict": trial.verdict,
        "reason": trial.reason,
        "findings": trial.findings,
        "started_wall_s": trial.started_wall_s,
        "window": trial.window,
        "load": _load_entry(trial.load, case) if trial.load else None,
        "metrics": trial.metrics,
        "slos": trial.slos,
        "checks": trial.checks,
        "interference": [
            {"kind": spec.kind, "count": spec.count, "cpu_size": spec.cpu_size, "mem_size": spec.mem_size}
            | ({"throughput": spec.throughput} if spec.throughput else {})
            | ({"dram": True} if spec.dram else {})
            | (
                {"service": spec.service, "delay_ms": spec.delay_ms, "fail_rate": spec.fail_rate}
                if spec.service
                else {}
            )
            for spec in case.interference
        ],
        "doses": trial.doses,
        "effect": trial.effect,
        "blame": trial.blame,
        "environment": trial.environment,
        "collectors": trial.collectors,
        "phases": trial.phases,
        "artifacts": trial.artifacts,
    }
    plain = as_json(entry)
    cleaned = redact(plain)
    assert isinstance(cleaned, dict)
    return cleaned | {name: plain[name] for name in _NAMES}


def _load_entry(load: LoadResult, case: Case) -> dict[str, Any]:
    return {
        "script": case.load.script,
        "driver": load.driver,
        "version": load.version,
        "rate_rps": case.load.rate_rps,
        "warmup_s": case.load.warmup_s,
        "timeout_s": case.load.timeout_s,
        "threads": case.load.threads,
        "seed": case.load.seed,
        "distribution": case.load.distribution,
        "schedule": case.load.schedule,
        "offered": load.offered,
        "sent": load.sent,
        "attempted": load.attempted,
        "achieved": load.achieved,
        "goodput": load.goodput,
        "error_rate": load.error_rate,
        "overloaded": load.overloaded,
        "outcomes": load.outcomes,
        "latency": load.latency,
        "tags": load.tags,
        "pacer_lag": load.pacer_lag,
        "backlog": load.backlog,
        "backlog_quarters": load.backlog_quarters,
        "backlog_at_end": load.backlog_at_end,
        "connections": {
            "asked": load.connections_asked,
            "reached": load.connections_reached,
            "opened": load.connections_opened,
        },
        "open_failures": load.open_failures,
        "threads_cpu": load.threads_cpu,
        "clock_step_s": load.clock_step_s,
        "drain_s": load.drain_s,
        "interrupted": load.interrupted,
        "ended_by": load.ended_by,
        "precision": load.precision,
        "abort": load.abort,
        "unknown": load.unknown,
        "details": load.details,
    }


def identity(nodeid: str) -> str:
    """Return what names a trial over runs: its node id without the group that xdist may append."""
    return re.sub(r"@[^\]@]*$", "", nodeid)


def broken_entry(context: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Return the entry of a trial that left nothing but the messages of its start (a worker that crashed)."""
    finding = {"verdict": "broken", "subject": context["phase"], "message": reason}
    return {**context["entry"], "attempt": context["attempt"], "reason": reason, "findings": [finding]}


class Report:
    """What a run has told so far."""

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.trials: list[dict[str, Any]] = []
        self.running: dict[tuple[str, str | None], dict[str, Any]] = {}

    def apply(self, message: Mapping[str, Any]) -> None:
        """Take in one message; unknown kinds are left to later versions."""
        kind = message["kind"]
        if kind in ("run", "end"):
            self.run |= message["run"]
        elif kind == "phase":
            key = message["nodeid"], message.get("worker")
            self.running[key] = {**self.running.get(key, {}), **message}
        elif kind == "testbed":
            self.run.setdefault("testbed", message["testbed"])
        elif kind == "trial":
            entry = dict(message["trial"])
            self.running.pop((entry["nodeid"], entry.get("worker")), None)
            self.trials.append(entry)
        elif kind == "outcome":
            self.running.pop((message["nodeid"], message.get("worker")), None)
            for entry in self.trials:
                if all(entry.get(name) == message.get(name) for name in ("nodeid", "worker", "attempt")):
                    entry["outcome"], entry["message"] = message["outcome"], message["message"]

    def document(self) -> dict[str, Any]:
        """Return the report as docs/report.schema.json has it."""
        redeployed = _redeployed(self.trials)
        trials = [
            {"outcome": None, "message": "", **entry}
            | ({"repeats": "redeployed"} if _point(entry) in redeployed else {})
            for entry in with_growth(self.trials)
        ]
        return {"schema": SCHEMA_VERSION, "run": self.run, "trials": trials}


def _point(entry: Mapping[str, Any]) -> str:
    """Return what repetitions of a point have in common: the test, and every factor but the round."""
    factors = {name: value for name, value in entry["factors"].items() if name != "round"}
    return json.dumps([entry["id"].partition("[")[0], entry.get("app"), factors], sort_keys=True)


def _redeployed(trials: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the points of which each repetition had a deployment of its own."""
    deployments: dict[str, list[tuple[Any, Any]]] = {}
    for entry in trials:
        generation = entry["environment"].get("generation")
        if entry.get("repeats") and generation is not None:
            deployments.setdefault(_point(entry), []).append((entry.get("worker"), generation))
    return {point for point, seen in deployments.items() if 1 < len(seen) == len(set(seen))}


def check_writable(path: Path, subject: str) -> None:
    """Make sure that a report can be written to ``path``, whose folder may be made; touch nothing that is there.

    Raises:
        ReportError: it cannot.
    """
    folder = path.parent
    if path.is_dir():
        raise ReportError(subject, f"{path} is a folder", "the path of a file")
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise ReportError(subject, f"{path} cannot be written: {folder} is no folder", "a folder")
    probe = folder / f".{path.name}.{os.getpid()}.probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ReportError(
            subject, f"{path} cannot be written: {error.strerror}", "a folder that can be written to"
        ) from error


def write_report(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report atomically: readers see the old one or the new one, never half.

    Raises:
        ReportError: it cannot be written; the old one is as it was.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise ReportError(str(path), f"cannot be written: {error.strerror}", "a writable folder with room") from error
    except (TypeError, ValueError) as error:
        raise ReportError(str(path), f"cannot be written: it is no JSON: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def table_rows(trials: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table of cases, the head first."""
    rows: list[tuple[str, ...]] = [("case", "rate", "interference", "p50", "p99", "goodput", "verdict")]
    for entry in trials:
        metrics, load = entry["metrics"], entry["load"]
        disturbed = " ".join(f"{item['kind']}={item['count']}" for item in entry["interference"]) or "-"
        verdict, outcome = entry["verdict"], entry.get("outcome")
        usual = {"broken": "error", "invalid": "error", "passed": "passed"}.get(verdict, "failed")
        remarks = [] if outcome in (None, usual) else [outcome]
        remarks += ["not judged"] if verdict == "passed" and not entry.get("judged", True) else []
        shown = f"{verdict} ({', '.join(remarks)})" if remarks else verdict
        rows.append(
            (
                entry["id"].rpartition("::")[2],
                f"{load['rate_rps']:g}/s" if load else "-",
                disturbed,
                format_value(metrics.get("p50"), "ms"),
                format_value(metrics.get("p99"), "ms"),
                format_value(metrics.get("goodput"), "share"),
                shown + (", overloaded" if metrics.get("overloaded") else ""),
            )
        )
    return rows
