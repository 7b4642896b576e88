"""What drivers that are programs of their own have in common: the dry run, the run, and how a failure is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_aefm.errors import LoadError, ScriptError
from pytest_aefm.model import LoadResult, Window
from pytest_aefm.supervisor import Process, SupervisorError

__all__ = ["LEAD_S", "ProgramRun", "exit_error", "run_dry"]

LEAD_S = 0.15
"""From now to the first request: the program starts in it, and loads its scripts or opens its connections."""


def run_dry(driver: str, argv: Sequence[str | Path], script: Path) -> subprocess.CompletedProcess[str]:
    """Run ``driver``'s program, for no longer than 20 s, to try a script.

    Raises:
        ScriptError: it did not end.
        LoadError: it cannot be run.
    """
    command = [str(part) for part in argv]
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20)
    except subprocess.TimeoutExpired as error:
        raise ScriptError(
            str(script), "the dry run did not end within 20 s", "a script without endless loops"
        ) from error
    except OSError as error:
        raise LoadError(f"load driver {driver}", f"cannot run {command[0]}: {error}") from error


def exit_error(driver: str, status: int, output: str) -> LoadError:
    """Return the error of an exit status that says nothing of a script: it quotes the last words."""
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return LoadError(f"load driver {driver}", f"exit status {status}: {' '.join(lines[-3:]) or 'no message'}")


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """A :class:`pytest_aefm.load.LoadRun` of a process that writes a JSON document to ``output``.

    ``read`` turns the document into a result, ``failure`` an exit status that is not among ``good`` and the log's end
    into an error.
    """

    driver: str
    process: Process
    window: Window
    output: Path
    read: Callable[[Any], LoadResult]
    failure: Callable[[int, str], LoadError]
    good: Collection[int] = (0,)

    def ended(self) -> bool:
        """Return whether it has ended, for whatever reason."""
        return self.process.poll() is not None

    def result(self, timeout_s: float) -> LoadResult:
        """Wait for the end and return what was measured; see :class:`pytest_aefm.load.LoadRun`."""
        subject = f"load driver {self.driver}"
        try:
            status = self.process.wait(timeout_s)
        except TimeoutError as error:
            self.stop()
            raise LoadError(subject, str(error), "an end after warm-up, duration and drain") from error
        except SupervisorError as error:
            raise LoadError(subject, str(error)) from error
        if status not in self.good:
            raise self.failure(status, self.process.log_tail())
        try:
            document = json.loads(self.output.read_text())
        except (OSError, ValueError) as error:
            raise LoadError(subject, f"no result in {self.output}: {error}") from error
        return self.read(document)

    def stop(self) -> None:
        """End it at once; nothing happens if it has ended."""
        if not self.ended():
            self.process.stop(grace_s=0.5)
