"""The reference is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pytest_aefm.slo import parse

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_up_to_date() -> None:
    """What `make docs` would write is what is there: options, keys, SLOs, report, hooks, fixtures, the schema."""
    command = [sys.executable, "tools/reference.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_published_schema_is_what_the_command_prints() -> None:
    """docs/experiment.schema.json is `aefm schema`."""
    done = subprocess.run([sys.executable, "-m", "pytest_aefm", "schema"], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "experiment.schema.json").read_text() == done.stdout


def test_examples_of_metrics_are_slos() -> None:
    """Every example on the page of SLOs can be parsed, and each metric has one."""
    text = (ROOT / "docs" / "reference" / "slos.md").read_text()
    rows = re.findall(r"^\| `(pNN|[a-z_]+)[^|]*\|[^|]*\|[^|]*\| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(rows) >= 10
    for metric, example in rows:
        assert ("latency" if metric == "pNN" else metric) == parse(example).name
