"""The two ways to tell of progress: a status on a terminal, a line for each phase that lasts elsewhere."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["Lines", "Running", "Snapshot", "Status", "View", "duration_text"]

_WORDS = {
    "setup": "setting up",
    "check": "checking what there is",
    "interference": "changing interference",
    "settle": "settling",
    "collect": "collecting",
    "judge": "judging",
    "end": "ending the test",
    "stop": "stopping what was started",
}
"""Phases that are usually over before a reader could read of them, as they are told where they last."""


def duration_text(seconds: float) -> str:
    """Return a duration as a person would say it: ``45 s``, ``3:20 min``, ``2:05 h``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"


def _exact_text(seconds: float) -> str:
    """Return the duration of a load as the experiment has it, tenths of a second included."""
    return f"{round(seconds, 1):g} s" if seconds < 60 else duration_text(seconds)


def _part_text(seconds: float, whole: float) -> str:
    """Return how much of a duration is over: ``3.2 of 5 s``, ``1:20 of 5:00 min``."""
    if whole < 60:
        return f"{seconds:.1f} of {_exact_text(whole)}"
    return f"{duration_text(seconds).removesuffix(' min' if whole < 3600 else ' h')} of {duration_text(whole)}"


@dataclass
class Running:
    """A case that runs, and the phase that it is in; times are those of the clock."""

    nodeid: str
    worker: str | None
    label: str
    app: str
    estimate_s: float
    warmup_s: float
    phase: str = ""
    expected_s: float = 0.0
    since: float = 0.0
    started: float | None = None
    told: float | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for others: that is no part of what a case takes."""
        return self.phase.startswith("waiting")

    def plan(self) -> str:
        """Say what the phase is going to do."""
        if self.phase == "application":
            return f"starting {self.app}"
        if self.phase == "load":
            warmup = f"warm-up {_exact_text(self.warmup_s)}, " if self.warmup_s else ""
            return f"{warmup}load {_exact_text(self.expected_s - self.warmup_s)}"
        return _WORDS.get(self.phase, self.phase)

    def now(self, clock: float) -> str:
        """Say what the phase is doing now."""
        spent = max(0.0, clock - self.since)
        if self.phase != "load":
            return self.plan().partition(" since ")[0] + (f", {duration_text(spent)}" if spent >= 1 else "")
        if spent < self.warmup_s:
            return f"warm-up {_part_text(spent, self.warmup_s)}"
        duration = self.expected_s - self.warmup_s
        if spent - self.warmup_s > duration + 0.5:
            return "load, waiting for the last answers"
        return f"load {_part_text(min(spent - self.warmup_s, duration), duration)}"


@dataclass(frozen=True)
class Snapshot:
    """What there is to tell at a moment: the cases that run, the time that all need and what of it is left."""

    clock: float
    running: Sequence[Running]
    whole_s: float | None
    left_s: float | None

    @property
    def left(self) -> str:
        """How long still, in words."""
        if self.left_s is None:
            return ""
        if self.running and all(case.waits for case in self.running):
            return f"then about {duration_text(self.left_s)} more"
        return f"about {duration_text(self.left_s)} left" if self.left_s >= 0.5 else "almost done"


class View(Protocol):
    """A way to tell."""

    interval_s: float
    """How often ``show`` is called while something runs."""

    def show(self, seen: Snapshot, changed: Running | None) -> None:
        """Tell what there is; ``changed`` has just begun a phase, or nothing but time has gone on."""
        ...

    def hide(self) -> None:
        """Leave the screen to others."""
        ...


class Lines:
    """A line when a phase begins; one that is usually short is told when it lasts, a long one every minute."""

    interval_s = 1.0
    _PATIENCE_S, _REMIND_S = 5.0, 60.0

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._apps: dict[str | None, str] = {}

    def show(self, seen: Snapshot, changed: Running | None) -> None:
        """Write a line for each case of which there is something to say."""
        for case in seen.running:
            if case is changed:
                if self._is_worth_a_line(case):
                    self._tell(case, case.plan(), seen)
            elif seen.clock >= self._due(case):
                self._tell(case, f"still {case.now(seen.clock)}", seen)

    def hide(self) -> None:
        """Have nothing to hide."""

    def _is_worth_a_line(self, case: Running) -> bool:
        if case.phase == "application":
            before, self._apps[case.worker] = self._apps.get(case.worker), case.app
            return before != case.app
        return case.phase not in _WORDS and not _takes_turns(case)

    def _due(self, case: Running) -> float:
        if case.told is not None:
            return case.told + self._REMIND_S
        return case.since + (self._REMIND_S if _takes_turns(case) else self._PATIENCE_S)

    def _tell(self, case: Running, what: str, seen: Snapshot) -> None:
        case.told = seen.clock
        parts = [f"{case.label}: {what}" if case.label else what, seen.left]
        _write(self._fd, f"\n  {time.strftime('%H:%M:%S')} {', '.join(part for part in parts if part)} ".encode())


def _takes_turns(case: Running) -> bool:
    """Return whether it waits as xdist's workers do for each other, before every case."""
    return case.waits and case.worker is not None


class Status:
    """Some lines of a terminal: one for each case that runs, and how far all of it is.

    They lie below the cursor, where pytest writes, and the cursor is put back: to erase them takes one escape sequence,
    and at the end, however it comes, there is nothing to restore.
    """

    interval_s = 0.5
    _MOST_CASES = 8

    def __init__(self, fd: int, colour: bool = True) -> None:
        from rich.console import Console

        self._fd, self._drawn = fd, False
        # rich knows colours, widths of characters and encodings; it never writes to the terminal itself.
        encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
        scratch = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
        self._console = Console(file=scratch, force_terminal=True, no_color=None if colour else True, highlight=False)

    def show(self, seen: Snapshot, changed: Running | None) -> None:
        """Draw it anew."""
        columns, rows = _size(self._fd)
        lines = self._lines(seen, columns - 1, rows - 2)
        room = len(lines)
        # Make room below (index: down, scrolling, in the same column), go back up, save the cursor, write, restore it.
        below = "".join(f"\r\n{line}" for line in lines)
        down = "\x1bD" * room
        text = f"\x1b[J{down}\x1b[{room}A\x1b7{below}\x1b8" if lines else "\x1b[J"
        _write(self._fd, text.encode(self._console.encoding, "replace"))
        self._drawn = True

    def hide(self) -> None:
        """Erase it: all that is below the cursor."""
        if self._drawn:
            _write(self._fd, b"\x1b[J")
            self._drawn = False

    def _lines(self, seen: Snapshot, width: int, most: int) -> list[str]:
        from rich.text import Text

        if most < 1 or width < 20:
            return []
        shown = seen.running[: max(1, min(self._MOST_CASES, most - 1))]
        drawn: list[Text | Table] = [_case_line(case, seen.clock, width) for case in shown]
        if len(shown) < len(seen.running):
            drawn[-1] = Text(f"  and {len(seen.running) - len(shown) + 1} more")
        if seen.left_s is not None and seen.whole_s:
            drawn.append(_left_line(seen, seen.whole_s, seen.left_s, width))
        with self._console.capture() as captured:
            for item in drawn:
                self._console.print(item, width=width, no_wrap=True, overflow="ellipsis", crop=True)
        return captured.get().splitlines()[:most]


def _left_line(seen: Snapshot, whole_s: float, left_s: float, width: int) -> Text | Table:
    """Return the line of all cases: a bar, where there is room for one, and how long still."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left, room = Text(seen.left), min(60, width - 24)
    if room < 10:
        return Text.assemble("  ", left)
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row("", ProgressBar(whole_s, max(0.0, whole_s - left_s), room, finished_style="bar.complete"), left)
    return line


def _case_line(case: Running, clock: float, width: int) -> Text:
    """Return the line of a case; where there is little room its name gives way."""
    from rich.text import Text

    what = Text(case.now(clock), style="cyan")
    label = Text(case.label, style="bold")
    room = width - 4 - len(what)
    if room >= 12 and case.label:
        label.truncate(room, overflow="ellipsis")
        return Text.assemble("  ", label, "  ", what)
    return Text.assemble("  ", what)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _size(fd: int) -> tuple[int, int]:
    """Return columns and rows of a terminal, the usual ones where it does not say."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        columns, rows = 0, 0
    return columns or 80, rows or 24
