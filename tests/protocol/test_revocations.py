"""Revocations: who may revoke whom, and that all peers end with the same set."""

from __future__ import annotations

from random import Random

import pytest

import protocol.revocations as revocations
from protocol.cards import BadSignature, card_id, open_card, sign_card
from protocol.identity import (
    Authority,
    Identity,
    MemberCertificate,
    PeerId,
    found_network,
    issue_authority,
    issue_leaf,
    key_from_seed,
    peer_id,
)
from protocol.messages import Revocation as Message
from protocol.revocations import MayNotRevoke, Revocation, Revocations, revoke
from protocol.wire import WireError, decode

NOW = 1_767_225_600
FOUNDER = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, NOW)


def member(number: int, by: Identity = FOUNDER, authority: int | None = None, now: int = NOW) -> Identity:
    """A member whom `by` invited; with `authority` an inviter, whose authority has that number's key."""
    key = key_from_seed(number.to_bytes(32, "big"))
    assert by.authority_key is not None
    assert by.authority is not None
    leaf = issue_leaf(by.authority_key, by.authority, key.public_key(), now)
    if authority is None:
        return Identity(key, by.root, by.authority, leaf)
    assert FOUNDER.root_key is not None
    authority_key = key_from_seed(authority.to_bytes(32, "big"))
    granted = issue_authority(FOUNDER.root_key, FOUNDER.root, authority_key.public_key(), peer_id(key), now)
    return Identity(key, by.root, by.authority, leaf, authority_key, granted)


INVITER = member(1, authority=101)
SECOND = member(2, authority=102)
GUEST = member(3, by=INVITER)


def known(*cards: bytes) -> Revocations:
    made = Revocations(FOUNDER.root)
    for card in cards:
        made.add(card)
    return made


def test_nobody_is_revoked_at_first() -> None:
    made = known()
    assert not any(made.is_revoked(i.certificate) for i in (FOUNDER, INVITER, GUEST))
    assert made.cards() == ()


def test_the_founder_revokes_a_peer_in_every_certificate_it_may_have() -> None:
    made = known(revoke(FOUNDER, GUEST.peer, NOW))
    assert made.is_revoked(GUEST.certificate)
    assert made.is_revoked(member(3, by=SECOND, now=NOW + 86_400).certificate)
    assert not made.is_revoked(INVITER.certificate)
    assert made.revoked_peers == {GUEST.peer}


def test_who_is_revoked_by_the_founder_takes_along_everybody_it_invited() -> None:
    made = known(revoke(FOUNDER, INVITER.certificate.der, NOW))
    assert made.is_revoked(INVITER.certificate)
    assert made.is_revoked(GUEST.certificate)
    assert not made.is_revoked(SECOND.certificate)


def test_an_inviter_revokes_whom_it_invited() -> None:
    made = known(revoke(INVITER, GUEST.certificate.der, NOW))
    assert made.is_revoked(GUEST.certificate)
    assert not made.is_revoked(INVITER.certificate)


def test_an_inviters_word_counts_only_for_what_it_gave_itself() -> None:
    """Anybody may certify anybody's key. Were that enough to revoke it, an inviter could throw out every member."""
    victim = member(4, by=SECOND)
    trap = member(4, by=INVITER)
    made = known(revoke(INVITER, trap.certificate.der, NOW))
    assert made.is_revoked(trap.certificate)
    assert not made.is_revoked(victim.certificate)
    assert made.revoked_peers == frozenset()


@pytest.mark.parametrize(
    ("who", "subject", "says"),
    [
        (GUEST, INVITER.certificate.der, "inviter"),
        (INVITER, SECOND.certificate.der, "founder"),
        (INVITER, GUEST.peer, "founder"),
        (FOUNDER, FOUNDER.peer, "itself"),
        (INVITER, INVITER.certificate.der, "itself"),
    ],
)
def test_who_may_not_revoke_is_told_who_may(who: Identity, subject: bytes, says: str) -> None:
    with pytest.raises(MayNotRevoke, match=says):
        revoke(who, subject, NOW)


def signed(revocation: Revocation, by: Identity) -> bytes:
    assert by.authority_key is not None
    return sign_card("revocation", revocation.encode(), by.authority_key)


def test_a_revocation_without_a_say_is_refused() -> None:
    leaf, authority = GUEST.certificate.der, INVITER.authority
    assert OTHER.root_key is not None
    assert FOUNDER.root_key is not None
    forged = [
        sign_card("revocation", Revocation(INVITER.peer, NOW).encode(), GUEST.key),
        sign_card("revocation", Revocation(GUEST.peer, NOW).encode(), OTHER.root_key),
        signed(Revocation(GUEST.peer, NOW), INVITER),
        signed(Revocation(GUEST.peer, NOW, leaf, authority), SECOND),
        signed(Revocation(SECOND.peer, NOW, leaf, authority), INVITER),
        signed(Revocation(GUEST.peer, NOW, leaf, SECOND.authority), SECOND),
        signed(Revocation(GUEST.peer, NOW, authority, authority), INVITER),
        signed(Revocation(OTHER.peer, NOW, OTHER.leaf, OTHER.authority), OTHER),
        sign_card("revocation", Revocation(GUEST.peer, NOW, leaf, authority).encode(), FOUNDER.root_key),
        sign_card("record", Revocation(GUEST.peer, NOW).encode(), FOUNDER.root_key),
        sign_card("revocation", b"\x80", FOUNDER.root_key),
        b"",
    ]
    made = known()
    for card in forged:
        with pytest.raises(WireError):
            made.add(card)
    assert made.cards() == ()


def test_what_is_known_is_not_new() -> None:
    made, card = known(), revoke(FOUNDER, GUEST.peer, NOW)
    assert made.add(card)
    assert not made.add(card)


def test_a_revocation_holds_after_its_certificates_have_ended() -> None:
    assert FOUNDER.authority_key is not None
    assert FOUNDER.authority is not None
    old = issue_leaf(FOUNDER.authority_key, FOUNDER.authority, GUEST.key.public_key(), NOW - 200 * 86_400)
    assert known(
        revoke(Identity(FOUNDER.key, FOUNDER.root, FOUNDER.inviter, FOUNDER.leaf, FOUNDER.authority_key, FOUNDER.authority), old, NOW)
    ).cards()


def cards_of_all_kinds() -> list[bytes]:
    guests = [member(10 + i, by=INVITER) for i in range(4)]
    others = [member(20 + i, by=SECOND) for i in range(3)]
    found = [revoke(INVITER, g.certificate.der, NOW + t) for g in guests for t in range(2)]
    found += [revoke(SECOND, o.certificate.der, NOW) for o in others]
    found += [revoke(FOUNDER, INVITER.peer, NOW + t) for t in range(2)]
    return [*found, revoke(FOUNDER, others[0].peer, NOW)]


def test_the_set_does_not_depend_on_the_order_in_which_its_cards_come() -> None:
    cards, random = cards_of_all_kinds(), Random(1)
    ends = set()
    for _ in range(20):
        random.shuffle(cards)
        made = known(*cards, *random.sample(cards, 5))
        ends.add((made.digest(), made.cards()))
    assert len(ends) == 1


def test_peers_that_tell_each_other_all_they_know_end_with_equal_digests() -> None:
    cards = cards_of_all_kinds()
    one, two = known(*cards[::2]), known(*cards[1::2])
    assert one.digest() != two.digest()
    for card in one.cards():
        two.add(card)
    for card in two.cards():
        one.add(card)
    assert one.digest() == two.digest()


def test_one_inviter_can_swell_the_set_by_so_much_only_and_until_the_root_revokes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MAX_PER_AUTHORITY", 3)
    cards = [revoke(INVITER, member(50 + i, by=INVITER).certificate.der, NOW) for i in range(6)]
    one, two = known(*cards), known(*reversed(cards))
    assert one.cards() == two.cards() == tuple(sorted(cards, key=card_id)[:3])
    end = revoke(FOUNDER, INVITER.peer, NOW)
    assert one.add(end)
    assert one.cards() == (end,)
    assert not one.add(cards[0])


def test_a_key_that_two_inviters_were_given_makes_two_authorities() -> None:
    one, two = member(60, authority=200), member(61, authority=200)
    guest_of_one, guest_of_two = member(62, by=one), member(62, by=two)
    made = known(revoke(one, guest_of_one.certificate.der, NOW))
    assert made.is_revoked(guest_of_one.certificate)
    assert not made.is_revoked(guest_of_two.certificate)
    made.add(revoke(FOUNDER, two.peer, NOW))
    assert made.is_revoked(guest_of_one.certificate)
    assert len(made.cards()) == 2


def test_a_revocation_fits_into_its_message() -> None:
    card = revoke(INVITER, GUEST.certificate.der, NOW)
    assert Message(card).card == card
    signer, body = open_card("revocation", card)
    revocation = decode(Revocation, body)
    assert revocation.authority is not None
    assert Authority.from_der(revocation.authority).key == signer[:20]
    assert PeerId(revocation.subject) == MemberCertificate.from_der(GUEST.leaf).peer
    with pytest.raises(BadSignature):
        open_card("task", card)
