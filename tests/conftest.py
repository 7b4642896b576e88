"""What all tests share: no claim of theirs depends on how busy the machine is, and xdist's workers take turns.

Those of :data:`_ALONE`, marked ``alone``, measure, or disturb what others measure: of several workers one at a time
runs a module of them, and nothing else runs meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.noise import VoidRuns

settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

_TIMED = ("engine_driver", "engine_endings", "engine_schedule", "engine_statistics", "load_agent", "wrk2")
_ALONE = tuple(
    Path(__file__).parent / name
    for name in ("cluster", "docs", "local", *(f"native/test_{name}.py" for name in _TIMED))
)
_TURN = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Let runs that a hypervisor disturbed not count."""
    config.pluginmanager.register(VoidRuns())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs alone."""
    for item in items:
        if any(item.path.is_relative_to(path) for path in _ALONE):
            item.add_marker("alone")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Have a turn, alone or among others; who runs alone keeps it until its module's fixtures are gone."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    stash, alone = item.config.stash, item.get_closest_marker("alone") is not None
    if _TURN not in stash:
        stash[_TURN] = _lock(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        return (yield)
    finally:
        if not (alone and nextitem is not None and nextitem.path == item.path):
            os.close(stash[_TURN])
            del stash[_TURN]


def _lock(kind: int) -> int:
    """Return the descriptor of a lock that all workers share; closing it gives the turn away."""
    fd = os.open(Path(tempfile.gettempdir()) / "aefm-tests.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    fcntl.flock(fd, kind)
    return fd
