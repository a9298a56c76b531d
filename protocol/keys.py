"""Keys and the names made of them: a peer is the hash of its Ed25519 public key (SPEC 6.1).

No random source here: whoever makes a key draws its 32-byte seed from the system's and passes it in.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, NewType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from .wire import WireError

PeerId = NewType("PeerId", bytes)
"""32 bytes: SHA-256 of a peer's public key (DER SubjectPublicKeyInfo)."""

KeyId = NewType("KeyId", bytes)
"""20 bytes: the beginning of the same hash. The key identifiers of our certificates are these (RFC 7093, section 2, method 4)."""

KEY_ID_BYTES: Final = 20

PRIME: Final = 2**255 - 19
"""Coordinates of the curve are below it."""

SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y coordinates of the eight points whose order divides 8. Anybody can make signatures for such a "key", so it identifies nobody.
OpenSSL takes them; libsodium refuses them."""


class BadKey(WireError):
    """Bytes that are no usable Ed25519 public key."""


def key_from_seed(seed: bytes) -> Ed25519PrivateKey:
    """The private key of a 32-byte seed. The seed is the key."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def seed_of(key: Ed25519PrivateKey) -> bytes:
    """The 32-byte seed of a private key, for a file that only its owner may read."""
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def public_key(raw: bytes) -> Ed25519PublicKey:
    """The public key in these 32 bytes. Raises BadKey for other lengths, a second encoding of a point, and points of small order."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if len(raw) != 32 or y >= PRIME or y in SMALL_ORDER:
        raise BadKey("not a usable Ed25519 public key")
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise BadKey("not a usable Ed25519 public key") from None


def raw_public_key(key: Ed25519PublicKey | Ed25519PrivateKey) -> bytes:
    """A public key as the 32 bytes that travel."""
    return _public(key).public_bytes(Encoding.Raw, PublicFormat.Raw)


def peer_id(key: Ed25519PublicKey | Ed25519PrivateKey) -> PeerId:
    """The name of whoever holds this key."""
    return PeerId(hashlib.sha256(_public(key).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def key_id(peer: PeerId) -> KeyId:
    """The key identifier of the same key."""
    return KeyId(peer[:KEY_ID_BYTES])


def short(peer: bytes) -> str:
    """A peer id as people read it to each other, "4F7K-QX2M": 40 bits tell the peers of one network apart, and prove nothing."""
    text = base64.b32encode(peer[:5]).decode()
    return f"{text[:4]}-{text[4:]}"


def _public(key: Ed25519PublicKey | Ed25519PrivateKey) -> Ed25519PublicKey:
    return key.public_key() if isinstance(key, Ed25519PrivateKey) else key
