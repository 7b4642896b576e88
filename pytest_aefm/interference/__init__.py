"""Disturbances: what is asked for becomes programs to run, and two readings become a proof of what was delivered.

Pure, apart from asking which programs are installed: starting, placing and reading belongs to the testbeds.
"""

from __future__ import annotations

from pytest_aefm.interference.kinds import (
    KINDS,
    Host,
    Stressor,
    asked_for,
    check,
    filling_s,
    made_by_programs,
    memory_bytes,
    plan,
    program_of,
    unfit,
)
from pytest_aefm.interference.proof import MINIMUM_SHARE, StressorReading, Traffic, WorkerReading, lacking, prove
from pytest_aefm.interference.tools import Tool, find_iperf3, find_stress_ng

__all__ = [
    "KINDS",
    "MINIMUM_SHARE",
    "Host",
    "Stressor",
    "StressorReading",
    "Tool",
    "Traffic",
    "WorkerReading",
    "asked_for",
    "check",
    "filling_s",
    "find_iperf3",
    "find_stress_ng",
    "lacking",
    "made_by_programs",
    "memory_bytes",
    "plan",
    "program_of",
    "prove",
    "unfit",
]
