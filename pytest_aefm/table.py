"""The table of cases at the end, and what was warned of: lines with their colours, as wide as there is room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["table_lines", "warning_lines"]

_MOST_ROWS = 40


def table_lines(
    trials: Iterable[dict[str, Any]], verbose: bool, width: int | None = None
) -> list[tuple[str, dict[str, bool]]]:
    """Return the table's lines with their colours: every non-pass, and at most 40 others without ``-v``.

    Where it is wider than ``width``, columns go whose values the case's id holds, too; then long ids are cut.
    """
    from pytest_aefm.report import table_rows  # needs what is heavy, and only where there are trials

    entries = list(trials)
    head, *rows = table_rows(entries)
    kept, others = [], 0
    for entry, row in zip(entries, rows, strict=True):
        passed = entry["verdict"] == "passed" and entry.get("outcome") in (None, "passed")
        others += passed
        if not passed or verbose or others <= _MOST_ROWS:
            kept.append((entry["verdict"] if passed or entry["verdict"] != "passed" else "failed", row))
    shown = _fit([head, *(row for _, row in kept)], width)
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    numeric = {"rate", "p50", "p99", "goodput"}

    def line(row: Sequence[str]) -> str:
        cells = zip(shown[0], row, widths, strict=True)
        return "  ".join(cell.rjust(w) if name in numeric else cell.ljust(w) for name, cell, w in cells).rstrip()

    colours = {"passed": {"green": True}, "inconclusive": {"yellow": True}}
    lines: list[tuple[str, dict[str, bool]]] = [(line(shown[0]), {"bold": True})]
    for (verdict, _), cells in zip(kept, shown[1:], strict=True):
        lines.append((line(cells), colours.get(verdict, {"red": True})))
    if len(kept) < len(rows):
        lines.append((f"... and {len(rows) - len(kept)} more that passed (-v shows them)", {}))
    return lines


def _fit(rows: Sequence[Sequence[str]], width: int | None) -> list[list[str]]:
    """Return the rows as they fit into ``width``."""
    fitted = [list(row) for row in rows]

    def excess() -> int:
        columns = list(zip(*fitted, strict=True))
        return 0 if width is None else sum(max(map(len, column)) for column in columns) + 2 * len(columns) - 2 - width

    for name in ("interference", "rate"):
        if excess() > 0:
            place = fitted[0].index(name)
            for row in fitted:
                del row[place]
    if (most := max(len(row[0]) for row in fitted) - excess()) >= 12:
        for row in fitted:
            if len(row[0]) > most:  # the beginning says which test, the end which case
                row[0] = f"{row[0][: most // 3]}...{row[0][len(row[0]) - most + most // 3 + 3 :]}"
    return fitted


def warning_lines(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each kind of self-check that only warns and did not hold: in how many trials, and its first."""
    found: dict[str, list[str]] = {}
    for entry in trials:
        for check in entry["checks"]:
            if check["warning"] and not check["ok"]:
                found.setdefault(check["name"], []).append(check["message"])
    return [f"{name}, {len(said)} of {len(trials)} trials: {said[0]}" for name, said in found.items()]
