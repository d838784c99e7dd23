"""Backups of the master's database: one file each, which says what is in it and proves it."""
