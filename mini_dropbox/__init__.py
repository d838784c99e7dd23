"""Mini-Dropbox: a self-hosted, replicated, content-addressed file store."""

__version__ = "0.1.0"
