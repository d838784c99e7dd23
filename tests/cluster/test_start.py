"""What a person sees who starts a cluster."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartCluster
from tests.support.cluster import BANNER, PROJECT_DIR, Cluster, free_ports
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("node_count", [1, 2, 3])
def test_once_the_banner_is_there_an_upload_is_registered_and_has_its_replicas(
    start_cluster: StartCluster, node_count: int
) -> None:
    cluster = start_cluster(ready=False, node_count=node_count, HEARTBEAT_SECONDS="2")
    eventually(lambda: BANNER in cluster.log, 30)

    answers = [
        node.upload(f"first at {node.node_id}".encode()).json() for node in reversed(cluster.nodes)
    ]

    assert [answer["registered"] for answer in answers] == [True] * node_count
    assert [len(answer["replicas"]) for answer in answers] == [min(2, node_count)] * node_count


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_a_cluster_works_on_each_address_of_this_machine(
    start_cluster: StartCluster, host: str
) -> None:
    if not can_listen(host):
        pytest.skip(f"this machine has no {host}")
    cluster = start_cluster(host=host)
    cluster.add_node()
    eventually(cluster.is_whole, 20, what="a node of runserver joins")
    from_our_page = {"Origin": cluster.master.url}

    stored = cluster.nodes[0].upload(b"anywhere", headers=from_our_page).json()
    listed = cluster.master.get("/list").json()
    announced = cluster.master.post(
        "/register", json={"hash": "test123", "name": "t", "size": 1}, headers=from_our_page
    )

    assert stored["registered"] is True
    assert len(stored["replicas"]) == 2
    assert [record["hash"] for record in listed] == [stored["hash"]]
    assert announced.ok
    for node in cluster.nodes:
        assert node.retrieve(stored["hash"]).content == b"anywhere"
    page = cluster.master.get("/", headers={"Accept": "text/html"})
    assert page.ok
    assert cluster.nodes[0].url in page.text


def test_what_the_supervisor_says_bears_its_own_name(start_cluster: StartCluster) -> None:
    cluster = start_cluster(node_count=1)

    cluster.arbiter(cluster.nodes[0]).kill()
    eventually(lambda: "is started again" in cluster.log, 20)

    said = next(line for line in cluster.log.splitlines() if "is started again" in line)
    assert f" [cluster {cluster.supervisor.pid}] " in said


def can_listen(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def run(cluster: Cluster, *command: str, **settings: str) -> tuple[int, str]:
    """Return exit code and output of a command that should refuse to start."""
    process = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT_DIR,
        env=cluster.environment(**{"DATA_DIR": str(cluster.data_dir), **settings}),
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return process.returncode, (process.stdout + process.stderr).strip()


def assert_one_sentence(output: str, *words: str) -> None:
    assert len(output.splitlines()) == 1, output
    assert output.startswith("mini-dropbox: ")
    for word in words:
        assert word in output


class TestRefusals:
    def test_a_second_cluster_on_the_same_ports(self, cluster: Cluster) -> None:
        ports = ",".join(node.node_id for node in cluster.nodes)

        code, output = run(
            cluster,
            *("manage.py", "runcluster", "--node-ports", ports),
            *("--master-port", str(cluster.master.port)),
        )

        assert code != 0
        assert_one_sentence(output, str(cluster.master.port), "not free")
        assert cluster.is_whole()

    def test_a_second_cluster_on_the_same_data(self, cluster: Cluster) -> None:
        master, node = free_ports(2)

        code, output = run(
            cluster,
            *("manage.py", "runcluster", "--node-ports", str(node), "--master-port", str(master)),
            *("--data-dir", str(cluster.data_dir)),
        )

        assert code != 0
        assert_one_sentence(output, str(cluster.data_dir), "in use by another cluster")
        assert cluster.is_whole()

    def test_a_python_without_django(self, cluster: Cluster) -> None:
        process = subprocess.run(
            [sys.executable, "-E", "-S", str(PROJECT_DIR / "manage.py"), "runcluster"],
            capture_output=True,
            text=True,
            check=False,
        )

        assert process.returncode != 0
        assert_one_sentence(process.stderr, "make setup")

    def test_ports_that_overlap(self, cluster: Cluster) -> None:
        code, output = run(
            cluster,
            *("manage.py", "runcluster", "--master-port", "20000", "--node-ports", "20001,20000"),
        )

        assert code != 0
        assert_one_sentence(output, "--node-ports")

    @pytest.mark.parametrize("ports", ["", "abc", "0", "70000", "20001,", "20001;20002", "-1"])
    def test_ports_that_are_none(self, cluster: Cluster, ports: str) -> None:
        code, output = run(cluster, "manage.py", "runcluster", f"--node-ports={ports}")

        assert code != 0
        assert_one_sentence(output, "port")

    @pytest.mark.parametrize(
        "command",
        [
            ["manage.py", "runcluster", "--host", "0.0.0.0"],
            ["manage.py", "runcluster", "--host", "::"],
            ["manage.py", "runcluster", "--host", "192.0.2.1"],
            ["manage.py", "runcluster", "--host", ""],
            ["manage.py", "runserver", "--role", "node", "0.0.0.0:20001"],
            ["manage.py", "runserver", "--role", "master", "[::]:20001"],
            ["-m", "mini_dropbox.serve", "0.0.0.0", "20001"],
            [
                *("-m", "gunicorn", "-c", "python:mini_dropbox.gunicorn_conf"),
                *("-b", "0.0.0.0:20001", "mini_dropbox.asgi:application"),
            ],
        ],
        ids=" ".join,
    )
    def test_an_address_that_others_can_reach(self, cluster: Cluster, command: list[str]) -> None:
        for role in ("master", "node"):
            code, output = run(cluster, *command, ROLE=role)

            assert code != 0
            assert_one_sentence(output, "can be reached from other machines")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ROLE", "boss"),
            ("AUTH", "maybe"),
            ("AUTH", "required"),
            ("REPLICATION_FACTOR", "0"),
            ("REPLICATION_FACTOR", "two"),
            ("WRITE_QUORUM", "3"),
            ("MAX_UPLOAD_BYTES", "10MB"),
            ("HEARTBEAT_SECONDS", "0"),
            ("HEARTBEAT_SECONDS", "nan"),
            ("NODE_ID", "../8001"),
            ("NODE_URL", "localhost:8001"),
            ("MASTER_URL", "ftp://localhost"),
            ("MASTER_URL", "http://localhost:port"),
            ("LOG_LEVEL", "LOUD"),
            ("DEBUG", "perhaps"),
            ("BLOB_STORE", "tape"),
            ("SEEDREAM_PROVIDER", "nobody"),
        ],
    )
    def test_a_bad_setting(self, cluster: Cluster, name: str, value: str) -> None:
        code, output = run(cluster, "manage.py", "runcluster", **{name: value})

        assert code != 0
        assert_one_sentence(output, f"MINI_DROPBOX_{name}", value)

    def test_a_data_folder_that_cannot_be_written(self, cluster: Cluster) -> None:
        code, output = run(cluster, "manage.py", "runcluster", "--data-dir", "/proc/nowhere")

        assert code != 0
        assert_one_sentence(output, "/proc/nowhere")

    def test_a_node_without_a_secret(self, cluster: Cluster, tmp_path: Path) -> None:
        code, output = run(
            cluster, "manage.py", "runserver", "--role", "node", DATA_DIR=str(tmp_path)
        )

        assert code != 0
        assert_one_sentence(output, "MINI_DROPBOX_CLUSTER_SECRET", str(tmp_path))
