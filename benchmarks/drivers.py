"""One experiment by aefm-wrk and by wrk2: the same application, and what each can tell of it."""

from __future__ import annotations

import os
import sys

from measuring import promise, trials

MARKER = 'app="hotel", script="hotel/search.lua", rate=40, warmup=2, duration=10, connections=1, slos="none"'
NEAR, TIMERS_MS = 0.1, 1.5  # docs/wrk2.md has the second, and why


def main() -> int:
    """Measure, and say whether both see the same: all answered, medians apart by what wrk2's timers add."""
    wrk2 = os.environ.get("AEFM_TEST_WRK2")
    if not wrk2:
        print("skipped: AEFM_TEST_WRK2 names no wrk2")
        return 0
    seen = {}
    for name, options in (("aefm-wrk", ()), ("wrk2", (f"--aefm-wrk={wrk2}",))):
        (trial,) = trials(MARKER, *options)
        seen[name] = trial["metrics"]
        known = ", ".join(f"{key} {seen[name][key]}" for key in ("p50", "p99", "goodput") if key in seen[name])
        print(f"{name}: {known}; not known: {', '.join(trial['load']['unknown']) or 'nothing'}")
    ours, theirs = seen["aefm-wrk"], seen["wrk2"]
    near = (1 - NEAR) * ours["p50"] <= theirs["p50"] <= (1 + NEAR) * ours["p50"] + TIMERS_MS
    answered = ours["goodput"] == theirs["goodput"] == 1.0
    text = f"wrk2's median within {NEAR:.0%} of ours, and up to {TIMERS_MS:g} ms that its timers add; all answered"
    return not promise(text, near and answered)


if __name__ == "__main__":
    sys.exit(main())
