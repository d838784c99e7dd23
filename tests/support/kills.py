"""Ways in which the processes of a supervised server end."""

import psutil

from tests.support.cluster import Cluster, Server
from tests.support.waiting import eventually


def die(process: psutil.Process) -> None:
    process.kill()
    eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def kill_worker(cluster: Cluster, server: Server) -> None:
    die(cluster.worker(server))


def kill_arbiter(cluster: Cluster, server: Server) -> None:
    die(cluster.arbiter(server))


def kill_both(cluster: Cluster, server: Server) -> None:
    worker = cluster.worker(server)
    die(cluster.arbiter(server))
    die(worker)


def terminate(cluster: Cluster, server: Server) -> None:
    arbiter = cluster.arbiter(server)
    arbiter.terminate()
    eventually(lambda: not arbiter.is_running() or arbiter.status() == psutil.STATUS_ZOMBIE)


def has_worker(cluster: Cluster, server: Server) -> bool:
    """Tell whether a process that is supervised now serves here."""
    try:
        return cluster.worker(server).is_running()
    except (StopIteration, IndexError, psutil.NoSuchProcess):
        return False
