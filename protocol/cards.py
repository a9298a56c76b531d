"""A card: bytes with their author's signature, as they lie on disk and travel through others' hands (SPEC 6.4).

Tasks, peer records and revocations are cards. What is signed names the protocol and the kind of card first, so a signature made for one
purpose never counts for another. A card is known by the hash of its body: who signed the same words twice made one card.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .identity import BadKey, PeerId, peer_id, public_key, raw_public_key
from .wire import Bytes, Structure, WireError, decode, wire

MAX_BODY_BYTES: Final = 60 * 1024
"""The largest body is a task's of 1,024 columns, about 50 KiB; each kind of card has its own, lower limit where it travels."""


class BadSignature(WireError):
    """A card that its author did not sign, or not as this kind of card."""


@dataclass(frozen=True, slots=True)
class Signed(Structure):
    """A card's bytes: the body, the author's raw public key, the signature."""

    body: bytes = wire(Bytes(1, MAX_BODY_BYTES))
    key: bytes = wire(Bytes(32, 32))
    signature: bytes = wire(Bytes(64, 64))


def sign_card(kind: str, body: bytes, key: Ed25519PrivateKey) -> bytes:
    """The card that says `body`, signed with `key`. `kind` is "task", "record" or "revocation"."""
    return Signed(body, raw_public_key(key), key.sign(_signed(kind, body))).encode()


def open_card(kind: str, card: bytes) -> tuple[PeerId, bytes]:
    """Who signed a card of this kind, and its body. Raises BadSignature, or another WireError if it is no card at all."""
    signed = decode(Signed, card)
    try:
        key = public_key(signed.key)
        key.verify(signed.signature, _signed(kind, signed.body))
    except (BadKey, InvalidSignature):
        raise BadSignature(f"not a {kind} signed by its author") from None
    return peer_id(key), signed.body


def card_id(card: bytes) -> bytes:
    """SHA-256 of the card's body; of a task, its TaskId. Raises WireError if it is no card. Does not check the signature."""
    return hashlib.sha256(decode(Signed, card).body).digest()


def _signed(kind: str, body: bytes) -> bytes:
    return b"chinwag/1 " + kind.encode() + b"\0" + body
