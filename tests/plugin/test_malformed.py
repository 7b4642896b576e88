"""Malformed experiments as files that pytest collects: each has a message, and nothing is started."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from tests.unit.test_experiment_mutants import mutants

if TYPE_CHECKING:
    from tests.plugin.conftest import ExperimentFolder

NUMBER = 300


def malformed() -> list[str]:
    """Return that many different experiments of which each was valid before something in it was changed."""
    found: list[str] = []

    @given(mutants())
    @settings(max_examples=NUMBER * 3 // 2, database=None, suppress_health_check=list(HealthCheck))
    def look(document: dict[Any, Any]) -> None:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        if text not in found:
            found.append(text)

    look()
    return found


def test_300_malformed_files(folder: ExperimentFolder) -> None:
    """Each gives a message with file, line and path, none a traceback, and nothing is deployed."""
    texts = malformed()
    for number, text in enumerate(texts):
        (folder.path / f"e{number}.aefm.yaml").write_text(text)
    result = folder.run()
    assert pytest.ExitCode.INTERRUPTED == result.ret
    output = result.stdout.str()
    told = set(re.findall(r"^e(\d+)\.aefm\.yaml:[1-9]\d*: \S+[^:]*: \S", output, re.MULTILINE))
    refused = set(re.findall(r"ERROR collecting e(\d+)\.aefm\.yaml", output))
    assert set() == refused - told
    assert NUMBER <= len(refused)
    assert "Traceback" not in output
    assert "pytest_aefm/" not in output
    assert [] == folder.asked()
    assert not (folder.path / ".aefm").exists()
