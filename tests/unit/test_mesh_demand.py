"""What requests ask of services: visits x service time, and the first service to saturate."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aefm.cli import main
from pytest_aefm.mesh.demand import bottleneck, demands
from pytest_aefm.mesh.topology import parse_topology

SHOP = """\
app: shop
entry: web
smoke: [{path: /}]
services:
  web:
    endpoints:
      - path: /
        steps:
          - cpu_us: 200
          - parallel:
              - [{call: {service: store, endpoint: /row}}, {call: {service: store, endpoint: /row}}]
              - {service: ads, endpoint: /ad}
          - cache:
              hit_ratio: 0.75
              miss: [{call: {service: store, endpoint: /row}, probability: 0.4}]
  store:
    workers: 2
    endpoints:
      - path: /row
        steps: [{wait: {exponential_ms: 10}}, {cpu_us: 500}]
  ads:
    replicas: 2
    threads: 2
    cpu_limit: 1.5
    endpoints:
      - path: /ad
        steps:
          - choice:
              - {weight: 1, steps: {cpu_us: 4000}}
              - {weight: 3, steps: {state: {limit: 1Mi, scan_us_per_mib: 400}}}
"""


def test_demand_is_visits_times_service_time() -> None:
    """Visits follow the calls with their probabilities, CPU and worker time the steps of each visit."""
    (request,) = demands(parse_topology(SHOP))
    found = {one.service: (one.visits, round(one.cpu_ms, 6), round(one.held_ms, 6)) for one in request.services}
    assert (1.0, 0.2) == found["web"][:2]
    assert (2.1, 1.05, 22.05) == found["store"]
    assert (1.0, 1.3, 1.3) == found["ads"]


def test_capacity_is_servers_over_demand() -> None:
    """Workers limit the store, the cores of both replicas the ads; the store saturates first."""
    (request,) = demands(parse_topology(SHOP))
    found = {one.service: (round(one.capacity_rps, 3), one.limit) for one in request.services}
    assert {
        "web": (5000.0, "1 core"),
        "store": (90.703, "2 workers"),
        "ads": (2307.692, "3 cores"),
    } == found
    narrowest = bottleneck(request)
    assert narrowest is not None
    assert "store" == narrowest.service


def test_time_without_queueing_follows_the_longest_group() -> None:
    """200 us, the two rows one after the other beside the ad, and a tenth of one more row."""
    (request,) = demands(parse_topology(SHOP))
    assert 0.2 + 2 * 10.5 + 0.1 * 10.5 == pytest.approx(request.time_ms)


def test_mesh_check_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The call graph, a row for each service, the bottleneck."""
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    assert 0 == main(["mesh", "check", str(file)])
    text = capsys.readouterr().out
    assert "shop: 3 services, 4 processes, entry web" in text
    assert "    store GET /row  x 0.1" in text
    assert "bottleneck store: 91/s" in text


def test_mesh_check_refuses_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, the mistake with file, line and path."""
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP.replace("cpu_us: 200", "cpu_ms: 200"))
    assert 1 == main(["mesh", "check", str(file)])
    assert f"{file}:9: services.web.endpoints[0].steps[0].cpu_ms: unknown key" in capsys.readouterr().err
