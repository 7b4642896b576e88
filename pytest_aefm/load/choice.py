"""Which generator drives the load: the one that was named, else the bundled engine, else wrk2 on PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from pytest_aefm.errors import ConfigurationError, LoadError
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.wrk2 import Wrk2
from pytest_aefm.load.wrk2_plan import recognise

__all__ = ["find_driver", "open_driver"]


def find_driver(named: Path | None = None) -> AefmWrk | Wrk2:
    """Return the driver to use.

    Raises:
        ConfigurationError: the program that was named is none.
        LoadError: there is none; says why the bundled engine is missing where that is known.
    """
    if named is not None:
        return open_driver(named, "--aefm-wrk")
    try:
        return AefmWrk.find()
    except LoadError:
        installed = shutil.which("wrk2")
        if installed is None:
            raise
        return open_driver(Path(installed), "wrk2 on PATH")


def open_driver(program: Path, subject: str) -> AefmWrk | Wrk2:
    """Tell by its version and its usage which generator a program is.

    Raises:
        ConfigurationError: it cannot be run, is plain wrk, or something else; the message begins with ``subject``.
    """
    expected, hint = "aefm-wrk or wrk2", "install one of them, or leave it to the bundled aefm-wrk"
    try:
        done = subprocess.run(
            [str(program), "-v"], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(subject, f"cannot run {program}: {error}", expected, hint) from error
    text = done.stdout + done.stderr
    if text.startswith("aefm-wrk "):
        return AefmWrk(program)
    if dialect := recognise(text):
        version = re.search(r"^wrk (\S+) \[", text, re.MULTILINE)
        return Wrk2(program, dialect, version[1] if version else "unknown")
    if re.search(r"^Usage: wrk ", text, re.MULTILINE):
        what = f"{program} is plain wrk: it has no rate, and sends as fast as answers come, so that it forgets the slow"
        raise ConfigurationError(subject, what, "an open-loop generator, " + expected, hint)
    raise ConfigurationError(subject, f"{program} is neither aefm-wrk nor wrk2", expected, hint)
