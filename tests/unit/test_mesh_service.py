"""The parts of a mesh service that need no server: trace context, waits, calibration."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import pytest

from pytest_aefm.mesh import calibrate as calibration
from pytest_aefm.mesh.calibrate import calibrate
from pytest_aefm.mesh.resolved import WaitConfig
from pytest_aefm.mesh.steps import sampler_s
from pytest_aefm.mesh.tracing import parse_traceparent, traceparent
from pytest_aefm.mesh.work import work

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_survives_a_round_trip() -> None:
    """What is read is what is handed on."""
    context = parse_traceparent(f"00-{TRACE}-{SPAN}-01")
    assert context is not None
    assert f"00-{TRACE}-{SPAN}-01" == traceparent(context)


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """The recommendation: higher versions may append fields."""
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(header: str) -> None:
    """It is ignored, as the recommendation asks."""
    assert parse_traceparent(header) is None


@pytest.mark.parametrize(
    ("wait", "median_ms", "mean_ms"),
    [
        ({"constant_ms": 2.0}, 2.0, 2.0),
        ({"uniform_ms": [1.0, 3.0]}, 2.0, 2.0),
        ({"exponential_ms": 2.0}, 1.386, 2.0),
        ({"lognormal_ms": {"median": 2.0, "sigma": 0.5}}, 2.0, 2.266),
    ],
)
def test_waits_have_the_distribution_of_the_file(wait: WaitConfig, median_ms: float, mean_ms: float) -> None:
    """Median and mean of 20,000 draws are the distribution's, in seconds."""
    draw = sampler_s(wait, random.Random(1))
    drawn_ms = [draw() * 1e3 for _ in range(20_000)]
    assert median_ms == pytest.approx(statistics.median(drawn_ms), rel=0.04)
    assert mean_ms == pytest.approx(statistics.fmean(drawn_ms), rel=0.04)


def test_500_us_of_work_take_500_us_of_cpu(tmp_path: Path) -> None:
    """Calibrated work takes its CPU time, within 25 % (other processes share the machine's caches and clock)."""

    def ratio() -> float:
        iterations = round(500 * calibration.measure()[0])
        times_us = []
        for _ in range(101):
            start_ns = time.process_time_ns()
            work(iterations)
            times_us.append((time.process_time_ns() - start_ns) / 1e3)
        return statistics.median(times_us) / 500

    ratios: list[float] = []
    while len(ratios) < 3 and not any(0.75 < value < 1.25 for value in ratios):
        ratios.append(ratio())
    assert 1 == pytest.approx(ratios[-1], abs=0.25)


def test_a_calibration_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call reads what the first has kept."""
    monkeypatch.setattr(calibration, "measure", lambda: (12.5, 0.01))
    first = calibrate(tmp_path, model="cpu")
    monkeypatch.setattr(calibration, "measure", lambda: pytest.fail("measured again"))
    assert first == calibrate(tmp_path, model="cpu")
    assert 12.5 == first.iterations_per_us


def test_a_calibration_of_a_busy_machine_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is calm, at most three times a call and again at the next; the calmest is kept."""
    measured = iter([(8.0, 0.4), (9.0, 0.3), (7.0, 0.5), (10.0, 0.2), (12.0, 0.05)])
    monkeypatch.setattr(calibration, "measure", lambda: next(measured))
    assert 9.0 == calibrate(tmp_path, model="cpu").iterations_per_us
    assert 12.0 == calibrate(tmp_path, model="cpu").iterations_per_us
    monkeypatch.setattr(calibration, "measure", lambda: pytest.fail("measured again"))
    assert 12.0 == calibrate(tmp_path, model="cpu").iterations_per_us


@pytest.mark.parametrize("other", [{"model": "other"}, {"model": "cpu", "version": "2"}])
def test_another_cpu_or_version_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    """A calibration holds for one CPU model and one program version; the others are kept beside it."""
    rates = iter([10.0, 20.0])
    monkeypatch.setattr(calibration, "measure", lambda: (next(rates), 0.0))
    calibrate(tmp_path, model="cpu")
    assert 20.0 == calibrate(tmp_path, **other).iterations_per_us
    assert 10.0 == calibrate(tmp_path, model="cpu").iterations_per_us


@pytest.mark.parametrize("text", ["", "{}", '[{"iterations_per_us": 1}]', "[1]"])
def test_an_unreadable_calibration_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Half a file never becomes a calibration."""
    (tmp_path / "calibration.json").write_text(text)
    monkeypatch.setattr(calibration, "measure", lambda: (12.5, 0.0))
    assert 12.5 == calibrate(tmp_path, model="cpu").iterations_per_us
    assert '"cpu_model": "cpu"' in (tmp_path / "calibration.json").read_text()
