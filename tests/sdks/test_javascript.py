"""The OpenTelemetry SDK for JavaScript exports to our endpoint."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdks.conftest import TRACES, Endpoint

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "build" / "environments" / "javascript"


@pytest.fixture(scope="module")
def program() -> Path:
    """Install the SDK where that is not done, and return the program that exports."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("no npm or no node here: the SDK for JavaScript cannot be had")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    wanted, stamp = (HERE / "package.json").read_text(), INSTALLED / "installed.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        (INSTALLED / "package.json").write_text(wanted)
        options = ("--no-package-lock", "--no-audit", "--no-fund")
        done = subprocess.run(["npm", "install", *options], cwd=INSTALLED, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_text(wanted)
    return Path(shutil.copy2(HERE / "export.mjs", INSTALLED))


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_all_that_is_exported_is_analysed(program: Path, endpoint: Endpoint, form: str, compression: str) -> None:
    """In protobuf and JSON, compressed or not: times, kinds, errors, services, pods and who called whom."""
    command: list[str | Path] = ["node", program, endpoint.url, form, compression, str(TRACES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    endpoint.check()
