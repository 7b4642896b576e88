"""Experiments beside other plugins of pytest, in an environment that has them (`make test-neighbours`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.plugin.conftest import ExperimentFolder, folder

__all__ = ["folder"]

NEIGHBOURS = {
    "html": ("html", "html_fixtures", "metadata"),
    "randomly": ("randomly",),
    "repeat": ("repeat",),
    "rerunfailures": ("rerunfailures",),
    "timeout": ("timeout",),
}
"""The plugins by what their packages are called, and the names that they are registered under."""

Beside = Callable[..., pytest.RunResult]


def without(*wanted: str) -> list[str]:
    """Return the arguments that switch off all neighbours but those that are wanted."""
    names = [name for package, names in NEIGHBOURS.items() if package not in wanted for name in names]
    return [argument for name in names for argument in ("-p", f"no:{name}")]


@pytest.fixture
def beside(folder: ExperimentFolder) -> Beside:
    """Run pytest in the folder beside the neighbours of these names only."""

    ini = folder.path / "tox.ini"  # which switches off for all other tests what these here are about
    ini.write_text(ini.read_text().replace("addopts = -p no:randomly\n", ""))

    def run(wanted: str, *arguments: str) -> pytest.RunResult:
        return folder.run(*without(*wanted.split()), *arguments, subprocess=True)

    return run
