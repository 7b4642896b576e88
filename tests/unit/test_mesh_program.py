"""The program that serves a topology: how it is found and asked, how its calibration is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_aefm.errors import DeploymentError
from pytest_aefm.mesh.calibrate import calibrate
from pytest_aefm.mesh.program import MeshProgram, find_mesh


class Loop:
    """A work loop of a version that measures these (rate, spread), one after the other."""

    def __init__(self, measured: Iterable[tuple[float, float]] = (), version: str = "1") -> None:
        self._measured, self._version = iter(measured), version

    def version(self) -> str:
        """Return the version."""
        return self._version

    def measure(self) -> tuple[float, float]:
        """Return the next measurement; fail where there is none."""
        return next(self._measured, None) or pytest.fail("measured again")


def script(folder: Path, text: str) -> MeshProgram:
    """Return a program that runs this shell script."""
    path = folder / "aefm-mesh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return MeshProgram(path)


def test_a_calibration_is_measured_once(tmp_path: Path) -> None:
    """The second call reads what the first has kept."""
    first = calibrate(Loop([(12.5, 0.01)]), tmp_path, model="cpu")
    assert first == calibrate(Loop(), tmp_path, model="cpu")
    assert 12.5 == first.iterations_per_us


def test_a_calibration_of_a_busy_machine_is_measured_again(tmp_path: Path) -> None:
    """Until it is calm, at most three times a call and again at the next; the calmest is kept."""
    loop = Loop([(8.0, 0.4), (9.0, 0.3), (7.0, 0.5), (10.0, 0.2), (12.0, 0.05)])
    assert 9.0 == calibrate(loop, tmp_path, model="cpu").iterations_per_us
    assert 12.0 == calibrate(loop, tmp_path, model="cpu").iterations_per_us
    assert 12.0 == calibrate(loop, tmp_path, model="cpu").iterations_per_us


@pytest.mark.parametrize(("model", "version"), [("other", "1"), ("cpu", "2")])
def test_another_cpu_or_version_is_measured_anew(tmp_path: Path, model: str, version: str) -> None:
    """A calibration holds for one CPU model and one program version; the others are kept beside it."""
    calibrate(Loop([(10.0, 0.0)]), tmp_path, model="cpu")
    assert 20.0 == calibrate(Loop([(20.0, 0.0)], version), tmp_path, model=model).iterations_per_us
    assert 10.0 == calibrate(Loop(), tmp_path, model="cpu").iterations_per_us


@pytest.mark.parametrize("text", ["", "{}", '[{"iterations_per_us": 1}]', "[1]"])
def test_an_unreadable_calibration_is_replaced(tmp_path: Path, text: str) -> None:
    """Half a file never becomes a calibration."""
    (tmp_path / "calibration.json").write_text(text)
    assert 12.5 == calibrate(Loop([(12.5, 0.0)]), tmp_path, model="cpu").iterations_per_us
    assert '"cpu_model": "cpu"' in (tmp_path / "calibration.json").read_text()


def test_the_program_is_asked(tmp_path: Path) -> None:
    """Its version is a line, its calibration JSON."""
    program = script(
        tmp_path, """[ $1 = --version ] && echo "v 7" || echo '{"iterations_per_us": 900, "spread": 0.1}'"""
    )
    assert "v 7" == program.version()
    assert (900.0, 0.1) == program.measure()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo nothing", "--calibrate says 'nothing'; expected a calibration"),
        ("echo broken >&2; exit 3", "ended with 3: broken"),
        ("#", "says ''; expected a calibration"),
    ],
)
def test_a_program_that_cannot_calibrate_is_told(tmp_path: Path, text: str, message: str) -> None:
    """With what it said."""
    with pytest.raises(DeploymentError) as caught:
        script(tmp_path, text).measure()
    assert message in str(caught.value)


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beside the interpreter nor on PATH: what is missing, and what helps."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeploymentError, match=r"aefm-mesh: not found \(.+\); install a C compiler"):
        find_mesh()
