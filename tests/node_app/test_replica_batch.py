"""The message that carries many small replicas, and what is no such message."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_app.errors import BadForm
from node_app.replica_batch import ReplicaHead, decode, encode
from tests.support.blob_backends import md5

replicas = st.lists(
    st.builds(
        lambda content, name: (ReplicaHead(md5(content), len(content), name, "a/b"), content),
        st.binary(max_size=100),
        st.from_regex(r"[a-zß-ü文][a-z .ß-ü文-]{0,20}[a-z]", fullmatch=True),
    ),
    max_size=5,
)


@given(replicas)
def test_what_is_encoded_is_decoded(sent: list[tuple[ReplicaHead, bytes]]) -> None:
    received = [(head.hash, head.size, bytes(content)) for head, content in decode(encode(sent))]

    assert received == [(head.hash, head.size, content) for head, content in sent]


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(message: bytes) -> None:
    try:
        decode(message)
    except BadForm:
        return
    assert message[4:].startswith(b"[")


def message(head: object, content: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + content


def said(**changes: object) -> dict[str, object]:
    return {"hash": md5(b"abc"), "size": 3, "name": "n", "content_type": "", **changes}


@pytest.mark.parametrize(
    "head",
    [
        [said(hash="../../etc/passwd")],
        [said(hash=None)],
        [said(size=-1), said(size=4)],
        [said(size="3")],
        [said(size=True)],
        [said(size=2)],
        [said(size=2**62)],
        [said(name="a\nb")],
        [said(name="")],
        [said(name=5)],
        [said(more=1)],
        [{}],
        [1],
        {"hash": 1},
        5,
        None,
    ],
    ids=str,
)
def test_a_head_that_says_nothing_usable_is_refused(head: object) -> None:
    with pytest.raises(BadForm):
        decode(message(head, b"abc"))


def test_a_head_nested_without_end_is_refused() -> None:
    text = b"[" * 200_000
    with pytest.raises(BadForm):
        decode(struct.pack(">I", len(text)) + text)
