"""The JSON Schema for editors: it agrees with what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pytest_aefm.experiment import json_schema

DATA = Path(__file__).parent / "data"
MINIMAL: dict[str, Any] = {"app": "hotel", "script": "s.lua", "rate": 5, "duration": "5s"}


def is_valid(document: Any) -> bool:
    """Tell whether an editor would find nothing wrong."""
    return bool(jsonschema.Draft202012Validator(json_schema()).is_valid(document))


def test_it_is_a_schema() -> None:
    """It is a valid JSON Schema whose keys all say what they mean."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    models = [schema, *schema["$defs"].values()]
    assert all("description" in field for model in models for field in model["properties"].values())


@pytest.mark.parametrize("name", ["aefm-social.yaml", "hotel.yaml"])
def test_valid_experiments_are_valid(name: str) -> None:
    """What can be read is right in the editor too."""
    assert is_valid(yaml.safe_load((DATA / name).read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratee": 5},
        {"rate": "5rps"},
        {"rate": -1},
        {"rate": []},
        {"rate": {"min": 1}},
        {"cpu": [0.5]},
        {"order": "sorted"},
        {"testbed": "cloud"},
        {"duration": 0},
        {"interference": {"gpu": {}}},
        {"test_cases": {"workload": {"rnge": [1]}}},
        {"test_cases": {"round": 3}},
        {"nodes": [{"name": "a", "roles": ["worker"]}]},
    ],
)
def test_wrong_experiments_are_marked(wrong: dict[str, Any]) -> None:
    """What is refused for its shape is marked in the editor."""
    assert is_valid(MINIMAL)
    assert not is_valid({**MINIMAL, **wrong})
