"""Which clients get a body as it is stored: those that say so."""

import pytest

from node_app.dataplane.encodings import prefers


@pytest.mark.parametrize(
    "accepted",
    [
        "zstd",
        "gzip, deflate, br, zstd",
        "ZSTD",
        "gzip;q=1.0, zstd;q=0.5",
        "zstd ; q=0.001",
        "br,zstd;q=1",
        "identity;q=0.5, zstd;q=0.5",
        "identity;q=0, zstd;q=0.2",
        "*;q=0, zstd",
    ],
)
def test_who_names_zstd_gets_it(accepted: str) -> None:
    assert prefers(accepted, "zstd")


@pytest.mark.parametrize(
    "accepted",
    [
        None,
        "",
        "identity",
        "gzip, deflate, br",
        "*",
        "zstd;q=0",
        "zstd;q=0.000",
        "identity, zstd;q=0.9",
        "identity;q=0.6, zstd;q=0.5",
        "x-zstd",
        "zstd;q=2",
        "zstd;q=nonsense",
        "zstd;level=3",
        ";;;,,,",
    ],
)
def test_everybody_else_gets_the_content(accepted: str | None) -> None:
    assert not prefers(accepted, "zstd")
