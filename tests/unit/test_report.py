"""The report: entries, the fold over messages, journal, redaction, atomic writing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_aefm.errors import ReportError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.journal import Journal, read_journal
from pytest_aefm.judgement import judge_slos, load_checks
from pytest_aefm.model import (
    AppSpec,
    Case,
    Dose,
    Finding,
    InterferenceSpec,
    LoadResult,
    LoadSpec,
    Trial,
    Verdict,
    Window,
)
from pytest_aefm.redaction import redact
from pytest_aefm.report import (
    Report,
    broken_entry,
    check_writable,
    identity,
    table_rows,
    trial_entry,
    write_report,
)
from pytest_aefm.slo import parse

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
NODEID = "experiments/test_hotel.py::test_search[hotel-cpu1-40rps-r1]"
START = '{"kind":"run","schema":1,"run":{}}'
RUN = {
    "id": "x",
    "started_wall_s": 1.0,
    "command": ["pytest"],
    "seed": 1,
    "confidence": 0.95,
    "versions": {},
    "machine": {},
    "cleanup": [],
}


def a_trial() -> Trial:
    """A trial with everything in it."""
    load = LoadResult(
        driver="aefm-wrk",
        version="1",
        window=Window(1_000.0, 10.0, 5.0),
        drain_s=0.01,
        offered=200,
        sent=200,
        attempted=200,
        achieved=199,
        outcomes={"success": 199, "timeout": 1},
        latency={"success": LatencyHistogram.of([9_000.0] * 199), "timeout": LatencyHistogram.of([2e6])},
        pacer_lag=LatencyHistogram.of([50.0]),
        backlog_quarters=(0.0, 0.0, 0.0, 0.0),
        backlog_at_end=0,
        connections_asked=20,
        connections_reached=20,
    )
    case = Case(
        id="hotel-cpu1-40rps-r1",
        experiment="search",
        testbed="local",
        app=AppSpec("hotel"),
        interference=(InterferenceSpec("cpu", 1),),
        load=LoadSpec("hotel/search.lua", 40, 5),
        factors={"cpu": 1, "rate": 40, "round": 1},
        slos=(parse("p95 < 5ms"),),
    )
    slos = judge_slos(case.slos, load.metrics(), 0.95)
    return Trial(
        case=case,
        verdict=Verdict.VIOLATED,
        findings=(Finding(Verdict.VIOLATED, "p95", "p95 9 ms, limit < 5 ms"),),
        started_wall_s=990.0,
        window=load.window,
        load=load,
        metrics={"p50": 9.0, "p99": 9.0, "goodput": 0.995},
        slos=slos,
        checks=load_checks(load),
        doses=(Dose("cpu", 1, 0.99, True),),
        effect={"psi": {"cpu_some_share": 0.4}},
        environment={"password": "hunter2", "app": "hotel"},
        collectors={"traces": {"ok": True}},
        phases={"load": 7.0},
    )


def messages() -> list[dict[str, Any]]:
    """What a run of one trial tells."""
    return [
        {"kind": "run", "schema": 1, "run": RUN},
        {"kind": "phase", "nodeid": NODEID, "worker": None, "phase": "load"},
        {"kind": "trial", "trial": trial_entry(a_trial(), nodeid=NODEID)},
        {"kind": "outcome", "nodeid": NODEID, "worker": None, "attempt": 1, "outcome": "failed", "message": "p95"},
        {"kind": "end", "run": {"ended_wall_s": 2.0}},
    ]


def fold(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Fold messages into a document."""
    report = Report()
    for message in told:
        report.apply(message)
    return report.document()


def test_document_is_valid() -> None:
    """A report of a full trial follows the published schema."""
    jsonschema.validate(fold(messages()), SCHEMA)


def test_crash_entry_is_valid() -> None:
    """The entry of a crashed worker's trial follows the schema, too."""
    context = {"entry": trial_entry(a_trial(), nodeid=NODEID, worker="gw0"), "phase": "load", "attempt": 2}
    told = [*messages()[:1], {"kind": "trial", "trial": broken_entry(context, "the worker crashed in phase 'load'")}]
    document = fold(told)
    jsonschema.validate(document, SCHEMA)
    trial = document["trials"][0]
    assert (2, "the worker crashed in phase 'load'", "load") == (
        trial["attempt"],
        trial["reason"],
        trial["findings"][0]["subject"],
    )


def test_journal_rebuilds_the_report(tmp_path: Path) -> None:
    """The journal's messages fold into the same report as live."""
    journal = Journal(tmp_path / "journal.jsonl")
    for message in messages():
        journal.write(message)
    journal.close()
    assert fold(messages()) == fold(list(read_journal(journal.path)))


def test_journal_cut_in_its_last_line_keeps_the_rest(tmp_path: Path) -> None:
    """A crash in the middle of a line loses that line alone."""
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{START}\n{{"kind":"tri')
    assert [json.loads(START)] == list(read_journal(path))


def test_journal_damaged_in_the_middle_names_the_line(tmp_path: Path) -> None:
    """Damage elsewhere is an error with file and line."""
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{START}\n{{"kind":"tri\n{{"kind":"end","run":{{}}}}\n')
    with pytest.raises(ReportError, match=r"journal\.jsonl:2: damaged line"):
        list(read_journal(path))


def test_missing_journal(tmp_path: Path) -> None:
    """A journal that is not there is an error that names it."""
    with pytest.raises(ReportError, match=r"nothing\.jsonl: cannot be read"):
        list(read_journal(tmp_path / "nothing.jsonl"))


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A journal of a newer schema is refused saying so."""
    path = tmp_path / "journal.jsonl"
    path.write_text('{"kind": "run", "schema": 99, "run": {}}')
    with pytest.raises(ReportError, match="schema 99; expected at most 1; install a newer pytest-aefm"):
        list(read_journal(path))


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"kind":"trial"}\n', '{"kind":"run","run":{}}\n', '{"schema":1}'])
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    """Anything but a journal is refused without a traceback."""
    path = tmp_path / "journal.jsonl"
    path.write_text(text)
    with pytest.raises(ReportError, match="not a journal"):
        list(read_journal(path))


def test_message_without_its_parts_names_the_line(tmp_path: Path) -> None:
    """A line that is JSON and no message is damage, too."""
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{START}\n{{"kind":"trial"}}\n{{"kind":"end","run":{{}}}}\n')
    with pytest.raises(ReportError, match=r"journal\.jsonl:2: damaged line: not a message of kind 'trial'"):
        list(read_journal(path))


def test_journal_begins_anew_with_each_run(tmp_path: Path) -> None:
    """A journal in the place of an older one, cut short or not, holds its own run alone."""
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{START}\n{{"kind":"tri')
    journal = Journal(path)
    journal.write(messages()[0])
    journal.close()
    assert messages()[:1] == list(read_journal(path))


def test_written_report_is_read_back(tmp_path: Path) -> None:
    """What is written atomically is what is read, and no scratch file stays."""
    path = tmp_path / "report.json"
    write_report(path, fold(messages()))
    assert fold(messages()) == json.loads(path.read_text())
    assert [path] == list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle leaves the old report and no scratch file."""
    path = tmp_path / "report.json"
    write_report(path, {"schema": 1, "run": {}, "trials": []})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match="No space left on device"):
        write_report(path, fold(messages()))
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_a_report_that_is_no_json_is_not_written(tmp_path: Path) -> None:
    """What JSON cannot hold is an error, and leaves no scratch file."""
    with pytest.raises(ReportError, match="no JSON"):
        write_report(tmp_path / "report.json", {"schema": 1, "run": {"where": tmp_path}, "trials": []})
    assert [] == list(tmp_path.iterdir())


def test_unwritable_paths_are_found_beforehand(tmp_path: Path) -> None:
    """A folder, or a file below another file, is refused before the run; a folder that is not there will be made."""
    with pytest.raises(ReportError, match="is a folder"):
        check_writable(tmp_path, "--aefm-report")
    check_writable(tmp_path / "none" / "some" / "report.json", "--aefm-report")
    check_writable(tmp_path / "report.json", "--aefm-report")
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="file is no folder"):
        check_writable(tmp_path / "file" / "report.json", "--aefm-report")


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("curl --password=hunter2 x", "curl --password=*** x"),
        ("https://me:pw@host/x", "https://***@host/x"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ({"API_KEY": "abc", "rate": 3}, {"API_KEY": "***", "rate": 3}),
        (["--token", "abc", "--rate", "3"], ["--token", "***", "--rate", "3"]),
        ("AWS_SECRET_ACCESS_KEY=abc rest", "AWS_SECRET_ACCESS_KEY=*** rest"),
        ("nothing to hide", "nothing to hide"),
        ("curl --token abc x", "curl --token *** x"),
        ("bad.lua:2: unexpected token near x", "bad.lua:2: unexpected token near x"),
    ],
)
def test_secrets_are_redacted(value: Any, clean: Any) -> None:
    """Credentials in strings, mappings and argument lists do not reach a report."""
    assert clean == redact(value)


def test_entry_is_redacted() -> None:
    """A trial's environment goes through redaction."""
    assert "***" == trial_entry(a_trial(), nodeid=NODEID)["environment"]["password"]


def test_names_are_no_secrets() -> None:
    """What tells a trial apart is told as it is, so that its outcome finds it."""
    nodeid = "test_it.py::test_it[token=abc-40rps]"
    case = replace(a_trial().case, id="token=abc-40rps", factors={"token": "abc"})
    entry = trial_entry(replace(a_trial(), case=case), nodeid=nodeid)
    told = (entry["id"], entry["nodeid"], entry["case"], entry["factors"])
    assert (nodeid, nodeid, "token=abc-40rps", {"token": "abc"}) == told


def test_outcomes_find_their_workers_trial() -> None:
    """Where several workers run the same test each, an outcome belongs to the trial of its own worker."""
    told = messages()[:1]
    for worker, outcome in (("gw0", "passed"), ("gw1", "failed")):
        told.append({"kind": "trial", "trial": trial_entry(a_trial(), nodeid=NODEID, worker=worker)})
        told.append({**messages()[3], "worker": worker, "outcome": outcome})
    assert ["passed", "failed"] == [trial["outcome"] for trial in fold(told)["trials"]]


@pytest.mark.parametrize(
    ("deployments", "repeats"),
    [
        ([("gw0", 1), ("gw1", 1), ("gw0", 2)], "redeployed"),
        ([("gw0", 1), ("gw1", 1), ("gw0", 1)], "interleaved"),
        ([("gw0", 1)], "interleaved"),
    ],
)
def test_repetitions_with_a_deployment_each_are_called_so(deployments: list[tuple[str, int]], repeats: str) -> None:
    """Repetitions are redeployed where no two of a point met the same deployment."""
    told = messages()[:1]
    for number, (worker, generation) in enumerate(deployments, 1):
        factors = {"cpu": 1, "rate": 40, "round": number}
        case = replace(a_trial().case, factors=factors, repeats="interleaved")
        trial = replace(a_trial(), case=case, environment={"generation": generation})
        told.append({"kind": "trial", "trial": trial_entry(trial, nodeid=NODEID, worker=worker)})
    assert {repeats} == {trial["repeats"] for trial in fold(told)["trials"]}


def test_entry_says_how_the_load_was_made() -> None:
    """Seed, warm-up, time-out and threads are in the entry: what it takes to do it again."""
    case = replace(a_trial().case, seed=7, load=LoadSpec("a.lua", 40, 5, 3, 1, 2, 20, 11))
    entry = trial_entry(replace(a_trial(), case=case), nodeid=NODEID)
    load = entry["load"]
    assert (7, 11, 3, 1, 2) == (entry["seed"], *(load[name] for name in ("seed", "warmup_s", "timeout_s", "threads")))


def test_table_says_what_was_not_judged() -> None:
    """Without SLOs a trial that passes says nothing of the application."""
    entry = {**fold(messages())["trials"][0], "verdict": "passed", "outcome": "passed", "judged": False}
    assert "passed (not judged)" == table_rows([entry])[1][-1]
    assert "passed (failed, not judged)" == table_rows([{**entry, "outcome": "failed"}])[1][-1]


def test_entry_travels_as_json() -> None:
    """An entry is plain JSON: strict serialisation and back gives the same."""
    entry = trial_entry(a_trial(), nodeid=NODEID)
    assert entry == json.loads(json.dumps(entry, allow_nan=False))


@pytest.mark.parametrize(("nodeid", "id"), [(NODEID, NODEID), (NODEID + "@group", NODEID)])
def test_identity_leaves_out_the_group(nodeid: str, id: str) -> None:
    """A trial is the same with and without xdist's group."""
    assert id == identity(nodeid)


def test_table_shows_outcome_where_it_differs() -> None:
    """The verdict stands alone where pytest's outcome is the usual one, with the outcome where not."""
    entry = fold(messages())["trials"][0]
    assert "violated" == table_rows([entry])[1][-1]
    assert "violated (passed)" == table_rows([{**entry, "outcome": "passed"}])[1][-1]


def test_lower_bounds_are_in_the_latency_of_the_report() -> None:
    """A timeout keeps its own histogram beside the successes."""
    load = trial_entry(a_trial(), nodeid=NODEID)["load"]
    assert {"success", "timeout"} == set(load["latency"])
    assert 1 == LatencyHistogram.decode(load["latency"]["timeout"]["hdr"]).count


def test_trial_without_a_load_is_valid() -> None:
    """A trial that broke before its load has an entry, too."""
    broken = replace(a_trial(), load=None, window=None, verdict=Verdict.BROKEN)
    told = [messages()[0], {"kind": "trial", "trial": trial_entry(broken, nodeid=NODEID)}]
    jsonschema.validate(fold(told), SCHEMA)
