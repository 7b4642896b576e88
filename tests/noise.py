"""What a machine that does not hold still does to a measurement, and how often tests then measure again.

Such a trial is invalid by a self-check of :data:`NOISE`, which no test fails on purpose unless it says so; any other
verdict counts at once. A test that runs alone and fails while a hypervisor took more of a core than the local
testbed lets pass without a warning is void, as a benchmark's run is, and runs again; the summary names it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from pytest_aefm.testbeds.local_counters import read_ticks, steal_share
from pytest_aefm.testbeds.local_marks import STEAL_WARN

__all__ = ["NOISE", "VoidRuns", "disturbed", "patience"]

NOISE = {"pacer lag p99", "start on time", "clock step", "steal", "pods read in time"}
"""Self-checks that fail by themselves where a machine is paused from outside."""

_VOID = "void run"

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


class VoidRuns:
    """Run a test that is marked ``alone`` again where a hypervisor took the machine away while it failed."""

    @pytest.hookimpl
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run the test until a run counts, at most as often as patience lasts, and report that run."""
        if item.get_closest_marker("alone") is None:
            return None
        void: list[str] = []
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for last in patience():
            before = read_ticks(os.sched_getaffinity(0))
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            steal = steal_share(before, read_ticks(os.sched_getaffinity(0)))
            if last or steal <= STEAL_WARN or not any(report.failed for report in reports):
                break
            void.append(f"{item.nodeid} failed while a hypervisor took {steal:.1%} of a core")
        reports[-1].user_properties += [(_VOID, text) for text in void]
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the runs that did not count."""
        reports = [report for found in terminalreporter.stats.values() for report in found]
        void = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == _VOID]
        if void:
            terminalreporter.section("void runs")
            for text in void:
                terminalreporter.write_line(text)
