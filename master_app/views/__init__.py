"""The views that answer with pages and pictures."""
