"""The node's hot paths as a small ASGI application in front of Django."""
