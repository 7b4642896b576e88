"""What cases cost: to plan very many, and to run one beyond its load when only the rate changes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from measuring import promise, trials

PLAN = """
import pytest

@pytest.mark.aefm(app="hotel", script="hotel/search.lua", rate=list(range(1, 101)), rounds=100, duration="60s",
                  slos=["goodput >= 99%"])
def test_it(aefm_run):
    aefm_run()
"""
PLAN_LIMIT_S, EXCESS_LIMIT_S = 5.0, 1.0


def plan_s() -> float:
    """Return how long the plan of 10,000 cases takes, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_it.py").write_text(PLAN)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "pytest", "--aefm-plan"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        took = time.perf_counter() - begin
    assert "10000 cases, about" in done.stdout, done.stdout[-500:]
    return took


def excesses_s() -> list[float]:
    """Return what each case but the first took beyond warm-up, duration and drain, in seconds."""
    warmup_s, duration_s = 1.0, 2.0
    ran = trials(
        f'app="hotel", script="hotel/search.lua", rate=list(range(10, 22)), warmup={warmup_s}, duration={duration_s}, '
        'order="cost", slos="none"'
    )
    return [
        late["started_wall_s"] - early["started_wall_s"] - warmup_s - duration_s - early["load"]["drain_s"]
        for early, late in pairwise(ran[1:])
        if early["load"]
    ]


def main() -> int:
    """Measure, and say whether the promises hold."""
    took, excesses = plan_s(), excesses_s()
    median = statistics.median(excesses)
    return not all(
        [
            promise(f"10,000 cases are planned in {took:.1f} s, less than {PLAN_LIMIT_S:g} s", took < PLAN_LIMIT_S),
            promise(
                f"{len(excesses)} cases cost {median:.2f} s (median; most {max(excesses):.2f} s) beyond their load, "
                f"at most {EXCESS_LIMIT_S:g} s",
                median <= EXCESS_LIMIT_S,
            ),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
