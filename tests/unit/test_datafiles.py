"""Tables on disk: what a trial writes, and how trials come together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.datafiles import DataFolder, refuse_folder, write_tables
from pytest_aefm.errors import ReportError
from pytest_aefm.model import AppSpec, Case, LoadSpec, Trial, Verdict

SPEC = LoadSpec("x.lua", 100, 10)


def trial(columns: dict[str, Any], **factors: Any) -> Trial:
    """Return a trial with one table."""
    case = Case("hotel-100rps", "hotel", "local", AppSpec("hotel"), (), SPEC, {"rate": 100.0, **factors})
    return Trial(case, Verdict.PASSED, tables={"some_data": lambda: columns})


def write(folder: Path, name: str, columns: dict[str, Any], kind: str = "csv", **factors: Any) -> dict[str, str]:
    """Write a trial's tables as a run does."""
    return write_tables(trial(columns, **factors), folder / "trials" / name / "tables", kind, "run-1")


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_is_written_with_its_run(tmp_path: Path) -> None:
    """Factors, case, attempt and run stand in each row; what is not known is empty, and text is quoted."""
    files = write(tmp_path, "one", {"pod": ['a "b", c', "d"], "p50": [1.5, float("nan")]})
    first, second = rows(Path(files["some_data"]))
    expected = {
        "pod": 'a "b", c',
        "p50": "1.5",
        "rate": "100.0",
        "case": "hotel-100rps",
        "attempt": "1",
        "run": "run-1",
    }
    assert expected == first
    assert "" == second["p50"]


def test_trials_come_together_in_one_file(tmp_path: Path) -> None:
    """With one head; a trial's own file is gone."""
    folder = DataFolder(tmp_path / "data", "csv", "run-1")
    for name in ("one", "two"):
        files = write(tmp_path, name, {"x": [1, 2]})
        folder.take("hotel", files)
        assert not Path(files["some_data"]).exists()
    assert 4 == len(rows(tmp_path / "data" / "hotel" / "some_data.csv"))


def test_other_columns_get_a_file_of_their_own(tmp_path: Path) -> None:
    """What an earlier run wrote with other factors is left alone."""
    DataFolder(tmp_path / "data", "csv", "run-1").take("hotel", write(tmp_path, "one", {"x": [1]}))
    DataFolder(tmp_path / "data", "csv", "run-2").take("hotel", write(tmp_path, "two", {"x": [1]}, cpu=2))
    names = sorted(path.name for path in (tmp_path / "data" / "hotel").iterdir())
    assert ["some_data-run-2.csv", "some_data.csv"] == names


def test_an_experiments_name_is_no_path(tmp_path: Path) -> None:
    """Whatever it is called, its folder lies in the folder."""
    DataFolder(tmp_path / "data", "csv", "run-1").take("../x/y", write(tmp_path, "one", {"x": [1]}))
    assert ["..-x-y"] == [path.name for path in (tmp_path / "data").iterdir()]


def test_parquet_is_a_folder_that_is_read_as_one_table(tmp_path: Path) -> None:
    """A file for each trial, with the types of the columns."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder = DataFolder(tmp_path / "data", "parquet", "run-1")
    for name in ("one", "two"):
        folder.take("hotel", write(tmp_path, name, {"x": [1.5, float("nan")], "pod": ["a", "b"]}, "parquet"))
    frame = pandas.read_parquet(tmp_path / "data" / "hotel" / "some_data.parquet")
    assert (4, 2, {100.0}) == (len(frame), int(frame["x"].isna().sum()), set(frame["rate"]))


def test_a_table_that_cannot_be_extended_stays(tmp_path: Path) -> None:
    """The message says where the trial's own file is."""
    files = write(tmp_path, "one", {"x": [1]})
    (tmp_path / "data").write_text("")
    with pytest.raises(ReportError, match=r"cannot be extended: .*some_data\.csv"):
        DataFolder(tmp_path / "data", "csv", "run-1").take("hotel", files)
    assert Path(files["some_data"]).exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """It is refused before anything runs, as is a folder in a file; one in a folder that is to be made will do."""
    (tmp_path / "data").write_text("")
    with pytest.raises(ReportError, match=r"--aefm-data: .* is a file"):
        refuse_folder(tmp_path / "data", "csv")
    with pytest.raises(ReportError, match="is no folder"):
        refuse_folder(tmp_path / "data" / "below", "csv")
    refuse_folder(tmp_path / "new" / "data", "csv")
