"""Processes that are killed one by one, all at once, or restarted in turn, under load."""

import contextlib
import random
import signal

import psutil
import pytest

from tests.conftest import StartCluster
from tests.faults.audit import audit
from tests.faults.conftest import StartMachines
from tests.faults.journal import Journal
from tests.faults.load import Load
from tests.support.kills import has_worker, kill_arbiter, kill_both, kill_worker, terminate
from tests.support.waiting import eventually

pytestmark = pytest.mark.faults

KILLS = 8
MANY_KILLS = 200
# At the end of each, everything is killed.
LIVES = 2
UPLOADS_BETWEEN = 20


@pytest.mark.timeout(3600)
def test_p01_kill_9_of_a_random_process(start_cluster: StartCluster, *, is_long: bool) -> None:
    cluster = start_cluster(node_count=3)
    servers = [cluster.master, *cluster.nodes]
    seed = random.randrange(10_000)
    chance = random.Random(seed)
    with Load(cluster.nodes, seed=seed, master=cluster.master) as load:
        for _ in range(MANY_KILLS if is_long else KILLS):
            kill = chance.choice([kill_worker, kill_arbiter, kill_both, terminate])
            # Whoever is just being started again cannot be killed.
            with contextlib.suppress(StopIteration, IndexError, psutil.NoSuchProcess):
                kill(cluster, chance.choice(servers))
            load.wait_for(UPLOADS_BETWEEN)

    # A worker whose arbiter was killed goes on answering for a moment before it ends.
    eventually(lambda: all(has_worker(cluster, server) for server in servers), 30)
    assert load.wrong == []
    assert set(load.journal.answers) <= {200, 503}
    audit(cluster, load.journal)


def test_p04_all_processes_killed_at_once(machines: StartMachines) -> None:
    cluster = machines()
    journal = Journal()
    for _ in range(LIVES):
        seed = random.randrange(10_000)
        with Load(cluster.nodes, seed=seed, journal=journal, master=cluster.master) as load:
            load.wait_for(100)
            for machine in cluster.machines.values():
                machine.send(signal.SIGKILL)
        for machine in cluster.machines.values():
            machine.kill()
        cluster.start()
        audit(cluster, journal)
        assert load.wrong == []


def test_p25_rolling_restart_under_load(machines: StartMachines) -> None:
    cluster = machines()
    with Load(cluster.nodes, seed=random.randrange(10_000)) as load:
        for server in cluster.servers:
            load.wait_for(UPLOADS_BETWEEN)
            cluster.machines[server].terminate()
            load.wait_for(UPLOADS_BETWEEN)
            cluster.machines[server].start()
            eventually(cluster.is_whole, 30, what=f"{server.node_id} is back")

    assert load.wrong == []
    assert set(load.journal.answers) <= {200, 503}
    assert set(load.reads) <= {"exact", "503", "broken"}
    audit(cluster, load.journal)
