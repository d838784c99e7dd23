"""What keeps a backup from being made or restored."""


class BackupError(Exception):
    """The text says what is wrong and what to do; nothing has been replaced."""
