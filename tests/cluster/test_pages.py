"""Pages that need a cluster are followed on one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import BASE_IMAGE, ROOT, TestCluster
from tests.docs.conftest import Reader

PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if " needs=cluster" in page.read_text()]


@pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes some minutes: AEFM_BARS is not set")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed(
    page: Path,
    cluster: TestCluster,
    mesh_image: str,
    load_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page's files and commands work as written, but for names of nodes and images, and for sharing the cluster."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["contexts"][0]["name"] = config["current-context"] = "my-cluster"
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    text = page.read_text().replace("name: worker-", f"name: {cluster.name}-worker-")
    for written, image in (("mesh", mesh_image), ("load", load_image), ("stress", BASE_IMAGE)):
        text = text.replace(f"aefm-{written}:1", image)
    copy = tmp_path / page.name
    copy.write_text(text)
    folder = tmp_path / "empty"
    folder.mkdir()
    ours = f"aefm_lease_namespace = aefm-pages-{os.getpid()}\naefm_allow_shared = true\n"  # other tests may run there
    (folder / "pytest.ini").write_text(f"[pytest]\n{ours}")
    assert Reader(folder).follow(copy)
    reports = [json.loads(path.read_text()) for path in folder.glob(".aefm/runs/*/report.json")]
    trials = [trial for report in reports for trial in report["trials"]]
    assert len(trials) >= 3  # what they measure is the machine's matter
    assert [] == [trial["reason"] for trial in trials if trial["verdict"] == "broken"]
