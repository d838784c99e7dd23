"""Two contents with one MD5.

Source: Wang, Feng, Lai and Yu, "Collisions for Hash Functions MD4, MD5, HAVAL-128 and RIPEMD"
(2004), two blocks each.
"""

import hashlib

COLLIDING_MD5 = "79054025255fb1a26e4bc422aef54eb4"
FIRST = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
)
SECOND = bytes.fromhex(
    "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f89"
    "55ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b"
    "d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
    "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
)


def colliding_pair(size: int = len(FIRST)) -> tuple[bytes, bytes]:
    """Return two contents of `size` bytes, of one MD5 and two SHA-256.

    The pair fills whole blocks, so whatever follows both leaves their digests equal.
    """
    assert size >= len(FIRST)
    tail = bytes(size - len(FIRST))
    first, second = FIRST + tail, SECOND + tail
    assert _md5(first) == _md5(second)
    assert hashlib.sha256(first).digest() != hashlib.sha256(second).digest()
    return first, second


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
