"""How much slower pytest starts with the plugin, in a project that does not use it: pairs of runs, in turns."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import promise

PAIRS, LIMIT_MS = 60, 30.0


def start_ms(folder: str, *options: str) -> float:
    """Return how long pytest takes in an empty folder, in milliseconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", *options], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1e3


def main() -> int:
    """Measure, and say whether the promise holds."""
    with tempfile.TemporaryDirectory() as folder:
        start_ms(folder), start_ms(folder, "-p", "no:aefm")  # bytecode is cached, as users have it
        differences = []
        for pair in range(PAIRS):
            turns = [(), ("-p", "no:aefm")]
            took = {options: start_ms(folder, *options) for options in (turns if pair % 2 else turns[::-1])}
            differences.append(took[()] - took[("-p", "no:aefm")])
    median = statistics.median(differences)
    return not promise(f"median of {PAIRS} differences {median:.1f} ms, at most {LIMIT_MS:g} ms", median <= LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
