"""Which stress-ng is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import InterferenceError

__all__ = ["StressNg", "find_stress_ng"]

_OLDEST = (0, 15)
_INSTALL = "install it: apt-get install stress-ng"


@dataclass(frozen=True, slots=True)
class StressNg:
    """An installed stress-ng: where it lies, and its version such as ``0.15.06``."""

    program: Path
    version: str


def find_stress_ng(path: str | None = None) -> StressNg:
    """Find stress-ng on ``path`` (default: PATH) and ask its version.

    Raises:
        InterferenceError: it is missing, does not run, or is older than 0.15.
    """
    wanted = f"stress-ng >= {'.'.join(map(str, _OLDEST))}"
    found = shutil.which("stress-ng", path=path)
    if found is None:
        raise InterferenceError("stress-ng", "not found on PATH", wanted, _INSTALL)
    try:
        done = subprocess.run(
            [found, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterferenceError("stress-ng", f"{found} does not run: {error}", wanted, _INSTALL) from error
    match = re.search(r"version (\d+)\.(\d+)(\.\d+)?", done.stdout)
    if match is None:
        raise InterferenceError("stress-ng", f"{found} does not tell its version: {done.stdout[:80]!r}", wanted)
    version = match.group(0).removeprefix("version ")
    if (int(match[1]), int(match[2])) < _OLDEST:
        raise InterferenceError("stress-ng", f"{found} is version {version}", wanted, _INSTALL)
    return StressNg(Path(found), version)
