"""Which programs that disturb are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import InterferenceError

__all__ = ["Tool", "find_iperf3", "find_stress_ng"]


@dataclass(frozen=True, slots=True)
class Tool:
    """An installed program: where it lies, and its version such as ``0.15.06``."""

    program: Path
    version: str


def find_stress_ng(path: str | None = None) -> Tool:
    """Find stress-ng on ``path`` (default: PATH) and ask its version.

    Raises:
        InterferenceError: it is missing, does not run, or is older than 0.15.
    """
    return _find("stress-ng", r"version (\d+)\.(\d+)(\.\d+)?", (0, 15), path)


def find_iperf3(path: str | None = None) -> Tool:
    """Find iperf3 on ``path`` (default: PATH) and ask its version.

    Raises:
        InterferenceError: it is missing, does not run, or is older than 3.7.
    """
    return _find("iperf3", r"iperf (\d+)\.(\d+)(\.\d+)?", (3, 7), path)


def _find(name: str, pattern: str, oldest: tuple[int, int], path: str | None) -> Tool:
    wanted, install = f"{name} >= {oldest[0]}.{oldest[1]}", f"install it: apt-get install {name}"
    found = shutil.which(name, path=path)
    if found is None:
        raise InterferenceError(name, "not found on PATH", wanted, install)
    try:
        done = subprocess.run(
            [found, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterferenceError(name, f"{found} does not run: {error}", wanted, install) from error
    match = re.search(pattern, done.stdout)
    if match is None:
        raise InterferenceError(name, f"{found} does not tell its version: {done.stdout[:80]!r}", wanted)
    version = match.group(0).split()[1]
    if (int(match[1]), int(match[2])) < oldest:
        raise InterferenceError(name, f"{found} is version {version}", wanted, install)
    return Tool(Path(found), version)
