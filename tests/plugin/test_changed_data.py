"""Scripts that change the application's data say so, and the report tells what each case's data had been through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_aefm.load.scripts import bundled_folder, changes_data

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

CHANGING = 'mutates = true -- says it\nfunction request() return wrk.format("GET", "/ok") end\n'


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("mutates = true", True),
        ("local x\n  mutates=true", True),
        ("-- mutates = true", False),
        ("mutates = false", False),
        ("mutates = truely", False),
        ("", False),
    ],
)
def test_a_line_of_the_script_says_it(tmp_path: Path, text: str, changes: bool) -> None:
    """One assignment on a line of its own; comments say nothing."""
    script = tmp_path / "script.lua"
    script.write_text(text)
    assert changes == changes_data(script)


def test_the_hotels_scripts_say_it() -> None:
    """Reservations change data, alone and mixed with other requests."""
    said = {script.stem for script in (bundled_folder() / "hotel").glob("*.lua") if changes_data(script)}
    assert {"reserve", "mixed-workload_type_1"} == said


def test_the_report_tells_what_the_data_had_been_through(folder: ExperimentFolder) -> None:
    """How many loads had changed the data before, whichever test sent them; the plan notes it."""
    folder.path.joinpath("write.lua").write_text(CHANGING)
    folder.test("script='write.lua', rounds=2")
    usual = folder.path / "test_the_report_tells_what_the_data_had_been_through.py"
    source = usual.read_text()
    usual.write_text(source + "\n" + source.replace("write.lua", "ok.lua").replace("test_it", "test_reads"))
    folder.run("--aefm-plan").stdout.fnmatch_lines(["note: *::test_it: write.lua changes the application's data: *"])
    folder.run().assert_outcomes(passed=4)
    data = [trial["environment"]["data"] for trial in folder.report()["trials"]]
    assert [(True, 0), (True, 1), (False, 2), (False, 2)] == [tuple(item.values()) for item in data]


@pytest.mark.parametrize(("script", "said"), [("write.lua", False), ("ok.lua", True)])
def test_the_experiment_has_the_last_word(folder: ExperimentFolder, script: str, said: bool) -> None:
    """`mutates` of the experiment decides, whatever the script says."""
    folder.path.joinpath("write.lua").write_text(CHANGING)
    folder.test(f"script={script!r}, mutates={said}, rounds=2")
    planned = folder.run("--aefm-plan").stdout.str()
    assert said == ("changes the application's data" in planned)
