"""What a node's data folder says of itself, and which folders a node does not take."""

import json
import shutil
import stat
from pathlib import Path

import pytest

from mini_dropbox.env import ConfigurationError
from node_app import identity
from node_app.identity import Identity, join, of_folder

CLUSTER = "c" * 32


def test_a_folder_gets_an_identity_once_and_keeps_it(tmp_path: Path) -> None:
    first = of_folder(tmp_path, "8001")

    assert of_folder(tmp_path, "8001") == first
    assert (first.node_id, first.cluster_id) == ("8001", "")
    path = tmp_path / "identity.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_two_folders_have_two_identities(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()

    one, other = (of_folder(tmp_path / name, "8001") for name in ("one", "other"))

    assert one.store_id != other.store_id


def test_the_cluster_is_remembered(tmp_path: Path) -> None:
    joined = join(tmp_path, of_folder(tmp_path, "8001"), CLUSTER)

    assert of_folder(tmp_path, "8001") == joined
    assert joined.cluster_id == CLUSTER


def test_a_folder_of_another_node_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "node_8001").mkdir()
    of_folder(tmp_path / "node_8001", "8001")
    shutil.copytree(tmp_path / "node_8001", tmp_path / "node_8003")

    with pytest.raises(ConfigurationError) as caught:
        of_folder(tmp_path / "node_8003", "8003")

    assert str(caught.value) == (
        f"{tmp_path / 'node_8003'} holds the disk of node 8001, not of node 8003: start it as "
        "node 8001, or give node 8003 an empty folder."
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"node_id": "8001"}',
        json.dumps({"node_id": "8001", "store_id": "x"}),
        json.dumps({"node_id": "8001", "store_id": "a" * 32, "cluster_id": "x"}),
        json.dumps({"node_id": "8001", "store_id": 7}),
    ],
)
def test_an_identity_that_cannot_be_read_is_no_reason_to_make_another(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "identity.json").write_text(text)

    with pytest.raises(ConfigurationError, match="does not say whose folder this is"):
        of_folder(tmp_path, "8001")

    assert (tmp_path / "identity.json").read_text() == text


def test_what_cannot_be_put_on_disk_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    known = of_folder(tmp_path, "8001")
    monkeypatch.setattr(identity.os, "fsync", full)

    with pytest.raises(OSError, match="No space left"):
        join(tmp_path, known, CLUSTER)
    (tmp_path / "new").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        of_folder(tmp_path / "new", "8001")

    monkeypatch.undo()
    assert of_folder(tmp_path, "8001") == known == Identity("8001", known.store_id)
    assert not (tmp_path / "new" / "identity.json").exists()
