"""The command `aefm`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from pytest_aefm.cli import main
from pytest_aefm.doctor import examine

ROOT = Path(__file__).parents[2]


def test_schema_accepts_the_experiment_that_comes_along(capsys: pytest.CaptureFixture[str]) -> None:
    """`aefm schema` prints a JSON Schema that the hotel's experiment follows."""
    assert 0 == main(["schema"])
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate(yaml.safe_load((ROOT / "experiments" / "hotel.yaml").read_text()), schema)


def test_missing_journal_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`aefm report` of a journal that is not there exits 1 with one line."""
    assert 1 == main(["report", "--from-journal", str(tmp_path / "none.jsonl")])
    assert 1 == len(capsys.readouterr().err.splitlines())


def test_doctor_examines_all_that_can_spoil_a_trial() -> None:
    """The doctor looks at versions, tools, cores, quota, timers, steal, PSI and ports."""
    found = {finding.subject: finding for finding in examine()}
    tools = {"aefm-wrk", "aefm-mesh", "stress-ng", "iperf3", "prometheus"}
    assert tools | {"versions", "cores", "quota", "timers", "steal", "ports"} <= set(found)
    assert {finding.state for finding in found.values()} <= {"ok", "warn", "bad"}
    assert all(finding.mend for finding in found.values() if finding.state != "ok")


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    """Without stress-ng and iperf3 on PATH the doctor exits 1 and says how to get them."""
    command = [sys.executable, "-m", "pytest_aefm", "doctor"]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert 1 == done.returncode
    assert "bad   stress-ng: not found on PATH: cases with interference are broken" in done.stdout
    assert "-> install it: apt-get install stress-ng" in done.stdout
    assert "bad   iperf3: not found on PATH: cases with network interference are broken" in done.stdout
    assert "-> install it: apt-get install iperf3" in done.stdout


def test_doctor_of_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is a finding; of this machine only what drives the load is looked at."""
    assert 1 == main(["doctor", "--kubeconfig", str(tmp_path / "none")])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("bad   cluster: kubeconfig ") and "none: not found" in line for line in lines)
    assert not any(tool in line for line in lines for tool in ("stress-ng", "iperf3"))


def test_cleaning_a_cluster_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`aefm clean` without a cluster exits 1."""
    assert 1 == main(["clean", "--kubeconfig", str(tmp_path / "none"), "--run", "r1"])
    assert 1 == len(capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "interference: nothing is asked for; such as --cpu 2"),
        (["--cpu", "2"], "interference: the image of its pods is not known; name it with --image"),
        (["--cpu", "many"], "--cpu: expected a whole number from 0 to"),
        (["--mem-size", "-1"], "--mem-size: expected a positive size such as 200Mi"),
        (["--for", "0s"], "--for: expected a positive duration such as"),
    ],
)
def test_interfere_refuses_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Before any cluster is reached."""
    assert 1 == main(["interfere", *arguments])
    assert capsys.readouterr().err.startswith(f"aefm: {message}")
