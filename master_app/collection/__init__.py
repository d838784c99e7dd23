"""Removes what no file names any more, late and on positive knowledge alone.

A file that is deleted leaves its blob unreferenced. When that has lasted for the grace period the
blob is buried: its records make place for a tombstone, in one transaction that looks once more.
Only then nodes are told to remove it, each when it is there; a node keeps what has been stored
again. `services.py` has the writes, `collector.py` the loop.
"""
