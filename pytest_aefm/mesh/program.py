"""The program ``aefm-mesh`` that serves a topology: where it lies, what it says of itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.errors import DeploymentError

__all__ = ["MeshProgram", "find_mesh"]

_SUBJECT = "aefm-mesh"
_ASK_S = 60.0
_REMEDY = "install a C compiler, then install pytest-aefm again (pip install --force-reinstall)"


@dataclass(frozen=True, slots=True)
class MeshProgram:
    """The program at ``path``."""

    path: Path

    def version(self) -> str:
        """Return the version of its work loop, for which a calibration holds.

        Raises:
            DeploymentError: it cannot be run.
        """
        return self._ask("--version")

    def measure(self) -> tuple[float, float]:
        """Return (iterations per CPU-microsecond, spread) of its work loop: the median of short runs, half a second.

        Raises:
            DeploymentError: it cannot be run, or says something else.
        """
        text = self._ask("--calibrate")
        try:
            measured = json.loads(text)
            return float(measured["iterations_per_us"]), float(measured["spread"])
        except (ValueError, TypeError, KeyError) as error:
            raise DeploymentError(_SUBJECT, f"{self.path} --calibrate says {text[:80]!r}", "a calibration") from error

    def _ask(self, option: str) -> str:
        command = [str(self.path), option]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeploymentError(_SUBJECT, f"cannot run {' '.join(command)}: {error}") from error
        if done.returncode:
            what = f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}"
            raise DeploymentError(_SUBJECT, what)
        return done.stdout.strip()


def find_mesh() -> MeshProgram:
    """Find the program that was built with this package: beside the interpreter, then on PATH.

    Raises:
        DeploymentError: there is none; says why it was not built where that is known.
    """
    beside = Path(sys.executable).parent / "aefm-mesh"
    found = str(beside) if beside.is_file() else shutil.which("aefm-mesh")
    if found is None:
        raise DeploymentError(_SUBJECT, f"not found ({_why_missing()})", None, _REMEDY)
    return MeshProgram(Path(found))


def _why_missing() -> str:
    """Say what the build wrote down."""
    from importlib.resources import files  # it knows where an editable installation keeps what was built

    try:
        built = json.loads((files("pytest_aefm.load") / "engine.json").read_text())
    except (OSError, ValueError):
        return "this installation has no native build"
    return "it was built, but is not on PATH" if built.get("mesh") else f"not built: {built.get('reason')}"
