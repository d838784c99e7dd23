"""What an operator does with nodes: drain one, remove it, make it read-only, and ask why.

`plans.py` says beforehand what would happen, `services.py` does it.
"""
