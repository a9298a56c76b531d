"""Cards: who signed them, for what purpose, and that nothing else passes for one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.cards import BadSignature, Signed, card_id, open_card, sign_card
from protocol.identity import key_from_seed, peer_id
from protocol.wire import WireError

KEY = key_from_seed(b"k" * 32)
ORDER = 2**252 + 27742317777372353535851937790883648493
PUBLIC = KEY.public_key().public_bytes_raw()
GOLDEN = "afe77560218e44a618ae40dc8e7b70ebb9ef18d8c74461f68a58d6a0b302203f"


def test_a_card_opens_to_its_author_and_its_body() -> None:
    card = sign_card("task", b"what is learned", KEY)
    assert open_card("task", card) == (peer_id(KEY), b"what is learned")
    assert card_id(card) == hashlib.sha256(b"what is learned").digest()


def test_the_bytes_of_a_card_are_these() -> None:
    assert hashlib.sha256(sign_card("record", b"body", KEY)).hexdigest() == GOLDEN


def test_a_signature_made_for_one_kind_of_card_counts_for_no_other() -> None:
    with pytest.raises(BadSignature):
        open_card("revocation", sign_card("record", b"body", KEY))


def test_the_kind_cannot_be_moved_into_the_body() -> None:
    card = Signed(b"d\0body", PUBLIC, KEY.sign(b"chinwag/1 recor" + b"d\0body")).encode()
    with pytest.raises(BadSignature):
        open_card("recor", card)


def test_a_key_of_small_order_signs_nothing_although_openssl_says_it_does() -> None:
    neutral = b"\1" + bytes(31)
    signature = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(signature, b"anything at all")
    with pytest.raises(BadSignature):
        open_card("task", Signed(b"anything", neutral, signature).encode())


def test_a_second_form_of_a_signature_is_refused() -> None:
    signed = Signed(b"body", PUBLIC, KEY.sign(b"chinwag/1 task\0body"))
    assert open_card("task", signed.encode())
    s = int.from_bytes(signed.signature[32:], "little") + ORDER
    other = Signed(signed.body, signed.key, signed.signature[:32] + s.to_bytes(32, "little"))
    with pytest.raises(BadSignature):
        open_card("task", other.encode())


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_bit_of_a_card_can_be_changed(at: int, bit: int) -> None:
    card = bytearray(sign_card("task", b"what is learned", KEY))
    card[at % len(card)] ^= 1 << bit
    with pytest.raises(WireError):
        open_card("task", bytes(card))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_card_raise_a_wire_error_and_nothing_else(data: bytes) -> None:
    for read in (lambda: open_card("task", data), lambda: card_id(data)):
        with pytest.raises(WireError):
            read()
