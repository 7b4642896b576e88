"""Who else ran on the services' cores: told from counters, and found among real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from pytest_aefm.testbeds.local_counters import read_ticks
from pytest_aefm.testbeds.local_foreign import CpuUse, foreign_check, read_cpu_use

BEFORE = CpuUse(cpus=2, busy_s=100.0, own_s={10: 5.0}, others_s={})


@pytest.mark.parametrize(
    ("busy_s", "own_s", "share", "ok", "warning"),
    [
        (104.0, 9.0, 0.0, True, False),  # all of it is ours
        (104.0, 9.5, 0.0, True, False),  # ticks count less than the clock: no negative share
        (105.0, 9.0, 0.05, True, False),  # within what counting in ticks can be wrong
        (106.4, 9.0, 0.12, False, True),
        (110.0, 9.0, 0.3, False, False),
    ],
)
def test_what_is_not_ours_is_foreign(busy_s: float, own_s: float, share: float, ok: bool, warning: bool) -> None:
    """The share of the cores' time that the experiment's own processes did not use decides."""
    check = foreign_check(BEFORE, replace(BEFORE, busy_s=busy_s, own_s={10: own_s}), elapsed_s=10.0)
    assert check is not None
    assert share == pytest.approx(check.observed)
    assert (ok, warning) == (check.ok, check.warning)


def test_a_process_of_ours_that_began_counts_whole() -> None:
    """What a process of the experiment used since its start is no foreign load."""
    check = foreign_check(BEFORE, replace(BEFORE, busy_s=108.0, own_s={10: 5.0, 11: 8.0}), elapsed_s=10.0)
    assert check is not None
    assert 0 == check.observed


def test_nothing_is_known_where_a_process_of_ours_ended() -> None:
    """The kernel forgets what an ended process used: a service that dies is not blamed on others."""
    assert foreign_check(BEFORE, replace(BEFORE, busy_s=110.0, own_s={}), elapsed_s=10.0) is None


def test_the_busiest_process_is_named() -> None:
    """A check that fails or warns says whom to look at."""
    after = replace(BEFORE, busy_s=110.0, own_s={10: 5.0}, others_s={1: 0.5, os.getpid(): 9.0})
    check = foreign_check(BEFORE, after, elapsed_s=10.0)
    assert check is not None
    assert f"pid {os.getpid()})" in check.message


def test_a_neighbour_is_found_among_real_processes() -> None:
    """What a program that spins on a core uses there is foreign, or the experiment's own if it is one of its own."""
    core = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            os.sched_setaffinity(neighbour.pid, {core})
            before, start = read_cpu_use([os.getpid()], {core}, read_ticks({core})), time.monotonic()
            time.sleep(2.0)
            after = read_cpu_use([os.getpid()], {core}, read_ticks({core}))
            check = foreign_check(before, after, time.monotonic() - start)
            own = read_cpu_use([os.getpid(), neighbour.pid], {core}, read_ticks({core}))
        finally:
            neighbour.kill()
    assert check is not None
    assert not check.ok, "on a busy machine for what others took of the core"
    assert after.others_s[neighbour.pid] > 0
    assert neighbour.pid in own.own_s
    assert neighbour.pid not in own.others_s
