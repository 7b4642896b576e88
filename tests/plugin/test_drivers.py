"""Which generator drives a case: ``--aefm-wrk`` and the ini value ``aefm_wrk``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

USAGES = Path(__file__).parents[1] / "unit" / "data" / "wrk2"
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
_WRK2 = os.environ.get("AEFM_TEST_WRK2") or shutil.which("wrk2") or ""


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


@pytest.mark.skipif(not _WRK2, reason="no wrk2: build it and name it in AEFM_TEST_WRK2, or put it on PATH")
def test_a_case_driven_by_wrk2(folder: ExperimentFolder) -> None:
    """A report by wrk2 is of the same schema; what wrk2 cannot tell is absent, and listed with the reason."""
    folder.test("duration=2, slos=['p50 < 1s']")
    folder.run(f"--aefm-wrk={_WRK2.split(os.pathsep)[0]}").assert_outcomes(passed=1)
    jsonschema.validate(folder.report(), json.loads(SCHEMA.read_text()))
    load = folder.trial()["load"]
    assert load["driver"].startswith("wrk2")
    assert {"pacer lag p99", "connections", "local open failures"} == set(load["unknown"])
    assert (None, None) == (load["pacer_lag"], load["connections"]["reached"])
    assert load["offered"] == load["outcomes"]["success"] > 200
