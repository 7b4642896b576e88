"""Tables on disk: a trial's own, written where it ran, and those of all trials, which the controller alone extends."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_aefm.errors import ReportError
from pytest_aefm.model import Trial
from pytest_aefm.report import check_writable

__all__ = ["DataFolder", "refuse_folder", "write_tables"]


def refuse_folder(folder: Path, kind: str) -> None:
    """Refuse a folder that cannot take tables, or a format for which something is not installed.

    Raises:
        ReportError: it says what.
    """
    if folder.exists() and not folder.is_dir():
        raise ReportError("--aefm-data", f"{folder} is a file", "the path of a folder")
    check_writable(folder / "table" if folder.is_dir() else folder, "--aefm-data")
    if kind == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401 - whether it is there is all that is asked
        except ImportError:
            hint = "pip install 'pytest-aefm[frames]'"
            raise ReportError("--aefm-data-format", "pyarrow is not installed", "csv", hint) from None


def write_tables(trial: Trial, folder: Path, kind: str, run: str) -> dict[str, str]:
    """Write each table of a trial into a file of its own, with the run's id in each row; return paths by table.

    Raises:
        ReportError: one cannot be written.
    """
    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in trial.tables:
            columns = trial.table(name)
            rows = len(next(iter(columns.values()), ()))
            path = folder / f"{name}.{kind}"
            (_write_parquet if kind == "parquet" else _write_csv)(path, {**columns, "run": [run] * rows})
            written[name] = str(path)
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise ReportError(f"tables in {folder}", what, "a writable folder with room") from error
    return written


def _write_csv(path: Path, columns: Mapping[str, Any]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*map(_cells, columns.values()), strict=True))


def _cells(column: Any) -> Iterable[Any]:
    """Return a column's values as Python has them; what is not known is an empty cell."""
    values = column.tolist() if hasattr(column, "tolist") else column
    return ["" if value != value else value for value in values]


def _write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path)


class DataFolder:
    """A folder with a folder for each experiment, and in it the tables of all trials, of earlier runs, too.

    In CSV a table is one file. In Parquet, which cannot be appended to, it is a folder with a file for each trial,
    which readers take for one table.
    """

    def __init__(self, path: Path, kind: str, run: str) -> None:
        self.path, self._kind, self._run = path, kind, run

    def take(self, experiment: str, files: Mapping[str, str]) -> None:
        """Take in the tables of a trial; their own files are gone afterwards.

        Raises:
            ReportError: one cannot be written; its file is where it was.
        """
        folder = self.path / re.sub(r"[^A-Za-z0-9_.+-]+", "-", experiment)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, path in files.items():
                if self._kind == "parquet":
                    self._move(Path(path), folder / f"{name}.parquet")
                else:
                    self._append(Path(path), folder / f"{name}.csv")
        except OSError as error:
            what = f"cannot be extended: {error.strerror}; tables that are missing there: {', '.join(files.values())}"
            raise ReportError(str(folder), what, "a writable folder with room") from error

    def _move(self, part: Path, table: Path) -> None:
        table.mkdir(exist_ok=True)
        scratch = table / f".{part.parents[1].name}.new"  # names that begin with a dot are no part of a table
        shutil.move(part, scratch)
        scratch.replace(table / f"{self._run}-{part.parents[1].name}.parquet")

    def _append(self, part: Path, table: Path) -> None:
        """Append rows. Where an earlier run had other columns, this one's rows go into a file of its own."""
        with part.open("rb") as rows:
            head = rows.readline()
            if table.exists() and _first_line(table) != head:
                table = table.with_name(f"{table.stem}-{self._run}.csv")
            with table.open("ab") as file:
                if not file.tell():
                    file.write(head)
                shutil.copyfileobj(rows, file)
        part.unlink()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()
