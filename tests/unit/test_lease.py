"""The machine's lease: one holder at a time, given back by the kernel, waiting with a deadline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.lease import MachineLease

_HOLD = """
import sys, time
from pathlib import Path
from pytest_aefm.testbeds.lease import MachineLease
lease = MachineLease("run abc", Path(sys.argv[1]))
lease.acquire(5)
print("held", flush=True)
time.sleep(60)
"""


def test_second_waits_and_names_the_holder(tmp_path: Path) -> None:
    """Who waits is told the holder, and refused with it after the deadline."""
    first, second = MachineLease("run one", tmp_path / "lock"), MachineLease("run two", tmp_path / "lock")
    first.acquire(1)
    told: list[str] = []
    with pytest.raises(DeploymentError, match="this machine: in use by run one"):
        second.acquire(0.2, told.append)
    assert [True] == [text.startswith("run one (pid ") for text in told]
    assert not second.held
    first.release()


def test_released_goes_to_the_next(tmp_path: Path) -> None:
    """A lease that was given back is free at once."""
    first, second = MachineLease("one", tmp_path / "lock"), MachineLease("two", tmp_path / "lock")
    first.acquire(1)
    first.acquire(1)  # holding it already is enough
    first.release()
    second.acquire(0.1)
    assert (False, True) == (first.held, second.held)
    second.release()


def test_killed_holder_gives_it_back(tmp_path: Path) -> None:
    """SIGKILL of the holder frees the machine."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lease = MachineLease("two", tmp_path / "lock")
        with pytest.raises(DeploymentError, match="in use by run abc"):
            lease.acquire(0.2)
        holder.kill()
        holder.wait()
        lease.acquire(2)
        assert lease.held
        lease.release()


class _Clock:
    """Time that goes on only while somebody sleeps; at 0.9 s the machine is passed on."""

    def __init__(self, first: MachineLease, second: MachineLease) -> None:
        self.now, self._first, self._second = 0.0, first, second

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def strftime(self, form: str) -> str:
        """Say since when."""
        return str(self.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        if self.now >= 0.9 and self._first.held:
            self._first.release()
            self._second.acquire(1)


def test_a_queue_that_moves_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is counted anew for each holder: only one that keeps the machine ends the wait."""
    path = tmp_path / "lock"
    first, second = MachineLease("one", path), MachineLease("two", path)
    clock = _Clock(first, second)
    monkeypatch.setattr("pytest_aefm.testbeds.lease.time", clock)
    first.acquire(1)
    told: list[str] = []
    with pytest.raises(DeploymentError, match="in use by two"):
        MachineLease("three", path).acquire(1.0, told.append)
    assert ["one", "two"] == [text.partition(" ")[0] for text in told]
    assert 1.9 <= round(clock.now, 3)
    second.release()


def test_everybody_meets_at_one_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs with a TMPDIR each, as CI jobs have them, take turns all the same."""
    first = MachineLease("one").path
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert first == MachineLease("two").path
