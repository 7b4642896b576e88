"""``aefm traces``: files of every kind say the same; what is wrong with one is said with its name."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.cli import main
from pytest_aefm.collectors.receiver import RECORD

TRACE = "0102030405060708090a0b0c0d0e0f10"
START_US = 1_700_000_000_000_000
SPANS = (("0000000000000001", None, "front", 0, 100), ("0000000000000002", "0000000000000001", "back", 10, 70))


def jaeger() -> bytes:
    """Return a trace of two services as Jaeger has it."""
    spans = [
        {
            "traceID": TRACE,
            "spanID": span,
            "operationName": "/",
            "references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": parent}] if parent else [],
            "startTime": START_US + start,
            "duration": end - start,
            "tags": [],
            "processID": service,
        }
        for span, parent, service, start, end in SPANS
    ]
    processes = {service: {"serviceName": service, "tags": []} for _, _, service, _, _ in SPANS}
    return json.dumps({"data": [{"traceID": TRACE, "spans": spans, "processes": processes}]}).encode()


def otlp(number: int) -> dict[str, Any]:
    """Return an export of one of its spans."""
    span, parent, service, start, end = SPANS[number]
    made = {
        "traceId": TRACE,
        "spanId": span,
        "parentSpanId": parent or "",
        "name": "/",
        "startTimeUnixNano": str((START_US + start) * 1000),
        "endTimeUnixNano": str((START_US + end) * 1000),
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [made]}]}]}


def store() -> bytes:
    """Return a receiver's store of both exports."""
    bodies = [json.dumps(otlp(number)).encode() for number in range(2)]
    return b"".join(RECORD.pack(len(body), 1, 0) + body for body in bodies)


def lines() -> bytes:
    """Return both exports, one a line."""
    return b"".join(json.dumps(otlp(number)).encode() + b"\n" for number in range(2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("jaeger.json", jaeger),
        ("lines.jsonl", lines),
        ("run.otlp", store),
        ("packed.json.gz", lambda: gzip.compress(jaeger())),
        ("indented.json", lambda: json.dumps(json.loads(jaeger()), indent=1).encode()),
    ],
)
def test_files_of_every_kind_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: Callable[[], bytes]
) -> None:
    """Services, calls, critical path."""
    (tmp_path / name).write_bytes(content())
    assert 0 == main(["traces", str(tmp_path / name), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"front": (0.04, 0.4), "back": (0.06, 0.6)} == {
        row["service"]: (row["self_p50_ms"], row["critical_share"]) for row in found["services"]
    }
    assert [("front", "back", 1)] == [(row["caller"], row["callee"], row["calls"]) for row in found["edges"]]
    assert (1, 0) == (found["end_to_end"]["traces"], found["audit"]["orphans"])


def test_a_folder_is_read_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Parts of one trace in several files are joined; other files are left alone."""
    for number in range(2):
        (tmp_path / f"{number}.json").write_text(json.dumps(otlp(number)))
    (tmp_path / "notes.txt").write_text("nothing")
    assert 0 == main(["traces", str(tmp_path), "--json"])
    audit = json.loads(capsys.readouterr().out)["audit"]
    assert (1, 2, 0) == (audit["traces"], audit["spans"], audit["orphans"])


def test_the_table_is_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The service with most of the critical path is at the top."""
    (tmp_path / "a.json").write_bytes(jaeger())
    assert 0 == main(["traces", str(tmp_path / "a.json")])
    printed = capsys.readouterr().out.splitlines()
    assert "1 traces of 2 spans over 0 s" == printed[0]
    at = next(number for number, line in enumerate(printed) if line.startswith("service "))
    assert ["back", "front"] == [line.split()[0] for line in printed[at + 1 : at + 3]]
    assert "audit: nothing is odd" in printed


def test_csv_has_a_row_per_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One table that every tool can read."""
    (tmp_path / "a.json").write_bytes(jaeger())
    assert 0 == main(["traces", str(tmp_path / "a.json"), "--csv"])
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    (found,) = [
        row for row in rows if (row["table"], row["service"], row["figure"]) == ("services", "back", "self_p50_ms")
    ]
    assert "0.06" == found["value"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"data": [{}]}', "a.json: Jaeger JSON: malformed"),
        ("a.json", b'{"data": [{"traceID": "x y", "spans": []}]}', "a.json: Jaeger JSON: malformed"),
        ("a.json", b'{"resourceSpans": 1}', "a.json: OTLP body: malformed"),
        ("a.json", b"{}", "a.json: file of traces: of no known kind"),
        ("a.json", b"", "a.json: file of traces: of no known kind"),
        ("a.json.gz", b"plain", "a.json.gz: cannot be read"),
        ("a.otlp", b"\xff" * 8, "a.otlp, byte 0: no record of a receiver starts here"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    """Status 1, the file's name and the reason, also where it is one of several."""
    (tmp_path / "good.json").write_bytes(jaeger())
    (tmp_path / name).write_bytes(content)
    assert 1 == main(["traces", str(tmp_path / "good.json"), str(tmp_path / name)])
    assert message in capsys.readouterr().err


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And so is a folder without any."""
    assert (1, 1) == (main(["traces", str(tmp_path / "no.json")]), main(["traces", str(tmp_path)]))
    said = capsys.readouterr().err
    assert "no.json: cannot be read: No such file or directory" in said
    assert "no file of traces in this folder" in said
