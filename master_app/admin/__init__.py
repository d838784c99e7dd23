"""The admin site: what the cluster holds, to browse, search and filter."""

from master_app.admin import blobs, files, moves, nodes, people, repairs, replicas

__all__ = ("blobs", "files", "moves", "nodes", "people", "repairs", "replicas")
