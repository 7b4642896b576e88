"""What the benchmarks share: an experiment in a folder of its own, run by the pytest beside this interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["promise", "trials"]

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
