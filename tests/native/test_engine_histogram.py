"""The engine's histograms are readable by others: HdrHistogram V2, base64."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def encodings(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[int, int], str]]:
    """Return what the C unit test recorded, and its encoding."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "expected the C compiler that built the engine"
    program = tmp_path_factory.mktemp("histogram") / "encode"
    native = ROOT / "native"
    sources = [native / "tests/test_histogram.c", native / "histogram.c", native / "base64.c"]
    subprocess.run([compiler, "-std=c11", "-D_GNU_SOURCE", "-I", native, *sources, "-lm", "-o", program], check=True)
    out = subprocess.run([program, "encode"], capture_output=True, text=True, check=True).stdout
    return [(_counts(line.split()[0]), line.split()[1]) for line in out.splitlines()]


def _counts(text: str) -> dict[int, int]:
    return {int(value): int(count) for value, count in (pair.split("*") for pair in text.split(","))}


def test_python_decodes_every_count(encodings: list[tuple[dict[int, int], str]]) -> None:
    """Small, huge and wide histograms, of one or several stored blocks, come back cell by cell."""
    assert 4 == len(encodings)
    for counts, text in encodings:
        decoded = HdrHistogram.decode(text)
        assert sum(counts.values()) == decoded.get_total_count()
        cells: dict[int, int] = {}
        for value, count in counts.items():
            low = decoded.get_lowest_equivalent_value(min(value, 3_600_000_000))
            cells[low] = cells.get(low, 0) + count
        for low, count in cells.items():
            assert count == decoded.get_count_at_value(low)


def test_reports_agree_with_their_histograms(serve: Callable[..., Any], wrk: Callable[..., Any]) -> None:
    """Count and percentiles in the JSON are those of the encoded histogram beside them."""
    server = serve(lambda exchange: (exchange.wait(exchange.number % 10 / 1000), exchange.answer()))
    success = wrk("-t2", "-c8", "-R100", "-d2s", server.url).report["latency"]["success"]
    decoded = HdrHistogram.decode(success["hdr"])
    assert 200 == success["count"] == decoded.get_total_count()
    for name, percentile in (("p50_us", 50), ("p90_us", 90), ("p95_us", 95), ("p99_us", 99)):
        assert success[name] == pytest.approx(decoded.get_value_at_percentile(percentile), rel=0.002)
    assert decoded.values_are_equivalent(success["max_us"], decoded.get_max_value())
