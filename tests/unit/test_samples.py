"""Raw samples: which are taken, what they say of a window, and for what they are too few."""

from __future__ import annotations

import pytest

from pytest_aefm.collectors.figures import Limits, node_figures, pod_figures, service_figures, unfit_peak
from pytest_aefm.collectors.samples import brackets, chosen_samples, counter_rate, increase, steepest, too_few
from pytest_aefm.model import Window

WINDOW = Window(start_wall_s=1000.0, start_mono_s=0.0, duration_s=5.0)
USED = [[(999.0, 0.0), (1002.0, 3.0), (1003.0, 5.0), (1006.0, 7.0)]]


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ([998, 999, 1001, 1004, 1006, 1007], [999, 1001, 1004, 1006]),
        ([1000, 1005], [1000, 1005]),
        ([1001, 1002], [1001, 1002]),
        ([990, 999], [999]),
        ([1005.5, 1006], [1005.5]),
        ([], []),
    ],
)
def test_samples_that_bracket_the_window(times: list[float], chosen: list[float]) -> None:
    """Samples in the window are taken, the last one before it and the first one after it."""
    assert [time for time, _ in chosen_samples([(time, 0.0) for time in times], WINDOW)] == chosen


@pytest.mark.parametrize(
    ("times", "outside"), [([999, 1006], True), ([1001, 1006], False), ([999, 1004], False), ([], False)]
)
def test_bracketing_needs_both_sides(times: list[float], outside: bool) -> None:
    """A window is bracketed where a sample lies before it and one after."""
    assert outside == brackets([(time, 0.0) for time in times], WINDOW)


def test_rate_is_of_first_and_last_sample() -> None:
    """The rate is the difference of values over that of sample times: nothing is extrapolated."""
    assert counter_rate([(10.0, 1.0), (11.0, 1.2), (14.0, 3.0)]) == 0.5


@pytest.mark.parametrize("samples", [[], [(10.0, 1.0)], [(10.0, 5.0), (11.0, 0.1), (12.0, 9.0)]])
def test_rate_is_unknown(samples: list[tuple[float, float]]) -> None:
    """Less than two samples, or a counter that was reset, give no rate."""
    assert counter_rate(samples) is None


def test_steepest_is_the_highest_rate_of_neighbours() -> None:
    """The peak of a counter's rate is that between two samples, a reset being none."""
    assert 2.0 == steepest([(0.0, 0.0), (1.0, 2.0), (3.0, 3.0), (4.0, 0.0)])
    assert steepest([(0.0, 0.0)]) is None


def test_increase_is_of_all_series_that_can_tell() -> None:
    """Counters with two samples grow together; one with a single sample says nothing."""
    assert 7.0 == increase([[(999.0, 1.0), (1006.0, 8.0)], [(1001.0, 50.0)]], WINDOW)
    assert increase([[(1001.0, 50.0)]], WINDOW) is None


def test_too_few_points_for_a_peak_say_how_long_the_window_must_be() -> None:
    """Four samples in the window are needed, so it must last four intervals."""
    window = Window(0.0, 0.0, 40.0)
    reason = too_few(2, window, 30.0)
    expected = "2 samples in a window of 40 s; a peak needs at least 4: with a sample every 30 s the window must last "
    assert f"{expected}120 s or longer" == reason
    assert "" == too_few(4, window, 10.0)


def test_too_few_points_in_a_window_that_is_long_enough_ask_for_a_longer_warm_up() -> None:
    """What has just started is not scraped yet, however long the window is."""
    reason = too_few(2, Window(0.0, 0.0, 6.0), 1.0)
    assert "2 samples in a window of 6 s; a peak needs at least 4: with a sample every 1 s some are missing" in reason
    assert "longer warm-up" in reason


def test_a_pod_has_usage_shares_of_its_limits_and_peaks() -> None:
    """Usage is the mean over the bracketing samples, the peak that between two of them."""
    memory = [[(999.0, 10.0), (1002.0, 60.0), (1006.0, 20.0)]]
    figures = pod_figures({"cpu": USED, "memory": memory}, Limits(2.0, 100.0), WINDOW)
    assert {
        "samples": 4,
        "span_s": 7.0,
        "bracketed": True,
        "cpu_cores": 1.0,
        "cpu": 0.5,
        "cpu_peak": 1.0,
        "memory_max_bytes": 60.0,
        "memory_share": 0.6,
    } == figures


def test_a_pod_without_limits_has_no_shares() -> None:
    """Of what has no limit there is no share."""
    figures = pod_figures({"cpu": USED, "memory": [[(1001.0, 5.0)]]}, Limits(), WINDOW)
    assert not {"cpu", "cpu_peak", "memory_share"} & figures.keys()


def test_what_does_not_bracket_has_no_usage() -> None:
    """Of samples that lie in the window alone nothing follows for all of it, but for its peak."""
    figures = pod_figures({"cpu": [[(1001.0, 0.0), (1003.0, 1.0)]]}, Limits(1.0), WINDOW)
    assert {"samples": 2, "span_s": 2.0, "bracketed": False, "cpu_peak": 0.5} == figures


def test_a_container_that_is_not_bracketed_leaves_its_pod_without_usage() -> None:
    """The usage of a part is not that of the pod."""
    figures = pod_figures({"cpu": [*USED, [(1001.0, 0.0), (1003.0, 1.0)]]}, Limits(1.0), WINDOW)
    assert "cpu_cores" not in figures


def test_counters_tell_of_throttling_traffic_and_restarts() -> None:
    """Throttling is a share of periods, traffic bytes a second, restarts a count."""

    def grown(value: float) -> list[list[tuple[float, float]]]:
        return [[(999.0, 0.0), (1009.0, value)]]

    series = {
        "periods": grown(100.0),
        "throttled_periods": grown(25.0),
        "throttled_seconds": grown(0.5),
        "receive": grown(1000.0),
        "transmit": grown(500.0),
        "restarts": grown(2.0),
    }
    figures = pod_figures(series, Limits(), WINDOW)
    assert {
        "samples": 0,
        "span_s": 0.0,
        "bracketed": False,
        "throttled_share": 0.25,
        "throttled_s": 0.5,
        "receive_bytes_per_s": 100.0,
        "transmit_bytes_per_s": 50.0,
        "restarts": 2,
    } == figures


def test_a_service_is_its_pods_together_and_peaks_where_one_does() -> None:
    """Usage is summed over pods; the share at its peak is the highest of a pod, for each has a limit of its own."""
    idle = [[(999.0, 0.0), (1006.0, 0.0)]]
    pods = {"a": {"cpu": USED}, "b": {"cpu": idle}}
    figures = service_figures(pods, {"a": Limits(2.0), "b": Limits(2.0)}, WINDOW)
    assert (1.0, 0.25, 1.0) == (figures["cpu_cores"], figures["cpu"], figures["cpu_peak"])
    assert ["a", "b"] == list(figures["pods"])


def test_a_node_has_usage_and_pressure() -> None:
    """What waited is told in milliseconds a second; what is not exported is absent."""
    series = {"node_cpu": USED, "node_pressure_cpu": [[(999.0, 0.0), (1009.0, 1.0)]]}
    assert {"cpu_cores": 1.0, "cpu_pressure_ms_per_s": 100.0} == node_figures(series, WINDOW)


def test_peaks_need_four_samples_within_the_window() -> None:
    """Samples outside of the window bracket it, and say nothing of its peak."""
    memory = [[(999.0, 1.0), (1001.0, 1.0), (1002.0, 1.0), (1003.0, 1.0), (1004.0, 1.0)]]
    assert ["cpu_peak"] == list(unfit_peak({"cpu": USED, "memory": memory}, WINDOW, 1.0))
