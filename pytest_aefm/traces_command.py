"""``aefm traces``: what files of traces say, for people as tables, for programs as JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pytest_aefm.collectors.trace_files import read_trace_files
from pytest_aefm.collectors.trace_statistics import (
    audit,
    edge_rows,
    end_to_end,
    operation_rows,
    pod_rows,
    service_rows,
    skew_rows,
)
from pytest_aefm.collectors.traces import TraceAnalysis, analyse

__all__ = ["show_traces"]

Rows = list[dict[str, Any]]
# What the tables of the terminal show: the rows' columns, and how they are headed.
_SERVICES = {
    "service": "service",
    "requests": "requests",
    "error_share": "errors",
    "duration_p50_ms": "p50",
    "duration_p99_ms": "p99",
    "self_p50_ms": "self p50",
    "self_p95_ms": "self p95",
    "self_p99_ms": "self p99",
    "fan_out": "calls",
    "parallelism": "at once",
    "critical_share": "critical",
}
_OPERATIONS = {
    "service": "service",
    "operation": "operation",
    "spans": "spans",
    "error_share": "errors",
    "duration_p50_ms": "p50",
    "duration_p99_ms": "p99",
    "self_p50_ms": "self p50",
    "self_p99_ms": "self p99",
    "critical_share": "critical",
}
_EDGES = {
    "caller": "caller",
    "callee": "callee",
    "calls": "calls",
    "rate_rps": "per s",
    "error_share": "errors",
    "latency_p50_ms": "p50",
    "latency_p95_ms": "p95",
    "latency_p99_ms": "p99",
    "transit_p50_ms": "transit p50",
}
_SKEW = {"caller": "caller", "callee": "callee", "pod": "pod", "spans": "spans", "behind_ms": "behind by"}
_ODD = {
    "rootless": "traces without a root, left out: where they began is not known",
    "orphans": "spans whose parent is missing: taken as requests whose caller is not known",
    "duplicates": "spans that were there already, left out",
    "cyclic": "spans that are their own ancestors, or beneath such: left out of all times",
    "skewed": "spans not inside their parent: cut off there; clocks that disagree, or work that nobody waits for",
    "inverted": "spans that end before they begin: taken as empty",
}
_MOST_ROWS = 30


def show_traces(paths: Iterable[Path], form: str, out: TextIO | None = None) -> None:
    """Write what the files say: ``form`` is ``table``, ``json`` or ``csv`` (one table, a row per figure).

    Raises:
        CollectorError: a file cannot be read, or is malformed.
    """
    out = out or sys.stdout
    analysis = analyse(read_trace_files(paths))
    if form == "table":
        _write_tables(analysis, out)
        return
    document = _document(analysis)
    if form == "json":
        json.dump(document, out, indent=1)
        out.write("\n")
    else:
        _write_csv(document, out)


def _document(analysis: TraceAnalysis) -> dict[str, Any]:
    return {
        "audit": audit(analysis),
        "end_to_end": end_to_end(analysis),
        "services": service_rows(analysis),
        "pods": pod_rows(analysis),
        "operations": operation_rows(analysis),
        "edges": edge_rows(analysis),
        "skew": skew_rows(analysis),
    }


def _write_csv(document: Mapping[str, Any], out: TextIO) -> None:
    """Write all figures in one table: of what they are, which it is, and its value."""
    names = ("service", "pod", "operation", "caller", "callee")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", *names, "figure", "value"))
    for table, content in document.items():
        for row in content if isinstance(content, list) else [content]:
            of = [row.get(name, "") for name in names]
            figures = ((name, value) for name, value in row.items() if name not in names and value is not None)
            writer.writerows((table, *of, name, value) for name, value in figures)


def _write_tables(analysis: TraceAnalysis, out: TextIO) -> None:
    seen, latency = audit(analysis), end_to_end(analysis)
    out.write(f"{seen['traces']:,} traces of {seen['spans']:,} spans over {analysis.duration_s:.3g} s")
    if seen["traces"]:
        points = ", ".join(
            f"{name} {_cell(name, latency[f'{name}_ms'])}" for name in ("p50", "p90", "p95", "p99", "max")
        )
        out.write(f"\nend to end, ms: {points}; {latency['error_share']:.2%} errors\n")
        _write_table(
            "services, by their share of the critical path (times in ms)", _SERVICES, service_rows(analysis), out
        )
        _write_table("operations", _OPERATIONS, operation_rows(analysis), out)
        _write_table("calls, as the caller sees them", _EDGES, edge_rows(analysis), out)
    out.write("\n")
    odd = [f"{seen[name]:>9,}  {text}\n" for name, text in _ODD.items() if seen[name]]
    out.write("audit\n" + "".join(odd) if odd else "audit: nothing is odd\n")
    _write_table("callees that begin before they are called (clocks, in ms)", _SKEW, skew_rows(analysis), out)


def _write_table(title: str, columns: Mapping[str, str], rows: Rows, out: TextIO) -> None:
    if not rows:
        return
    cells = [[_cell(name, row[name]) for name in columns] for row in rows[:_MOST_ROWS]]
    texts = [all(isinstance(row[name], str) for row in rows) for name in columns]
    out.write(f"\n{title}\n" + _table([list(columns.values()), *cells], texts))
    if len(rows) > _MOST_ROWS:
        out.write(f"... and {len(rows) - _MOST_ROWS} more: --json and --csv have all of them\n")


def _table(lines: Sequence[Sequence[str]], texts: Sequence[bool]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, texts, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value or "?"
    if name.endswith("share"):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
