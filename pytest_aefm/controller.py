"""From messages to journal, report and table, in the controller: the process that the user started.

What a test tells on its way goes to the journal and the report; what pytest says of the test itself follows as its
outcome. It is registered on no xdist worker.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aefm.recording import CLEANUP, KEPT, MESSAGE
from pytest_aefm.run_facts import run_facts
from pytest_aefm.screen import Curtain, progress_of, standard_output
from pytest_aefm.settings import settings_of
from pytest_aefm.table import table_lines, warning_lines
from pytest_aefm.termination import Termination

if TYPE_CHECKING:
    from pytest_aefm.journal import Journal
    from pytest_aefm.report import Report

__all__ = ["Controller"]


_Key = tuple[str, "str | None"]
"""A test and the worker that runs it."""


@dataclass
class _Outcome:
    """What pytest has said so far of a test's attempt; of none where the test has told nothing."""

    attempt: int | None = None
    outcome: str | None = None
    message: str = ""


class Controller:
    """Receives messages and outcomes; writes the journal, the report and the table. Registered on no worker."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._settings = config, settings_of(config)
        self._report: Report | None = None
        self._journal: Journal | None = None
        self._outcomes: dict[_Key, _Outcome] = {}
        self._crashed: dict[str, int] = {}
        self._cleanup: list[str] = []
        self._kept: list[str] = []
        self._problems: list[str] = []
        self._written: list[Path] = []
        self._fd = standard_output(config, self._settings)
        self._termination, self._workers = Termination(), False
        self.progress = progress_of(config, self._fd)
        config.pluginmanager.register(Curtain(self.progress), "aefm-curtain")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a message, or what pytest says of a test that has a trial."""
        key = _key(report)
        if report.when == MESSAGE:
            noted = self._outcomes.setdefault(key, _Outcome())
            for message in json.loads(report.aefm):
                noted.attempt = self._number(message)
                self._take(message)
        elif str(report.outcome) == "rerun":  # pytest-rerunfailures: in whatever phase it failed, the attempt is over
            self._note(key, "rerun", report)
            self._finish(key)
        elif report.when == "setup" and report.failed:
            self._note(key, "error", report)
        elif report.when == "call" or report.outcome == "skipped":
            self._note(key, _outcome_of_call(report), report)
        elif report.when == "teardown":
            if report.failed:
                self._note(key, "error", report)
            self._finish(key)

    def _number(self, message: dict[str, Any]) -> int:
        """Return the attempt of a message, counted on from those on workers that crashed."""
        told = message.get("trial", message)
        told["attempt"] += self._crashed.get(told["nodeid"], 0)
        return int(told["attempt"])

    def _note(self, key: _Key, outcome: str, report: pytest.TestReport) -> None:
        noted = self._outcomes.setdefault(key, _Outcome())
        noted.outcome = outcome
        if report.longrepr is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            noted.message = str(crash.message if crash else report.longrepr)

    def _finish(self, key: _Key) -> None:
        self.progress.finished(*key)
        noted = self._outcomes.pop(key, None)
        if noted is None or self._report is None:
            return
        attempt = {"nodeid": key[0], "worker": key[1], "attempt": noted.attempt}
        if any(attempt.items() <= entry.items() for entry in reversed(self._report.trials)):
            from pytest_aefm.redaction import redact

            self._take({"kind": "outcome", **attempt, "outcome": noted.outcome, "message": redact(noted.message)})

    def _take(self, message: dict[str, Any]) -> None:
        """Apply one message, in the journal first."""
        from pytest_aefm.journal import Journal, ignore_in_git
        from pytest_aefm.report import SCHEMA_VERSION, Report

        if self._report is None:
            self._report = Report()
            if self._workers:  # elsewhere the testbed of this process sees to it
                self._termination.begin()
            start = {"kind": "run", "schema": SCHEMA_VERSION, "run": run_facts(self._config, self._settings)}
            self._report.apply(start)
            with self._journal_problems():
                ignore_in_git(self._settings.cache_dir)
                self._journal = Journal(self._settings.journal)
                self._journal.write(start)
        if message["kind"] == "phase":
            self.progress.phase(message)
        elif message["kind"] == "trial":
            self.progress.recorded(message["trial"]["nodeid"], message["trial"]["worker"])
        elif message["kind"] == "tables":
            self._take_tables(message)
        self._report.apply(message)
        if self._journal is not None:
            with self._journal_problems():
                self._journal.write(message)

    def _take_tables(self, message: dict[str, Any]) -> None:
        """Add a trial's tables to those of all trials; one that cannot be added is told, and stays where it is."""
        from pytest_aefm.datafiles import DataFolder
        from pytest_aefm.errors import ReportError

        settings = self._settings
        try:
            if "problem" in message:
                raise ReportError("--aefm-data", message["problem"])
            assert settings.data is not None, "workers have the controller's options"
            DataFolder(settings.data, settings.data_format, settings.run_id).take(
                message["experiment"], message["files"]
            )
        except ReportError as error:
            self._problem(str(error))

    @contextlib.contextmanager
    def _journal_problems(self) -> Iterator[None]:
        """Tell of a journal that cannot be written; the run goes on without it."""
        try:
            yield
        except OSError as error:
            self._problem(f"journal {self._settings.journal} cannot be written: {error.strerror}")

    def _problem(self, text: str) -> None:
        if text not in self._problems:
            self._problems.append(text)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give every worker the run's id and seed, so that all collect the same order."""
        self._workers = True
        node.workerinput["aefm_run_id"] = self._settings.run_id
        node.workerinput["aefm_seed"] = self._settings.seed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Read what a worker could not remove."""
        del error
        self._cleanup += getattr(node, "workeroutput", {}).get("aefm_cleanup", [])
        self._kept += getattr(node, "workeroutput", {}).get("aefm_kept", [])

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: object) -> None:
        """Turn the last phase of a crashed worker's test into a broken trial."""
        del sched
        noted = self._outcomes.get(_key(report))
        if self._report is None or noted is None or noted.attempt is None:
            return
        context = self._report.running.get(_key(report))
        if context is not None and "entry" in context:
            from pytest_aefm.report import broken_entry

            reason = f"the worker crashed in phase {context['phase']!r}"
            self._take({"kind": "trial", "trial": broken_entry(context, reason)})
        self._crashed[crashitem] = noted.attempt
        self._note(_key(report), "rerun" if str(report.outcome) == "rerun" else "error", report)
        self._finish(_key(report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the report: in the run's own folder, and where the user wants it."""
        self._termination.ignore()
        self._cleanup += list(self._config.stash.get(CLEANUP, ()))
        self._kept += list(self._config.stash.get(KEPT, ()))
        if self._cleanup and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._report is None:
            return
        for key in list(self._outcomes):
            self._finish(key)
        self._take({"kind": "end", "run": {"ended_wall_s": time.time(), "cleanup": self._cleanup}})
        if self._report.trials:
            self._write_reports(session)
        if self._journal is not None:
            with self._journal_problems():
                self._journal.close()

    def _write_reports(self, session: pytest.Session) -> None:
        from pytest_aefm.errors import ReportError
        from pytest_aefm.report import write_report

        assert self._report is not None
        document = self._edited(self._report.document())
        for path in (self._settings.run_dir / "report.json", self._settings.report):
            try:
                write_report(path, document)
                self._written.append(path)
            except ReportError as error:
                self._problem(str(error))
                if session.exitstatus == 0:
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _edited(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the report as the hook has it; as it was, where the hook fails or leaves what is no JSON."""
        edited = copy.deepcopy(document)
        try:
            self._config.hook.pytest_aefm_report(config=self._config, report=edited)
            json.dumps(edited, allow_nan=False)
        except Exception as error:  # the trials are worth more than an addition to them
            self._problem(f"pytest_aefm_report: {error!r}; the report is written without what it changed")
            return document
        return edited

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of cases, what is amiss, and where the report lies."""
        terminalreporter.ensure_newline()
        if self._report is not None and self._report.trials:
            terminalreporter.section("AEFM cases")
            verbose = self._config.getoption("verbose") > 0
            width = shutil.get_terminal_size().columns if terminalreporter.isatty else None  # no limit in a file
            for line, colour in table_lines(self._report.trials, verbose, width):
                terminalreporter.write_line(line, **colour)
            for line in _growth(self._report.trials):
                terminalreporter.write_line(line)
            self._write_section(terminalreporter, "AEFM warnings", warning_lines(self._report.trials), "yellow")
        for title, lines in (("AEFM cleanup", self._cleanup), ("AEFM problems", self._problems)):
            self._write_section(terminalreporter, title, lines, "red")
        for line in self._kept:
            terminalreporter.write_line(line)
        if self._written:
            shown = self._written[-1]
            with contextlib.suppress(ValueError):
                shown = shown.relative_to(Path.cwd())
            terminalreporter.write_line(f"report: {shown}  (this run: {self._settings.run_dir})")

    @staticmethod
    def _write_section(reporter: pytest.TerminalReporter, title: str, lines: Sequence[str], colour: str) -> None:
        if lines:
            reporter.section(title, red=colour == "red", yellow=colour == "yellow")
            for line in lines:
                reporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        """Give back what is open."""
        self._termination.end()
        self.progress.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _key(report: pytest.TestReport) -> _Key:
    worker = getattr(getattr(report, "node", None), "gateway", None)
    return report.nodeid, worker.id if worker is not None else None


def _outcome_of_call(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if getattr(report, "aefm_verdict", None):
        return "error"
    return str(report.outcome)


def _growth(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Return whose self times grew, of trials that were disturbed and did not pass."""
    from pytest_aefm.comparison import growth_lines, with_growth

    return [line for entry in with_growth(trials) if entry["verdict"] != "passed" for line in growth_lines(entry)]
