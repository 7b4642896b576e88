"""What a run tells while it goes on: as lines, and as a status on real terminals."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyte
import pytest

from pytest_aefm.progress import Lines, Progress, Status, duration_text
from pytest_aefm.progress_views import Running, Snapshot

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder


class Terminal:
    """A pseudo-terminal, and what a person in front of it has seen."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, (rows, columns))
        self.modes = termios.tcgetattr(self.slave)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw, self._written = b"", 0
        self.seen: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            with self._changed:
                self.raw += data
                self._stream.feed(data)
                self.seen.append(self.text)
                self._changed.notify_all()

    @property
    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a condition on what was seen holds."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"not seen within {seconds} s:\n{self.text}"

    def wait_for(self, pattern: str) -> None:
        """Wait until a pattern has been on the screen."""
        self.wait(lambda: any(re.search(pattern, text) for text in self.seen))

    def start(self, path: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start pytest in front of this terminal."""
        own = {"TERM": "xterm-256color", "PY_COLORS": "", "NO_COLOR": "", "COLUMNS": "", "LINES": ""}

        def take_over() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=path,
            env={name: value for name, value in (os.environ | own | environment).items() if value},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=take_over,
        )

    def run(self, path: Path, *arguments: str, **environment: str) -> int:
        """Run pytest in front of this terminal; return its exit status."""
        status = self.start(path, *arguments, **environment).wait(120)
        self.write(b"END")
        return status

    def write(self, data: bytes) -> None:
        """Write as a program in front of the terminal does, and wait until it stands there."""
        self._written += 1
        mark = b"\x1b]0;%d\x07" % self._written  # a title: it leaves no trace on the screen
        os.write(self.slave, data + mark)
        self.wait(lambda: mark in self.raw)

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def close(self) -> None:
        """Hang up."""
        os.close(self.slave)
        self._reader.join(10)
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of the usual size."""
    opened = Terminal()
    yield opened
    opened.close()


class Clock:
    """A clock that goes on when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def message(case: int, phase: str, expected_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return the message of a phase: four cases of 10 s each, and 4 s for the first one's deployment."""
    usual = {"nodeid": f"test_it.py::test_it[c{case}]", "app": "shop", "phase": phase, "expected_s": expected_s}
    estimate = 14.0 if case == 1 else 10.0
    return usual | {"estimate_s": estimate, "total": 4, "total_s": 44.0, "warmup_s": 2.0} | more


def case_lines(count: int, workers: bool = True) -> list[Running]:
    """Return some cases that run."""
    name = "test_search[hotel-cpu0-40rps-r1]"
    return [
        Running(name, f"gw{n}", f"{f'[gw{n}] ' if workers else ''}{n + 1}/9 {name}", "hotel", 9, 2, "load", 7, 100.0)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3599, "59:59 min"), (7500, "2:05 h")]
)
def test_durations_as_a_person_would_say_them(seconds: float, text: str) -> None:
    """Seconds, minutes or hours, never three units."""
    assert text == duration_text(seconds)


@pytest.mark.parametrize(
    ("phase", "spent", "text"),
    [
        ("application", 0.2, "starting hotel"),
        ("application", 3, "starting hotel, 3 s"),
        ("load", 0.5, "warm-up 0.5 of 2 s"),
        ("load", 5.2, "load 3.2 of 5 s"),
        ("load", 7.2, "load 5.0 of 5 s"),
        ("load", 8, "load, waiting for the last answers"),
        ("collect", 0, "collecting"),
        ("waiting for run 7 (pid 8) since 2026-01-01", 4, "waiting for run 7 (pid 8), 4 s"),
        ("a phase of the user's", 61, "a phase of the user's, 1:01 min"),
    ],
)
def test_what_happens_now(phase: str, spent: float, text: str) -> None:
    """Each phase in words, with how much of it is over where that is known."""
    case = Running("x", None, "x", "hotel", 9.0, 2.0, phase, 7.0, since=100.0)
    assert text == case.now(100.0 + spent)


def test_long_loads_are_told_in_minutes() -> None:
    """A load of minutes is not told in tenths of a second."""
    case = Running("x", None, "x", "hotel", 900.0, 0.0, "load", 900.0, since=0.0)
    assert "load 3:20 min of 15:00 min".replace(" min of", " of") == case.now(200.0)


def test_lines_tell_of_what_lasts() -> None:
    """A phase that is worth it is told when it begins, a short one when it lasts, a long one every minute."""
    source, sink = os.pipe()
    clock = Clock()
    progress = Progress(lambda: Lines(sink), clock=clock)

    def told() -> list[str]:
        """Return what was written since the last call, without times of day."""
        os.write(sink, b"\n")
        return re.findall(r"\d\d:\d\d:\d\d (.*) ?$", os.read(source, 65536).decode().replace(" \n", "\n"), re.MULTILINE)

    def later(seconds: float) -> list[str]:
        clock.now += seconds
        progress.tick()
        return told()

    progress.phase(message(1, "application"))
    assert ["1/4 test_it[c1]: starting shop, about 44 s left"] == told()
    progress.phase(message(1, "settle"))
    assert [] == later(4)
    assert ["1/4 test_it[c1]: still settling, 6 s, about 38 s left"] == later(2)
    progress.phase(message(1, "load", 152.0))
    assert ["1/4 test_it[c1]: warm-up 2 s, load 2:30 min, about 38 s left"] == told()
    assert [] == later(59)
    assert ["1/4 test_it[c1]: still load 59.0".partition(" 59.0")[0]] == [line[:27] for line in later(2)]
    progress.finished("test_it.py::test_it[c1]")
    progress.phase(message(2, "waiting for run 7 (pid 8) since yesterday"))
    assert ["2/4 test_it[c2]: waiting for run 7 (pid 8) since yesterday"] == [line.partition(",")[0] for line in told()]
    progress.phase(message(3, "waiting for run 7 (pid 8) since yesterday", worker="gw1"))
    assert [] == later(59), "workers take turns"
    assert 2 == len(later(2))
    progress.finished("test_it.py::test_it[c3]")
    progress.phase(message(2, "application"))
    assert [] == told(), "the application is there"
    progress.close()
    progress.phase(message(2, "load", 7.0))
    assert [] == told()


def test_time_left_is_learned() -> None:
    """Finished cases tell what the plan did not know; one that stands out says little of the others."""
    clock = Clock()
    progress = Progress(clock=clock)

    def run(case: int, seconds: float) -> float:
        progress.phase(message(case, "waiting for gw1"))
        clock.now += 100  # waiting for others is no part of a case
        progress.phase(message(case, "load", 7.0))
        clock.now += seconds
        progress.recorded(message(case, "")["nodeid"])
        progress.finished(message(case, "")["nodeid"])
        left = progress.left_s()
        assert left is not None
        return left

    assert 30 == run(1, 90), "one deployment that took long"
    assert 2 * (10 + 2.5) == run(2, 15), "the median of 0, 0, 5 and 76"
    assert 10 + 5 == run(3, 15)
    progress.phase(message(3, "load", 7.0))
    assert 2 * (10 + 5) == progress.left_s(), "an attempt more"


def test_status_lies_below_the_cursor(terminal: Terminal) -> None:
    """It is drawn below what is being written, at the screen's end too, and gone without a trace."""
    status = Status(terminal.slave)
    for line in range(30):
        status.show(Snapshot(103.0, case_lines(1, workers=False), 20.0, 15.0), None)
        terminal.wait(lambda: "about 15 s left" in terminal.text)
        rows = terminal.text.splitlines()
        assert "  1/9 test_search[hotel-cpu0-40rps-r1]  load 1.0 of 5 s" == rows[terminal.screen.cursor.y + 1]
        assert re.fullmatch(r"  ━+[╸╺]?━*  about 15 s left", rows[terminal.screen.cursor.y + 2])
        status.hide()
        terminal.write(f"line {line}\n{line} goes on ".encode())
    assert [f"{n - 1} goes on line {n}" for n in range(12, 30)] == terminal.text.splitlines()[-19:-1]
    assert "29 goes on" == terminal.text.splitlines()[-1]


@pytest.mark.parametrize("columns", [5, 20, 33, 40, 60, 80, 200])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 24])
def test_status_fits_every_terminal(columns: int, rows: int) -> None:
    """No line of it is wider than the terminal and it never pushes away what is being written."""
    terminal = Terminal(columns, rows)
    terminal.write(b"abc")
    Status(terminal.slave).show(Snapshot(103.0, case_lines(12), 20.0, 15.0), None)
    terminal.write(b"d")
    shown = terminal.text.splitlines()
    assert "abcd" == shown[0]
    assert len(shown) <= min(rows, 10)
    if columns > 20 and rows >= 4:
        assert "left" in shown[-1]
        assert ("and 5 more" if rows == 24 else "and 12 more") in shown[-2]
    terminal.close()


def test_names_give_way_where_there_is_little_room(terminal: Terminal) -> None:
    """What happens is told whole; the name of the case is cut, then left out."""
    for columns, name in (
        (60, "  [gw0] 1/9 test_search[hotel-cpu0-40rps-…  load 1.0 of 5 s"),
        (30, "  load 1.0 of 5 s"),
    ):
        terminal.write(b"\x1b[2J\x1b[H")
        termios.tcsetwinsize(terminal.slave, (24, columns))
        Status(terminal.slave).show(Snapshot(103.0, case_lines(1), 20.0, 15.0), None)
        terminal.write(b"x")
        assert name == terminal.text.splitlines()[1]


@pytest.mark.parametrize(("colour", "environment"), [(False, ""), (True, "1")])
def test_status_without_colours(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, colour: bool, environment: str
) -> None:
    """Neither pytest's --color=no nor NO_COLOR leaves a colour in it."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", environment)
    Status(terminal.slave, colour).show(Snapshot(103.0, case_lines(1), 20.0, 15.0), None)
    terminal.write(b"x")
    assert b"load 1.0 of 5 s" in terminal.raw
    assert not re.search(rb"\x1b\[[\d;]*[34]\d[\d;]*m", terminal.raw)


def test_status_in_ascii(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the output's encoding has no lines, the bar is of other characters."""
    with open(os.devnull, "w", encoding="ascii") as ascii_output:
        monkeypatch.setattr(sys, "__stdout__", ascii_output)
        Status(terminal.slave).show(Snapshot(103.0, case_lines(1), 20.0, 15.0), None)
    terminal.write(b"x")
    assert terminal.raw.isascii()
    assert re.search(r"--  about 15 s left", terminal.text)


def test_a_view_that_fails_gives_way() -> None:
    """The next one tells; when the reader is gone nobody does, and nothing is raised."""
    source, sink = os.pipe()
    progress = Progress(lambda: 1 // 0, lambda: Lines(sink))  # type: ignore[arg-type, return-value] # that is the point
    progress.phase(message(1, "application"))
    assert b"starting shop" in os.read(source, 1000)
    os.close(source)
    progress.phase(message(1, "load", 7.0))
    with progress.aside():
        progress.phase(message(2, "load", 7.0))
    progress.close()


def test_a_slow_reader_misses_something() -> None:
    """A full pipe that does not block costs what does not fit, not the run."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    progress = Progress(lambda: Lines(sink), clock=Clock())
    for _ in range(3000):
        progress.phase(message(1, "load", 7.0))
    os.read(source, 2**20)
    progress.phase(message(1, "load", 8.0))
    assert b"load 6 s" in os.read(source, 2**20)
    progress.close()


def test_on_a_terminal(folder: ExperimentFolder, terminal: Terminal) -> None:
    """It tells of phases, place and time left while tests run, and leaves what pytest writes as it is."""
    folder.test("rate=[150, 200]")
    assert 0 == terminal.run(folder.path)
    seen = "\n".join(terminal.seen)
    for case in (1, 2):
        assert re.search(rf"  {case}/2 test_it\[shop-\d+rps\]  load 0\.\d of 0\.4 s", seen)
    assert re.search(r"  ━+[╸╺]?━*  about \d+ s left", seen)
    assert re.search(r"^test_on_a_terminal\.py \.\. +\[100%\]\n\n=+ AEFM cases =+$", terminal.text, re.MULTILINE)
    assert "left" not in terminal.text
    assert "  load" not in terminal.text


def test_on_a_terminal_with_workers(folder: ExperimentFolder) -> None:
    """Under -n 2 the status has a line for each worker: who measures, and who waits for it."""
    terminal = Terminal(120)
    folder.test("rate=[150, 160, 170, 180]")
    assert 0 == terminal.run(folder.path, "-n2")
    both = r"\[gw(\d)\] \d/4 test_it\[shop-\d+rps\]  load .*\n  \[gw\d\] .*  waiting for |  waiting for .*\n.*  load "
    assert any(re.search(both, text) for text in terminal.seen)
    assert re.search(r"^\.\.\.\. +\[100%\]$", terminal.text, re.MULTILINE)
    assert "left" not in terminal.text
    terminal.close()


def test_ctrl_c_leaves_the_terminal_clean(folder: ExperimentFolder, terminal: Terminal) -> None:
    """Interrupted in the middle of a load there is pytest's summary, and nothing else has changed."""
    folder.test("duration=30")
    process = terminal.start(folder.path)
    terminal.wait_for(r"load [1-9]\.\d of 30 s")
    terminal.type(b"\x03")
    assert 2 == process.wait(30)
    terminal.write(b"$ ")
    assert "no tests ran" in terminal.text
    assert re.search(r"KeyboardInterrupt", terminal.text)
    assert not re.search(r" left$| of 30 s|stopping", terminal.text, re.MULTILINE)
    assert "$" == terminal.text.splitlines()[-1]
    assert not terminal.screen.cursor.hidden
    assert terminal.modes == termios.tcgetattr(terminal.slave)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["-s"], {}), ([], {"TERM": "dumb"}), (["--log-cli-level=INFO"], {})],
    ids=["s", "dumb", "live-log"],
)
def test_lines_where_others_write(
    folder: ExperimentFolder, terminal: Terminal, arguments: list[str], environment: dict[str, str]
) -> None:
    """On a terminal that cannot place the cursor, and where tests write to it, lines are told."""
    folder.test(body="print('mine'); aefm_run()")
    assert 0 == terminal.run(folder.path, *arguments, **environment)
    assert re.search(
        r"^  \d\d:\d\d:\d\d 1/1 test_it\[shop-200rps\]: load 0\.4 s, (about \d+ s left|almost done)",
        terminal.text,
        re.M,
    )
    assert b"\x1bD" not in terminal.raw
    assert ("-s" in arguments) == ("mine" in terminal.text)


def test_quiet(folder: ExperimentFolder, terminal: Terminal) -> None:
    """Under -q nothing is told."""
    folder.test()
    assert 0 == terminal.run(folder.path, "-q")
    assert b"\x1bD" not in terminal.raw
    assert "load" not in terminal.raw.decode()


def test_a_debugger_has_the_screen_for_itself(folder: ExperimentFolder, terminal: Terminal) -> None:
    """While a debugger asks, no status is drawn; afterwards the run goes on."""
    folder.test(body="breakpoint(); aefm_run()")
    process = terminal.start(folder.path)
    terminal.wait_for(r"\(Pdb\)")
    drawn = terminal.raw.count(b"\x1bD")
    time.sleep(1.5)  # three times the interval of drawing
    assert drawn == terminal.raw.count(b"\x1bD")
    terminal.type(b"c\n")
    assert 0 == process.wait(60)
    assert re.search(r"load 0\.\d of 0\.4 s", "\n".join(terminal.seen))
