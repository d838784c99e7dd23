"""Disks that stop in the middle of everything: what was acknowledged is on them."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import disks
from tests.faults.audit import audit, listed, unreadable
from tests.faults.conftest import StartMachines
from tests.faults.journal import Journal
from tests.faults.load import Load
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

pytestmark = [pytest.mark.faults, disks.needs_root]

MANY_CUTS = 5
UPLOADS_BETWEEN = 100


def busy(cluster: Cluster, seed: int, journal: Journal) -> Load:
    """Return a load that leaves no moment without an upload under way."""
    return Load(cluster.nodes, seed=seed, journal=journal, pause_seconds=0)


def test_p02_power_cut_of_a_node(
    machines: StartMachines, mounts: ExitStack, tmp_path: Path, *, is_long: bool
) -> None:
    # Its disk is small, and among three it would be given next to nothing.
    cluster = machines(start=False, node_count=2)
    victim, other = cluster.nodes
    disk = mounts.enter_context(disks.ext4(tmp_path / "disk", cluster.folder_of(victim)))
    cluster.start()
    cluster.wait_until_ready()
    machine = cluster.machines[victim]
    seed = random.randrange(10_000)
    journal = Journal()
    for cut in range(MANY_CUTS if is_long else 1):
        with busy(cluster, seed + cut, journal) as load:
            load.wait_for(UPLOADS_BETWEEN)
            disk.cut_power()
            load.wait_for(UPLOADS_BETWEEN // 5)
        machine.kill()
        disk.mount_again()
        machine.start()
        eventually(cluster.is_whole, 30, what="the node is back")
        own = [entry for entry in journal.entries if victim.node_id in entry.replicas]
        assert own
        # What is read now is the node's own copy.
        with cluster.machines[other].frozen():
            assert unreadable([victim], own) == []

    audit(cluster, journal)


def test_p03_power_cut_of_the_master(
    machines: StartMachines, mounts: ExitStack, tmp_path: Path, *, is_long: bool
) -> None:
    cluster = machines(start=False, node_count=2)
    folder = cluster.folder_of(cluster.master)
    disk = mounts.enter_context(disks.ext4(tmp_path / "disk", folder))
    cluster.start()
    cluster.wait_until_ready()
    machine = cluster.machines[cluster.master]
    seed = random.randrange(10_000)
    journal = Journal()
    for cut in range(MANY_CUTS if is_long else 1):
        with busy(cluster, seed + cut, journal) as load:
            load.wait_for(UPLOADS_BETWEEN)
            disk.cut_power()
            load.wait_for(UPLOADS_BETWEEN // 5)
        registered = {entry.name for entry in journal.entries if entry.registered}
        # The outboxes must have no part in it.
        with ExitStack() as stack:
            machine.kill()
            for node in cluster.nodes:
                stack.enter_context(cluster.machines[node].frozen())
            disk.mount_again()
            machine.start()
            eventually(cluster.master.health, 30, what="the master is back")
            assert registered
            assert registered <= listed(cluster)

    audit(cluster, journal)
