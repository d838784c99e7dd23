"""The check with real files, run small; and whether it notices what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import PROJECT_DIR, Cluster

pytestmark = pytest.mark.cluster

SOURCE = Path(sys.prefix) / "lib"


def run(cluster: Cluster, nodes: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "bench/real_files.py", "--files", "60", "--source", str(SOURCE)),
            *("--master", cluster.master.url, "--nodes", ",".join(nodes), *options),
        ],
        cwd=PROJECT_DIR,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_sixty_real_files_come_back_whole(cluster: Cluster) -> None:
    nodes = [node.url for node in cluster.nodes]

    outcome = run(cluster, nodes, "--data-dir", str(cluster.data_dir))

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "All is as it should be." in outcome.stdout
    assert "found in the admin" in outcome.stdout


def test_missing_replicas_are_noticed(cluster: Cluster, tmp_path: Path) -> None:
    secrets = tmp_path / "master"
    secrets.mkdir()
    (secrets / "admin_password").write_text("not the password")
    nodes = [node.url for node in cluster.nodes]

    outcome = run(cluster, nodes, "--data-dir", str(tmp_path))

    assert outcome.returncode == 1
    assert "has 0 whole copies instead of 2" in outcome.stdout


def test_a_node_of_another_kind_is_noticed(cluster: Cluster) -> None:
    outcome = run(cluster, [cluster.nodes[0].url, cluster.master.url])

    assert outcome.returncode == 1
    assert "WRONG: upload of" in outcome.stdout
