"""Where the progress is shown, and how it steps aside while others write there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from functools import partial

import pytest

from pytest_aefm.progress import Lines, Progress, Status
from pytest_aefm.recording import MESSAGE
from pytest_aefm.settings import Settings

__all__ = ["Curtain", "progress_of", "standard_output"]


class Curtain:
    """Has the progress step aside while pytest, or a debugger, writes to the terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._debugging: list[contextlib.ExitStack] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, None, None]:
        """Let pytest write of a test that begins."""
        with self._progress.aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        """Let pytest write of an outcome; of messages it writes nothing."""
        with contextlib.nullcontext() if report.when == MESSAGE else self._progress.aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logfinish(self) -> Generator[None, None, None]:
        """Let pytest write of a test that is over."""
        with self._progress.aside():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self) -> Generator[None, None, None]:
        """Let xdist write of a worker that is gone."""
        with self._progress.aside():
            return (yield)

    def pytest_enter_pdb(self) -> None:
        """Leave the screen to the debugger."""
        stack = contextlib.ExitStack()
        stack.enter_context(self._progress.aside())
        self._debugging.append(stack)

    def pytest_leave_pdb(self) -> None:
        """Go on."""
        if self._debugging:
            self._debugging.pop().close()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Tell that what was started is being stopped, and nothing after that: pytest writes its summary."""
        self._progress.stopping()
        try:
            return (yield)
        finally:
            self._progress.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """Leave the screen to the error."""
        self._progress.close()


def standard_output(config: pytest.Config, settings: Settings) -> int | None:
    """Return a descriptor of our own of the real standard output, or None where nothing is to be told."""
    quiet = config.getoption("verbose", 0) < 0 or not config.pluginmanager.has_plugin("terminal")
    if quiet or settings.plan:
        return None
    try:
        return os.dup(1)  # capture is suspended while plugins are configured
    except OSError:  # closed
        return None


def progress_of(config: pytest.Config, fd: int | None) -> Progress:
    """Return the progress with the views that suit: where others write to the terminal during tests, only lines."""
    if fd is None:
        return Progress()
    lines = partial(Lines, fd)
    others = config.getoption("capture", "no") != "fd" or config.getoption("setupshow", False) or _logs_live(config)
    if others or not os.isatty(fd) or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return Progress(lines)
    colour = config.getoption("color", "auto") != "no" and os.environ.get("PY_COLORS") != "0"
    return Progress(partial(Status, fd, colour), lines)


def _logs_live(config: pytest.Config) -> bool:
    if config.getoption("log_cli_level", None) is not None:
        return True
    try:
        return bool(config.getini("log_cli"))
    except (KeyError, ValueError):  # without the logging plugin
        return False
