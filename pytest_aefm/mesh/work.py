"""The unit of CPU work: a fixed number of iterations, never "spin until the clock says so".

Spinning on a clock would absorb the interference that an experiment is there to see.
"""

from __future__ import annotations

import platform

__all__ = ["WORK_VERSION", "work"]

# Iterations per microsecond hold for one loop on one interpreter: change the number when the loop changes.
WORK_VERSION = f"1 ({platform.python_implementation()} {platform.python_version()})"


def work(iterations: int) -> int:
    """Run ``iterations`` steps of integer arithmetic; the result only keeps the loop honest."""
    value = 1
    for _ in range(iterations):
        value = (value * 5 + 1) & 0xFFFF
    return value
