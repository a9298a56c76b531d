"""Revocations: signed, never taken back, told to others before anything else (SPEC 6.6).

Two may revoke. The root revokes a peer: every certificate of its key, and every leaf signed by an authority that this peer holds. An
inviter revokes what it gave itself: the leaves that its own authority issued to a key, and no others. Were an inviter's word to count
for a key as such, it could issue a leaf for any member's key and then throw that member out.

The set depends on the cards ever seen, not on their order. Of each authority's cards about one key the one with the lowest id is kept,
and an authority's cards go when the root revokes that authority, which covers all it ever gave. So two peers that exchange their cards
end with equal digests, and an inviter can swell the set by so much only, and only until the root revokes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from .cards import BadSignature, card_id, open_card, sign_card
from .identity import Authority, BadCertificate, Identity, KeyId, MemberCertificate, PeerId, key_id, short, verify_chain, verify_root
from .messages import PEER
from .wire import Bytes, OutOfBounds, Structure, UInt, decode, optional, wire

REVOCATION: Final = "revocation"

CERTIFICATE: Final = Bytes(1, 1536)
"""A certificate inside a card: about 500 bytes, see `certificates.MAX_CERTIFICATE_BYTES`."""

MAX_PER_AUTHORITY: Final = 1024
"""Keys revoked by one inviter, 1.4 MiB of cards. Whoever revokes more than a whole network is attacking it; the lowest ids are kept."""


_AuthorityId = tuple[KeyId, PeerId]
"""An authority: its key, and its holder. The root may have given two holders one key; then they are two."""


class MayNotRevoke(ValueError):
    """This peer has no say over that membership. The text says who has."""


@dataclass(frozen=True, slots=True)
class Revocation(Structure):
    """The body of the card. `subject` is the peer id of the revoked key, `at` seconds since 1970, UTC (for people; it decides nothing).

    Signed by the root, it needs no more. Signed by an authority, it shows the leaf (`certificate`) and the authority that issued it.
    """

    subject: bytes = wire(PEER)
    at: int = wire(UInt(0, 2**40))
    certificate: bytes | None = optional(CERTIFICATE)
    authority: bytes | None = optional(CERTIFICATE)

    def validate(self) -> None:
        if (self.certificate is None) != (self.authority is None):
            raise OutOfBounds("a revocation shows both the membership and the authority that gave it, or neither")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A card of the set: who signed it (None: the root) and whose key it names."""

    card: bytes
    authority: _AuthorityId | None
    subject: PeerId


class Revocations:
    """All revocations that this peer knows of its network."""

    def __init__(self, root_der: bytes) -> None:
        self._root_der = root_der
        self._root = verify_root(root_der, None)
        self._kept: dict[bytes, _Kept] = {}
        """By card id."""
        self._ids: dict[_AuthorityId | None, dict[PeerId, bytes]] = {None: {}}
        """Signer (None: the root) → subject → card id."""

    def add(self, card: bytes) -> bool:
        """Take in a card. Whether that changed the set, so that it is worth keeping and telling on.

        Raises WireError if it is no revocation, BadSignature if whoever signed it has no say over its subject.
        """
        number = card_id(card)
        if number in self._kept and self._kept[number].card == card:
            return False  # Neighbours tell all they know; only what is new is worth checking two or three signatures.
        signer, body = open_card(REVOCATION, card)
        revocation = decode(Revocation, body)
        authority = None if signer == self._root else self._issuer(revocation, key_id(signer))
        if authority is None and revocation.certificate is not None:
            raise BadSignature("the root revokes a key, not one certificate of it")
        known = self._ids.get(authority, {}).get(PeerId(revocation.subject))
        if self._is_covered(authority) or (known is not None and known <= number):
            return False
        if known is not None:
            self._forget(known)
        self._kept[number] = _Kept(card, authority, PeerId(revocation.subject))
        self._ids.setdefault(authority, {})[PeerId(revocation.subject)] = number
        self._trim(authority)
        return number in self._kept

    def cards(self) -> tuple[bytes, ...]:
        """Every card, in the order of their ids."""
        return tuple(self._kept[number].card for number in sorted(self._kept))

    def digest(self) -> bytes:
        """SHA-256 over the ids of all cards, in order. Equal digests, equal sets."""
        return hashlib.sha256(b"".join(sorted(self._kept))).digest()

    def is_revoked(self, certificate: MemberCertificate) -> bool:
        """Whether this membership is revoked: its key or its inviter by the root, or itself by the authority that issued it."""
        authority, peer = (certificate.issuer, certificate.invited_by), certificate.peer
        return peer in self._ids[None] or self._is_covered(authority) or peer in self._ids.get(authority, {})

    @property
    def revoked_peers(self) -> frozenset[PeerId]:
        """The peers that the root revoked, in any certificate that they may hold."""
        return frozenset(self._ids[None])

    def _issuer(self, revocation: Revocation, signer: KeyId) -> _AuthorityId:
        """The authority that signed both the leaf shown and this revocation of it."""
        if revocation.certificate is None or revocation.authority is None:
            raise BadSignature("a revocation by neither the root nor the inviter")
        try:
            member = verify_chain(self._root_der, revocation.authority, revocation.certificate, None)
        except BadCertificate as error:
            raise BadSignature(f"a revocation of no member of this network: {error}") from None
        if signer != member.issuer or member.peer != revocation.subject:
            raise BadSignature("a revocation by neither the root nor the inviter")
        return member.issuer, member.invited_by

    def _is_covered(self, authority: _AuthorityId | None) -> bool:
        """Whether the root has revoked whoever holds this authority."""
        return authority is not None and authority[1] in self._ids[None]

    def _trim(self, authority: _AuthorityId | None) -> None:
        if authority is None:
            covered = [a for a in self._ids if self._is_covered(a)]
            for number in [n for a in covered for n in self._ids[a].values()]:
                self._forget(number)
        elif len(self._ids[authority]) > MAX_PER_AUTHORITY:
            self._forget(max(self._ids[authority].values()))

    def _forget(self, number: bytes) -> None:
        kept = self._kept.pop(number)
        del self._ids[kept.authority][kept.subject]


def revoke(identity: Identity, subject: bytes, now: float) -> bytes:
    """The card by which this peer revokes `subject`: a peer id, or (needed by an inviter who is not the founder) that peer's leaf, DER.

    Raises MayNotRevoke, in words for the owner.
    """
    leaf = None if len(subject) == 32 else MemberCertificate.from_der(subject)
    peer = PeerId(subject) if leaf is None else leaf.peer
    if peer == identity.peer:
        raise MayNotRevoke("a peer cannot revoke itself")
    if identity.root_key is not None:
        return sign_card(REVOCATION, Revocation(peer, int(now)).encode(), identity.root_key)
    if identity.authority is None or identity.authority_key is None:
        raise MayNotRevoke(f"only an inviter may revoke; ask whoever invited {short(peer)}, or the network's founder")
    if leaf is None:
        raise MayNotRevoke(f"{short(peer)} has never connected to this peer; ask whoever invited it, or the network's founder")
    if leaf.issuer != Authority.from_der(identity.authority).key:
        raise MayNotRevoke(f"{short(peer)} is a member through {short(leaf.invited_by)}; ask there, or the network's founder")
    body = Revocation(peer, int(now), leaf.der, identity.authority)
    return sign_card(REVOCATION, body.encode(), identity.authority_key)
