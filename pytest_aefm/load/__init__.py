"""Load drivers: a command line, a run, a result. What a driver measures it says as a LoadResult."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from pytest_aefm.model import LoadResult, LoadSpec, Window
from pytest_aefm.supervisor import Supervisor

__all__ = ["Driver", "LoadRun"]


class LoadRun(Protocol):
    """A load run that has been started."""

    @property
    def window(self) -> Window:
        """The measured interval as planned, known as soon as the run is started."""
        ...

    def ended(self) -> bool:
        """Return whether the generator has ended, for whatever reason."""
        ...

    def result(self, timeout_s: float) -> LoadResult:
        """Wait for the end and return what was measured.

        Raises:
            LoadError: the generator failed or did not end in time; ScriptError where a script is to blame.
        """
        ...

    def stop(self) -> None:
        """End it at once, in whatever state; nothing happens if it has ended."""
        ...


class Driver(Protocol):
    """A load generator."""

    @property
    def name(self) -> str:
        """Its name in reports, such as ``aefm-wrk``."""
        ...

    def check_script(self, script: Path) -> None:
        """Run the script dry, without a network.

        Raises:
            ScriptError: it has an error; the subject is its file and line.
            LoadError: the generator is missing.
        """
        ...

    def start(
        self,
        load: LoadSpec,
        script: Path,
        url: str,
        *,
        supervisor: Supervisor,
        cpus: Collection[int],
        artifacts: Path,
        own_cores: bool = False,
    ) -> LoadRun:
        """Start the generator against ``url`` on ``cpus``; its files go to the folder ``artifacts``.

        ``own_cores``: nothing under test runs on ``cpus``, so that it may spin there to be punctual.
        """
        ...
