"""Nodes that hang or die while somebody uploads to them, or reads from them."""

import random
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.audit import audit
from tests.faults.conftest import StartMachines
from tests.faults.journal import md5
from tests.faults.load import Load
from tests.support.cluster import Server
from tests.support.machines import Machine, Machines
from tests.support.raw_http import Connection

pytestmark = pytest.mark.faults

# What a client waits for at most while a node hangs.
PATIENCE = 5.0
READERS = 2
MIB = 1024 * 1024


def test_p05_sigstop_of_one_node(machines: StartMachines) -> None:
    cluster = machines()
    hanging, *others = cluster.nodes
    with Load(others, seed=random.randrange(10_000), readers=READERS) as load:
        load.wait_for(50)
        with cluster.machines[hanging].frozen():
            load.wait_for(100, 60)

    assert load.journal.slowest < PATIENCE
    assert set(load.journal.answers) <= {200, 503}
    assert load.slowest_read < PATIENCE
    assert set(load.reads) <= {"exact", "503", "broken"}
    # Those that were on their way through the hanging node when it stopped.
    assert load.reads["broken"] <= READERS
    audit(cluster, load.journal)


class Download:
    """A download that a client has begun to read, and that no buffer on its way can hold."""

    def __init__(self, reader: Server, blob_hash: str, size: int) -> None:
        self.is_whole = False
        self._size = size
        self._connection = Connection(reader)
        self._connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._connection.head("GET", f"/retrieve?hash={blob_hash}")
        head, _, body = self._connection.socket.recv(4_096).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert f"content-length: {size}\r\n" in head.decode().lower() + "\r\n"
        self.body = bytearray(body)

    def read_until_it_stalls(self) -> None:
        self._connection.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            self.read()

    def read_on(self) -> None:
        self._connection.socket.settimeout(15.0)
        self.read()

    def read(self) -> None:
        """Read to the end; ConnectionError when the server hangs up before."""
        while len(self.body) < self._size:
            piece = self._connection.socket.recv(MIB)
            if not piece:
                raise ConnectionError
            self.body += piece
        self.is_whole = True

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Start two nodes of which one alone has each blob."""
    settings = {"REPLICATION_FACTOR": "1", "HEARTBEAT_SECONDS": "0.3"}
    cluster = Machines(tmp_path_factory.mktemp("pair"), node_count=2, **settings)
    try:
        cluster.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        cluster.stop()


@dataclass(frozen=True)
class Reading:
    """A download under way, and the machine whose disk it comes from."""

    content: bytes
    download: Download
    holder: Machine


@pytest.fixture(params=["from the holder", "through another node"])
def reading(pair: Machines, request: pytest.FixtureRequest) -> Iterator[Reading]:
    """Begin a download of more than all buffers can hold."""
    for machine in pair.machines.values():
        machine.start()
    pair.wait_until_ready()
    content = secrets.token_bytes(40 * MIB)
    path = f"/blobs/{md5(content)}"
    (holder_id,) = pair.nodes[0].request("PUT", path, data=content).json()["replicas"]
    holder = next(node for node in pair.nodes if node.node_id == holder_id)
    (other,) = set(pair.nodes) - {holder}
    reader = holder if request.param == "from the holder" else other
    download = Download(reader, md5(content), len(content))
    try:
        yield Reading(content, download, pair.machines[holder])
    finally:
        download.close()


def test_p06_kill_of_a_node_in_the_middle_of_a_download(reading: Reading) -> None:
    reading.holder.kill()

    with pytest.raises(ConnectionError):
        reading.download.read_on()

    assert not reading.download.is_whole
    assert reading.content.startswith(reading.download.body)


def test_p06_sigstop_of_a_node_in_the_middle_of_a_download(reading: Reading) -> None:
    with reading.holder.frozen():
        reading.download.read_until_it_stalls()
    reading.download.read_on()

    assert reading.download.body == reading.content
