"""What the report says of a run as a whole."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.settings import Settings

__all__ = ["run_facts"]


def run_facts(config: pytest.Config, settings: Settings) -> dict[str, Any]:
    """Return what the report says of the run: when, what, with which versions, on which machine."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from pytest_aefm.redaction import redact
    from pytest_aefm.testbeds.machine import machine_facts

    versions = {"python": platform.python_version()}
    for name in ("pytest-aefm", "pytest", "pytest-xdist"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    facts = {
        "id": settings.run_id,
        "started_wall_s": time.time(),
        "command": ["pytest", *config.invocation_params.args],
        "rootdir": str(config.rootpath),
        "git": _git(config.rootpath),
        "seed": settings.seed,
        "confidence": settings.confidence,
        "versions": versions,
        "machine": machine_facts(),
        "cleanup": [],
    }
    cleaned = redact(json.loads(json.dumps(facts, default=str)))
    assert isinstance(cleaned, dict)
    return cleaned


def _git(folder: Path) -> dict[str, Any] | None:
    """Return the revision that is checked out, and whether it has been changed; None outside a checkout."""

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout.strip()

    try:
        return {"revision": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
