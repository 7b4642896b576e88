"""Whoever is killed, nothing of a run is left 10 s later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_aefm.supervisor import descendants
from pytest_aefm.testbeds.local_counters import read_process

OWNER = """
import sys, time
from pathlib import Path
from pytest_aefm.model import AppSpec, InterferenceSpec
from pytest_aefm.testbeds.local import LocalTestbed

testbed = LocalTestbed(Path(sys.argv[1]), Path(sys.argv[2]))
testbed.ensure_app(AppSpec("hotel"))
testbed.ensure_interference((InterferenceSpec("cpu", 2, 1.5),))
print(testbed.supervisor.pid, flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_nothing_outlives_a_kill(victim: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGKILL of the process that owns a testbed, or of its supervisor, leaves no process 10 s later."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "run"), str(cache)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    try:
        supervisor = int(owner.stdout.readline())
        pids = [supervisor, *descendants(supervisor)]
        assert len(pids) > 12
        os.kill(owner.pid if victim == "owner" else supervisor, signal.SIGKILL)
        start = time.monotonic()
        while left := [pid for pid in pids if read_process(pid)]:
            assert time.monotonic() - start < 10, left
            time.sleep(0.05)
        print(f"{len(pids)} processes gone after {time.monotonic() - start:.1f} s")
    finally:
        owner.kill()
        owner.communicate()
