"""One service of the hotel waits 30 ms longer: whether a violated SLO is laid to it first, 40 times."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml
from measuring import promise, trials

from pytest_aefm.apps import find_app

SERVICES = ("rate", "profile", "reservation", "geo")
ROUNDS, LEAST = 10, 36


def slowed(service: str, folder: Path) -> Path:
    """Write the hotel's topology with a service that waits 30 ms longer in all it does."""
    topology = yaml.safe_load(find_app("hotel").topology_path.read_text())
    for endpoint in topology["services"][service]["endpoints"]:
        endpoint["steps"] = [*endpoint["steps"], {"wait": {"constant_ms": 30}}]
    path = folder / f"slow-{service}.yaml"
    path.write_text(yaml.safe_dump(topology))
    return path


def main() -> int:
    """Measure, and say whether the promise holds."""
    found: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        for service in SERVICES:
            app = slowed(service, Path(folder))
            load = f'script="hotel/search.lua", rate=40, rounds={ROUNDS}, warmup="500ms", duration="1500ms"'
            for trial in trials(f'app="{app}", {load}, slos=["p50 < 25ms"]'):
                suspects = [one["service"] for one in (trial["blame"] or {"suspects": []})["suspects"]]
                print(f"{service}: {trial['verdict']}, {suspects}", flush=True)
                found.append(trial["verdict"] == "violated" and suspects[:1] == [service])
    return not promise(f"{sum(found)} of {len(found)} runs name the slow service first", sum(found) >= LEAST)


if __name__ == "__main__":
    sys.exit(main())
