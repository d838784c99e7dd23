"""Keeps the copies of every blob at the number that is wanted, without an operator.

`census.py` says which nodes count and which can take copies, `scan.py` finds blobs with too few,
`planning.py` decides who copies what from whom, `repairer.py` has it done, most endangered first.
A blob's row in `RepairTask` is there until it has enough copies, so that a restart goes on.
"""
