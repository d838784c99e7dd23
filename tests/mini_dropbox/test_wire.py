"""The forms of what goes over the wire."""

import unicodedata
from dataclasses import asdict

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mini_dropbox.wire import (
    MAX_NAME_CHARACTERS,
    ClusterMap,
    NodeEntry,
    WireError,
    clean_file_name,
    is_blob_hash,
)
from tests.support.nodes import cluster_map, node_entry

any_text = st.text(st.characters(codec=None, exclude_categories=[]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=any_text)
@example(value="\u2f3c/../../x\r\n")
@example(value="a" * 256)
@example(value="\ud800")
@example(value="..\\..")
def test_a_cleaned_name_is_usable_or_refused(value: str) -> None:
    try:
        name = clean_file_name(value)
    except WireError:
        return
    assert 1 <= len(name) <= MAX_NAME_CHARACTERS
    assert "/" not in name
    assert "\\" not in name
    assert name not in {".", ".."}
    assert not any(unicodedata.category(character) == "Cc" for character in name)
    assert name.encode()
    assert name == unicodedata.normalize("NFC", name).strip()


@given(value=any_text)
def test_cleaning_a_name_again_changes_nothing(value: str) -> None:
    try:
        name = clean_file_name(value)
    except WireError:
        return
    assert clean_file_name(name) == name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("/etc/../report.pdf", "report.pdf"),
        (" report.pdf \n", "report.pdf"),
        ("Ubersicht u\u0308.txt", "Ubersicht \u00fc.txt"),
        ("\U0001f600.png", "\U0001f600.png"),
        ("...", "..."),
        ("a" * 255, "a" * 255),
    ],
)
def test_a_name_is_the_last_part_of_a_path_in_its_composed_form(sent: str, kept: str) -> None:
    assert clean_file_name(sent) == kept


@pytest.mark.parametrize(
    "sent", ["", " ", ".", "..", "folder/", "a\x00b", "a\nb", "a\x7fb", "\udcff", "a" * 256]
)
def test_a_name_that_cannot_be_used_is_refused_with_what_to_send(sent: str) -> None:
    with pytest.raises(WireError, match="send a file name"):
        clean_file_name(sent)


@pytest.mark.parametrize(
    "value",
    ["", "test123", "D41D8CD98F00B204E9800998ECF8427E", "d41d8cd98f00b204e9800998ecf8427",
     "d41d8cd98f00b204e9800998ecf8427e\n", "../../../../../../../../../../../et",
     "d41d8cd98f00b204e9800998ecf8427\u0665"],
)  # fmt: skip
def test_only_32_lower_case_hex_digits_are_a_blobs_address(value: str) -> None:
    assert not is_blob_hash(value)
    assert is_blob_hash("d41d8cd98f00b204e9800998ecf8427e")


def test_a_cluster_map_survives_the_wire() -> None:
    sent = cluster_map(node_entry(8001), node_entry(8002, state="down", writable=False))

    assert ClusterMap.from_json(sent.to_json()) == sent


@given(value=json_values)
def test_what_is_no_cluster_map_is_refused(value: object) -> None:
    with pytest.raises(WireError):
        ClusterMap.from_json(value)  # type: ignore[arg-type]


@given(field=st.sampled_from(["replication_factor", "write_quorum", "nodes"]), value=json_values)
@example(field="write_quorum", value=float("inf"))
def test_a_cluster_map_with_one_wrong_field_is_refused_or_read(field: str, value: object) -> None:
    data = cluster_map(node_entry(8001)).to_json() | {field: value}

    try:
        read = ClusterMap.from_json(data)
    except WireError:
        return
    assert isinstance(read.replication_factor, int)
    assert all(isinstance(node, NodeEntry) for node in read.nodes)


@pytest.mark.parametrize("state", ["down", "draining", "unknown"])
def test_new_replicas_go_to_nodes_that_are_healthy_and_writable(state: str) -> None:
    good = node_entry(8001)
    known = cluster_map(good, node_entry(8002, state=state), node_entry(8003, writable=False))

    assert known.healthy() == (good,)
    assert asdict(known)["nodes"][1]["state"] == state
