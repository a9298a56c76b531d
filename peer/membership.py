"""Who belongs to the network: invites and admission, renewal of certificates, revocations, and this peer's own record.

Revocations are gossiped before anything else and beat any record. A certificate is renewed long before it ends, by any neighbour that may
invite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from protocol.cards import card_id
from protocol.identity import Identity, MemberCertificate, PeerId, issue_leaf, renewal_due, verify_chain
from protocol.joining import JoinRefused, admit
from protocol.messages import Join, Joined, Renewed
from protocol.records import MAX_TASKS, PeerRecord, sign_record, tellable
from protocol.revocations import Revocations, revoke
from protocol.wire import WireError

from .events import Action, Address, Notify, OpenDoor, Persist, Seconds
from .saved import KeepCertificate, KeepInvite, KeepLeaf, KeepRevocation, KeepSequence, Saved, SpendInvite

RECORD_LIFE_S: Final = 7 * 86_400
"""Seconds a peer's record is worth something to those who have not met it: a laptop may be off for a week."""

RECORD_REFRESH_S: Final = 6 * 3600
"""Seconds after which an unchanged record is signed anew."""

MAX_REVOCATIONS: Final = 4096
"""Revocations kept, of at most 4 KiB: 16 MiB. Above it none is taken in; a network that revokes so many needs a new root."""

INVITER: Final = "inviter"
"""The capability in HELLO of a peer that may sign certificates."""


class Membership:
    """This peer's standing, and what it knows of the others'."""

    def __init__(self, identity: Identity, name: str, saved: Saved) -> None:
        self.identity = identity
        self._name = name
        self._sequence = saved.sequence
        self._invites = dict(saved.invites)
        self.certificates = dict(saved.certificates)
        self.revocations = Revocations(identity.root)
        for card in saved.revocations:
            self.revocations.add(card)
        self.addresses: tuple[Address, ...] = ()
        self.record: bytes = b""
        self._signed: tuple[tuple[str, ...], tuple[bytes, ...]] | None = None
        self._signed_at: Seconds = Seconds(0.0)
        self._is_renewing_since: Seconds = Seconds(0.0)

    # own record ------------------------------------------------------------------------------------------------------

    def sign_record(self, tasks: Sequence[bytes], now: Seconds) -> list[Action]:
        """Sign this peer's record anew if something on it changed or it grew old. What to persist first; empty if the record stands."""
        addresses = tellable(self.addresses)
        state = (addresses, tuple(sorted(tasks))[:MAX_TASKS])
        if self._signed == state and now - self._signed_at < RECORD_REFRESH_S:
            return []
        self._sequence = max(self._sequence + 1, int(now))
        self._signed, self._signed_at = state, now
        record = PeerRecord(sequence=self._sequence, name=self._name, addresses=addresses, tasks=state[1], expires=int(now) + RECORD_LIFE_S)
        self.record = sign_record(record, self.identity.key)
        return [Persist((KeepSequence(self._sequence),))]

    # revocations -----------------------------------------------------------------------------------------------------

    def is_revoked(self, certificate: MemberCertificate) -> bool:
        return self.revocations.is_revoked(certificate)

    def is_barred(self, peer: PeerId) -> bool:
        """Whether a peer is revoked, in the certificate it was last seen with or in any."""
        leaf = self.certificates.get(peer)
        return peer in self.revocations.revoked_peers or (leaf is not None and self.is_revoked(MemberCertificate.from_der(leaf)))

    def revoked_peers(self) -> list[PeerId]:
        """All revoked peers that this one has heard of."""
        return sorted(self.revocations.revoked_peers | {peer for peer in self.certificates if self.is_barred(peer)})

    @property
    def is_self_revoked(self) -> bool:
        return self.revocations.is_revoked(self.identity.certificate)

    def take_revocation(self, card: bytes) -> list[Action]:
        """Take in a revocation; empty if it was known. Raises WireError if it is not one, or not signed by who may."""
        if len(self.revocations.cards()) >= MAX_REVOCATIONS or not self.revocations.add(card):
            return []
        return [Persist((KeepRevocation(card),)), Notify("peer.revoked", {"card": card_id(card).hex()})]

    def revoke(self, peer: PeerId, now: Seconds) -> tuple[bytes, list[Action]]:
        """Revoke a peer this device may revoke. Raises MayNotRevoke."""
        card = revoke(self.identity, self.certificates.get(peer, peer), int(now))
        return card, self.take_revocation(card)

    def met(self, certificate: MemberCertificate) -> list[Action]:
        """Remember the certificate a peer was seen with."""
        if self.certificates.get(certificate.peer) == certificate.der:
            return []
        self.certificates[certificate.peer] = certificate.der
        return [Persist((KeepCertificate(certificate.peer, certificate.der),))]

    # invites ---------------------------------------------------------------------------------------------------------

    def open_invite(self, token: bytes, expires: Seconds, *, may_invite: bool) -> list[Action]:
        invite = KeepInvite(hashlib.sha256(token).digest(), expires, may_invite)
        self._invites[invite.digest] = invite
        return [Persist((invite,)), self.door()]

    def door(self) -> OpenDoor:
        return OpenDoor(max((i.expires for i in self._invites.values()), default=None))

    def expire_invites(self, now: Seconds) -> list[Action]:
        over = [digest for digest, invite in self._invites.items() if invite.expires <= now]
        if not over:
            return []
        for digest in over:
            del self._invites[digest]
        return [Persist(tuple(SpendInvite(d) for d in over)), self.door()]

    def admit(self, join: Join, now: Seconds) -> tuple[Joined, list[Action]]:
        """Admit a joiner with a good token. The token is spent, durably, before the answer. Raises JoinRefused."""
        digest = hashlib.sha256(join.token).digest()
        invite = self._invites.get(digest)
        if invite is None or invite.expires <= now:
            raise JoinRefused("this invite is not open: it was used, or its time is over")
        joined = admit(self.identity, join, invite.may_invite, int(now))
        del self._invites[digest]
        certificate = MemberCertificate.from_der(joined.leaf)
        self.certificates[certificate.peer] = certificate.der
        actions: list[Action] = [Persist((SpendInvite(digest), KeepCertificate(certificate.peer, certificate.der))), self.door()]
        return joined, [*actions, Notify("member.joined", {"peer": certificate.peer.hex(), "name": join.name})]

    # renewal ---------------------------------------------------------------------------------------------------------

    def wants_renewal(self, now: Seconds) -> bool:
        """Whether to ask an inviter for a new leaf now; at most once a minute."""
        return renewal_due(self.identity.certificate, int(now)) and now - self._is_renewing_since >= 60

    def asked_renewal(self, now: Seconds) -> None:
        self._is_renewing_since = now

    def renew_self(self, now: Seconds) -> list[Action]:
        """An inviter signs its own new leaf."""
        identity = self.identity
        if not (identity.may_invite and renewal_due(identity.certificate, int(now))):
            return []
        assert identity.authority_key is not None
        assert identity.authority is not None
        leaf = issue_leaf(identity.authority_key, identity.authority, identity.key.public_key(), int(now))
        return self._take_leaf(leaf, identity.authority)

    def renew_other(self, certificate: MemberCertificate, now: Seconds) -> Renewed | None:
        """A new leaf for a connected member, or None if this peer may not sign one."""
        identity = self.identity
        if identity.authority_key is None or identity.authority is None or self.is_revoked(certificate):
            return None
        leaf = issue_leaf(identity.authority_key, identity.authority, certificate.public_key, int(now))
        return Renewed(inviter=identity.authority, leaf=leaf)

    def renewed(self, message: Renewed, now: Seconds) -> list[Action]:
        """Take a new leaf if it is for this peer's key and chains to the root."""
        try:
            verify_chain(self.identity.root, message.inviter, message.leaf, int(now))
            certificate = MemberCertificate.from_der(message.leaf)
        except WireError:
            return []
        is_better = certificate.peer == self.identity.peer and certificate.not_after > self.identity.certificate.not_after
        return self._take_leaf(message.leaf, message.inviter) if is_better else []

    def _take_leaf(self, leaf: bytes, inviter: bytes) -> list[Action]:
        self.identity = replace(self.identity, leaf=leaf, inviter=inviter)
        until = self.identity.certificate.not_after
        return [Persist((KeepLeaf(leaf, inviter),)), Notify("identity.renewed", {"until": until})]

    def status(self) -> dict[str, Any]:
        return {"may_invite": self.identity.may_invite, "certificate_until": self.identity.certificate.not_after}
