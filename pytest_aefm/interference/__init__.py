"""Disturbances: what is asked for becomes programs to run, and two readings become a proof of what was delivered.

Pure, apart from asking which stress-ng is installed: starting, placing and reading belongs to the testbeds.
"""

from __future__ import annotations

from pytest_aefm.interference.kinds import KINDS, Stressor, check, plan
from pytest_aefm.interference.proof import MINIMUM_SHARE, StressorReading, WorkerReading, prove
from pytest_aefm.interference.stress_ng import StressNg, find_stress_ng

__all__ = [
    "KINDS",
    "MINIMUM_SHARE",
    "StressNg",
    "Stressor",
    "StressorReading",
    "WorkerReading",
    "check",
    "find_stress_ng",
    "plan",
    "prove",
]
