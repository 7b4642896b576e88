"""What a machine that does not hold still does to a measurement, and how often tests then measure again.

Such a trial is invalid by a self-check of :data:`NOISE`, which no test fails on purpose unless it says so; any other
verdict counts at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NOISE", "disturbed", "patience"]

NOISE = {"pacer lag p99", "start on time", "clock step", "steal", "pods read in time"}
"""Self-checks that fail by themselves where a machine is paused from outside."""

_PAUSES_S = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0)
"""A hypervisor may take its time for minutes on end."""


def patience() -> Iterator[bool]:
    """Yield for each time that a measurement may be tried whether it is the last; noise passes, so wait in between."""
    for number, pause_s in enumerate(_PAUSES_S, 1):
        time.sleep(pause_s)
        yield number == len(_PAUSES_S)


def disturbed(report: Path, noise: set[str] = NOISE) -> bool:
    """Return whether a trial of the report is invalid because the machine did not hold still."""
    document = json.loads(report.read_bytes()) if report.exists() else None
    trials = document["trials"] if isinstance(document, dict) else []
    return any(finding["subject"] in noise for trial in trials for finding in trial["findings"])
