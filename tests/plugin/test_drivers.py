"""Which generator drives a case: ``--aefm-wrk`` and the ini value ``aefm_wrk``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

USAGES = Path(__file__).parents[1] / "unit" / "data" / "wrk2"


def fake(folder: Path, usage: str) -> str:
    """Write a program that prints a recorded usage; return its name."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "wrk"
    program.write_text(f"#!/bin/sh\ncat '{USAGES / usage}'\nexit 1\n")
    program.chmod(0o755)
    return "bin/wrk"


def test_the_generator_can_be_named(folder: ExperimentFolder) -> None:
    """A path is taken as a shell takes it; the report says which generator ran, and its version."""
    engine = Path(sys.executable).parent / "aefm-wrk"
    (folder.path / "generator").symlink_to(engine if engine.is_file() else str(shutil.which("aefm-wrk")))
    folder.test()
    folder.run("--aefm-wrk=./generator").assert_outcomes(passed=1)
    load = folder.report()["trials"][0]["load"]
    assert "aefm-wrk" == load["driver"]
    assert load["version"]


@pytest.mark.parametrize("by", ["option", "ini"])
def test_plain_wrk_is_refused_before_anything_is_deployed(folder: ExperimentFolder, by: str) -> None:
    """A closed loop measures no latency: the case is an error that says what would do."""
    folder.test()
    program = fake(folder.path, "plain-wrk-usage.txt")
    options = [f"--aefm-wrk={program}"] if by == "option" else ["-o", f"aefm_wrk={program}"]
    result = folder.run(*options)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--aefm-wrk: *bin/wrk is plain wrk: it has no rate*open-loop generator*"])
    assert "app shop" not in (folder.log.read_text() if folder.log.exists() else "")


def test_a_generator_that_is_missing(folder: ExperimentFolder) -> None:
    """A name that is not on PATH is a mistake of the command line."""
    folder.test()
    result = folder.run("--aefm-wrk=no-such-generator")
    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(["*--aefm-wrk: 'no-such-generator' is not on PATH; expected *"])
