"""Registrations to test with."""

from mini_dropbox.wire import Registration


def registration(number: int) -> Registration:
    """Return the registration of one of many uploads."""
    return Registration(
        hash=f"{number:032x}",
        sha256=f"{number:064x}",
        size=number,
        name=f"näme {number}.txt",
        content_type="text/plain",
        replicas=("8001", "8002"),
        uploaded_at=1_700_000_000.5 + number,
    )
