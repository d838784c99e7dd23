"""The benchmark of compression runs, and its rows have what they should."""

import json
from pathlib import Path

import pytest

from bench import compression

pytestmark = pytest.mark.cluster


def test_every_row_has_a_figure_and_downloads_stand_beside_the_plain_blob(tmp_path: Path) -> None:
    output = tmp_path / "compression.json"

    compression.main(["--rounds", "1", "--downloads", "1", "--json", str(output)])

    data = json.loads(output.read_text(encoding="utf-8"))
    assert data["name"] == "compression"
    assert {"taken_at", "machine", "parameters"} <= data.keys()
    rows = {row["work"]: row for row in data["rows"]}
    for content in ("source", "json"):
        assert rows[f"ratio-{content}"]["value"] > 2
        assert rows[f"compress-{content}"]["unit"] == "MB/s of a core"
        assert rows[f"decompress-{content}"]["value"] > 0
    assert rows["background"]["value"] > 0
    for work in ("get-identity", "get-zstd", "get-10-bytes"):
        assert rows[work]["limit_name"] == "the same blob, plain"
        ratio = rows[work]["value"] / rows[work]["limit_value"]
        assert rows[work]["ratio"] == pytest.approx(ratio)
