"""Signatures between the parts of a cluster: whatever is changed, they no longer fit."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_dropbox.signing import (
    EMPTY_BODY_SHA256,
    MAX_CLOCK_SKEW_SECONDS,
    MAX_REMEMBERED,
    SignatureError,
    Signer,
)

SECRET = "secret"
NOW = 1_700_000_000.0
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"])
visible = st.characters(codec="ascii", exclude_categories=["Cc"])
targets = st.text(visible, min_size=1).map("/{}".format)
# HMAC pads its key with zeros, and no environment variable holds one.
letters = st.characters(codec="utf-8", exclude_characters="\0")
secrets = st.text(letters, min_size=1, max_size=40)
bodies = st.binary(max_size=50).map(lambda body: hashlib.sha256(body).hexdigest())


class Clock:
    """A clock that is set by hand."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def signer(secret: str = SECRET, node_id: str = "8001", clock: Clock | None = None) -> Signer:
    return Signer(secret, node_id, clock=clock or Clock())


@given(secret=secrets, method=methods, target=targets, body=bodies)
def test_a_signed_request_is_verified_and_names_its_node_and_body(
    secret: str, method: str, target: str, body: str
) -> None:
    header = signer(secret, "node-7").sign(method, target, body)

    signed = signer(secret).verify(header, method, target)

    assert (signed.node_id, signed.body_sha256) == ("node-7", body)


@given(methods=st.lists(methods, min_size=2, max_size=2, unique=True), target=targets)
def test_another_method_is_refused(methods: list[str], target: str) -> None:
    header = signer().sign(methods[0], target)

    with pytest.raises(SignatureError):
        signer().verify(header, methods[1], target)


@given(paths=st.lists(targets, min_size=2, max_size=2, unique=True))
def test_another_path_or_query_is_refused(paths: list[str]) -> None:
    header = signer().sign("GET", paths[0])

    with pytest.raises(SignatureError):
        signer().verify(header, "GET", paths[1])


@given(both=st.lists(secrets, min_size=2, max_size=2, unique=True))
def test_another_secret_is_refused(both: list[str]) -> None:
    header = signer(both[0]).sign("GET", "/")

    with pytest.raises(SignatureError):
        signer(both[1]).verify(header, "GET", "/")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node", "8002"),
        ("time", str(int(NOW) + 1)),
        ("nonce", "0" * 24),
        ("body", hashlib.sha256(b"another body").hexdigest()),
        ("signature", "0" * 64),
    ],
)
def test_a_changed_field_is_refused(field: str, value: str) -> None:
    header = signer().sign("PUT", "/internal/blobs/x", EMPTY_BODY_SHA256)
    changed, count = re.subn(rf"\b{field}=[^,]*", f"{field}={value}", header)
    assert count == 1
    assert changed != header

    with pytest.raises(SignatureError):
        signer().verify(changed, "PUT", "/internal/blobs/x")


@given(data=st.data())
def test_one_changed_character_anywhere_is_refused(data: st.DataObject) -> None:
    header = signer().sign("GET", "/health")
    position = data.draw(st.integers(0, len(header) - 1))
    character = data.draw(st.characters(codec="latin-1").filter(lambda c: c != header[position]))
    changed = header[:position] + character + header[position + 1 :]

    with pytest.raises(SignatureError):
        signer().verify(changed, "GET", "/health")


@given(header=st.one_of(st.none(), st.text(), st.text().map("MiniDropbox-HMAC {}".format)))
def test_whatever_else_a_header_says_it_is_refused(header: str | None) -> None:
    with pytest.raises(SignatureError):
        signer().verify(header, "GET", "/health")


@given(offset=st.integers(-(10**9), 10**9))
def test_a_request_is_good_only_while_the_clocks_agree(offset: int) -> None:
    header = signer().sign("GET", "/")
    later = Clock()
    later.now = NOW + offset

    if abs(offset) <= MAX_CLOCK_SKEW_SECONDS:
        signer(clock=later).verify(header, "GET", "/")
    else:
        with pytest.raises(SignatureError):
            signer(clock=later).verify(header, "GET", "/")


class TestReplays:
    def test_a_request_is_good_once(self) -> None:
        header, verifier = signer().sign("GET", "/"), signer()
        verifier.verify(header, "GET", "/")

        with pytest.raises(SignatureError, match="before"):
            verifier.verify(header, "GET", "/")

    def test_a_request_that_was_refused_can_still_be_made(self) -> None:
        header, verifier = signer().sign("GET", "/"), signer()
        with pytest.raises(SignatureError):
            verifier.verify(header, "GET", "/elsewhere")

        verifier.verify(header, "GET", "/")

    @given(
        ahead=st.integers(-MAX_CLOCK_SKEW_SECONDS, MAX_CLOCK_SKEW_SECONDS),
        waits=st.lists(st.integers(0, 2 * MAX_CLOCK_SKEW_SECONDS), max_size=5),
    )
    def test_a_request_is_never_good_again_however_the_clocks_stand(
        self, ahead: int, waits: list[int]
    ) -> None:
        senders, clock = Clock(), Clock()
        senders.now = NOW + ahead
        header, verifier = signer(clock=senders).sign("GET", "/"), signer(clock=clock)
        verifier.verify(header, "GET", "/")

        for wait in waits:
            clock.now += wait
            verifier.verify(signer(clock=clock).sign("GET", "/"), "GET", "/")
            with pytest.raises(SignatureError):
                verifier.verify(header, "GET", "/")

    def test_of_many_threads_with_one_request_one_is_let_in(self) -> None:
        header, verifier = signer().sign("GET", "/"), signer()

        def is_let_in(_: int) -> bool:
            try:
                verifier.verify(header, "GET", "/")
            except SignatureError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(is_let_in, range(64))) == 1

    def test_what_is_remembered_is_bounded_and_what_is_forgotten_is_refused(self) -> None:
        clock = Clock()
        verifier, other = signer(clock=clock), signer(clock=clock)
        first = other.sign("GET", "/")
        verifier.verify(first, "GET", "/")
        remembered = MAX_REMEMBERED // 10
        for _ in range(12):
            clock.now += 1
            for _ in range(remembered):
                verifier._replays.check(int(clock.now), other.sign("GET", "/"), now=int(clock.now))

        assert sum(map(len, verifier._replays._nonces.values())) <= MAX_REMEMBERED
        with pytest.raises(SignatureError):
            verifier.verify(first, "GET", "/")
        verifier.verify(other.sign("GET", "/"), "GET", "/")

    @pytest.mark.parametrize("seconds", [1, 299, 302, 500, 172_800])
    def test_a_clock_that_is_set_back_keeps_nobody_out(self, seconds: int) -> None:
        clock = Clock()
        verifier = signer(clock=clock)
        for _ in range(20):
            verifier.verify(signer(clock=clock).sign("GET", "/"), "GET", "/")
            clock.now += MAX_CLOCK_SKEW_SECONDS / 4

        clock.now -= seconds
        for _ in range(20):
            header = signer(clock=clock).sign("GET", "/")
            verifier.verify(header, "GET", "/")
            with pytest.raises(SignatureError, match="before"):
                verifier.verify(header, "GET", "/")
            clock.now += MAX_CLOCK_SKEW_SECONDS / 4

    def test_nothing_is_remembered_of_a_time_that_the_clock_has_left(self) -> None:
        clock = Clock()
        verifier = signer(clock=clock)
        for _ in range(3):
            verifier.verify(signer(clock=clock).sign("GET", "/"), "GET", "/")
            clock.now += MAX_CLOCK_SKEW_SECONDS
        clock.now -= 172_800
        verifier.verify(signer(clock=clock).sign("GET", "/"), "GET", "/")

        assert len(verifier._replays._nonces) == 1
        assert verifier._replays._count == 1

    def test_what_has_expired_is_forgotten(self) -> None:
        clock = Clock()
        verifier = signer(clock=clock)
        for _ in range(3):
            verifier.verify(signer(clock=clock).sign("GET", "/"), "GET", "/")
            clock.now += 2 * MAX_CLOCK_SKEW_SECONDS + 1

        assert len(verifier._replays._nonces) == 1


def test_no_two_headers_are_alike() -> None:
    headers = {signer().sign("GET", "/") for _ in range(100)}

    assert len(headers) == 100


def test_the_secret_is_not_in_the_header() -> None:
    assert "a-long-secret" not in signer("a-long-secret").sign("GET", "/")
