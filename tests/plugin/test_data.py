"""Tables of all trials: what --aefm-data leaves, also of several workers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.plugin.conftest import ExperimentFolder

TABLES = """
from pytest_aefm.collectors import Observations

class Fixed:
    name, provides = "fixed", frozenset()

    def collect(self, window):
        return Observations(tables={"own": lambda: {"pod": ["a", "b"], "x": [1.5, 2.5]}})

def pytest_aefm_collectors(case):
    return [Fixed()]
"""


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_trials_of_all_workers_are_in_one_file(folder: ExperimentFolder, workers: tuple[str, ...]) -> None:
    """Each table is one file, written by the controller; every row has its case's factors and the run."""
    (folder.path / "conftest.py").write_text((folder.path / "conftest.py").read_text() + TABLES)
    folder.test("rate=[200, 220], slos='none'")
    folder.run("--aefm-data=data", *workers, subprocess=True).assert_outcomes(passed=2)
    own = rows(folder.path / "data" / "it" / "own.csv")
    assert [("a", "200"), ("a", "220"), ("b", "200"), ("b", "220")] == sorted((row["pod"], row["rate"]) for row in own)
    run = folder.report()["run"]["id"]
    assert {run} == {row["run"] for row in own}
    assert 2 == len(rows(folder.path / "data" / "it" / "throughput_data.csv"))
    assert [] == list(folder.path.glob(".aefm/runs/*/trials/*/tables/*"))


def test_frames_need_no_option(folder: ExperimentFolder) -> None:
    """A test reads the tables of its trial as DataFrames; no file is written."""
    pytest.importorskip("pandas")
    folder.test("slos='none'", body="assert aefm_run().frames()['throughput_data']['rate'].tolist() == [200.0]")
    folder.run(subprocess=True).assert_outcomes(passed=1)  # pandas cannot be loaded twice
    assert [] == list(folder.path.glob(".aefm/runs/*/trials/*/tables"))


def test_tables_that_cannot_be_added_are_told(folder: ExperimentFolder) -> None:
    """The trial counts all the same, and its own files stay where the message says."""
    folder.test("slos='none'", body="import pathlib; pathlib.Path('data').write_text(''); aefm_run()")
    result = folder.run("--aefm-data=data")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*AEFM problems*", "*cannot be extended*throughput_data.csv*"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--aefm-data=tox.ini/data",), "--aefm-data: *tox.ini is no folder*"),
        (("--aefm-data=data", "--aefm-data-format=xlsx"), "--aefm-data-format: 'xlsx'; expected csv or parquet*"),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    folder: ExperimentFolder, options: tuple[str, ...], words: str
) -> None:
    """Before anything runs."""
    folder.test()
    result = folder.run(*options)
    assert 4 == result.ret
    result.stderr.fnmatch_lines([f"*{words}"])
