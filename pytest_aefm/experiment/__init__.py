"""YAML or marker -> Experiment -> ordered Cases; errors name file, line and path.

    load, from_options -> settings (schema, fields, quantities, source) -> building -> values, matrix

No pytest here, and pydantic is imported only when something is read.
"""

from __future__ import annotations

from typing import Any

from pytest_aefm.experiment.building import from_options, load
from pytest_aefm.experiment.matrix import KINDS, Factor, Matrix, interference_specs
from pytest_aefm.experiment.settings import contradiction, merge_markers
from pytest_aefm.experiment.values import Cluster, Experiment, Load, Node

__all__ = [
    "KINDS",
    "Cluster",
    "Experiment",
    "Factor",
    "Load",
    "Matrix",
    "Node",
    "contradiction",
    "from_options",
    "interference_specs",
    "json_schema",
    "load",
    "merge_markers",
]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an experiment file, for editors."""
    from pytest_aefm.experiment.schema import json_schema

    return json_schema()
