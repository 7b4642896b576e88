"""What the benchmarks share: an experiment in a folder of its own, run by the pytest beside this interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pytest_aefm.testbeds.local_counters import read_ticks
from pytest_aefm.testbeds.local_marks import STEAL_WARN

__all__ = ["promise", "trials", "undisturbed"]

T = TypeVar("T")

_TRIES = 6

_TEST = """
import pytest

@pytest.mark.aefm({marker})
def test_it(aefm_run):
    aefm_run(check=False)
"""


def trials(marker: str, *options: str) -> list[dict[str, Any]]:
    """Return the trials of an experiment, in the order in which they ran.

    Raises:
        SystemExit: it left no report; with what pytest said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_it.py").write_text(_TEST.format(marker=marker))
        done = subprocess.run([sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, text=True)
        report = folder / "aefm-report.json"
        if not report.exists():
            raise SystemExit(f"{done.stdout}\n{done.stderr}")
        found = json.loads(report.read_text())["trials"]
        return sorted(found, key=lambda trial: trial["started_wall_s"])


def promise(what: str, holds: bool) -> bool:
    """Print whether a promise holds; return it."""
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {what}", flush=True)
    return holds


def undisturbed(measure: Callable[[], T]) -> T:
    """Return what was measured while the host stole at most 3 % of the machine; what was is void, and done again.

    Raises:
        SystemExit: that did not come about.
    """
    for _ in range(_TRIES):
        before = _ticks()
        found = measure()
        steal, total = (late - early for early, late in zip(before, _ticks(), strict=True))
        if steal <= STEAL_WARN * total:
            return found
        print(f"void: {steal / total:.1%} of the machine's time was stolen", flush=True)
    raise SystemExit(f"void: more than {STEAL_WARN:.0%} was stolen, {_TRIES} times in a row")


def _ticks() -> tuple[int, int]:
    """Return the stolen and all ticks of the machine so far."""
    ticks = read_ticks(range(os.cpu_count() or 1)).values()
    return sum(one.stolen for one in ticks), sum(one.all for one in ticks)
