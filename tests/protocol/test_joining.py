"""Invite links, and joining as bytes: who is let in, with what, and what a joiner believes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.connection import Closed, Connection, MessageReceived
from protocol.identity import (
    Identity,
    MemberCertificate,
    found_network,
    issue_authority,
    issue_leaf,
    key_from_seed,
    peer_id,
    raw_public_key,
)
from protocol.joining import BadLink, Invite, Joiner, JoinRefused, admit, invite_link, read_link
from protocol.messages import CloseCode, Hello, Join, Joined
from protocol.records import BadAddress

NOW = 1_767_225_600
FOUNDER = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, NOW)
INVITE = Invite(("192.168.1.7:8786", "[fd00::7]:8786"), FOUNDER.peer, b"t" * 16, NOW + 600)
HELLO = Hello((1,), "chinwag/1", (), bytes(32), bytes(32))
LINK = invite_link(INVITE)


# links -----------------------------------------------------------------------------------------------------------------------------------


def test_a_link_holds_the_invite() -> None:
    assert LINK.startswith("chinwag:")
    assert LINK.lower() == LINK
    assert read_link(LINK) == INVITE


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda link: f"  {link}\n",
        lambda link: f"<{link}>.",
        lambda link: f'"{link}"',
        lambda link: link[:40] + "\n   " + link[40:],
        lambda link: link.replace("o", "0").replace("l", "1").replace("b", "8"),
    ],
)
def test_a_link_survives_mail_programs_and_people(change: Callable[[str], str]) -> None:
    assert read_link(change(LINK)) == INVITE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with"),
        ("https://example.org/", "begins with"),
        ("7-maple-otter-violin", "begins with"),
        ("chinwag:", "incomplete"),
        (LINK[:-1], "once more"),
        (LINK[:-8], "once more"),
        (LINK[:30] + LINK[31:], "once more"),
        (LINK[:30] + LINK[31] + LINK[30] + LINK[32:], "once more"),
        (LINK + "a", "once more"),
        (LINK[:-1] + "!", "once more"),
        ("chinwag:" + "a" * 5000, "too long"),
        ("chinwag:é", "once more"),
    ],
)
def test_a_broken_link_is_found_before_anything_is_sent(text: str, says: str) -> None:
    with pytest.raises(BadLink, match=says):
        read_link(text)


@settings(max_examples=80, deadline=None)
@example(at=len(LINK) - 1, put=chr(ord(LINK[-1]) + 1))
@given(at=st.integers(8, len(LINK) - 1), put=st.sampled_from("acdefghijkmnpqrstuvwxyz234567"))
def test_no_letter_of_a_link_can_be_mistyped_unseen(at: int, put: str) -> None:
    if LINK[at] != put:
        with pytest.raises(BadLink):
            read_link(LINK[:at] + put + LINK[at + 1 :])


def test_the_longest_link_can_be_read() -> None:
    longest = Invite(tuple(f"{'a' * 60}.{str(i) * 12}a:12345" for i in range(8)), FOUNDER.peer, b"t" * 16, 2**40)
    assert read_link(invite_link(longest)) == longest


def test_an_invite_names_addresses_that_can_be_dialled() -> None:
    with pytest.raises(BadAddress):
        replace(INVITE, addresses=("0.0.0.0:1",))


# admission -------------------------------------------------------------------------------------------------------------------------------


def request(seed: bytes = b"k" * 32, to: bytes = FOUNDER.peer, token: bytes = INVITE.token) -> Join:
    key = key_from_seed(seed)
    proof = key.sign(b"chinwag/1 join\0" + token + to)
    return Join(token, "cellar", raw_public_key(key), proof, raw_public_key(key_from_seed(b"q" * 32)))


def test_who_proves_its_key_becomes_a_member() -> None:
    joined = admit(FOUNDER, request(), False, NOW)
    member = Identity(key_from_seed(b"k" * 32), joined.root, joined.inviter, joined.leaf)
    member.verify(NOW)
    assert member.network == FOUNDER.network
    assert member.certificate.invited_by == FOUNDER.peer
    assert joined.authority is None


def test_the_right_to_invite_is_given_only_if_the_invite_says_so() -> None:
    joined = admit(FOUNDER, request(), True, NOW)
    member = Identity(key_from_seed(b"k" * 32), joined.root, joined.inviter, joined.leaf, key_from_seed(b"q" * 32), joined.authority)
    assert member.may_invite
    assert not member.may_make_inviters
    third = admit(member, request(b"3" * 32, to=member.peer), False, NOW)
    Identity(key_from_seed(b"3" * 32), third.root, third.inviter, third.leaf).verify(NOW)
    with pytest.raises(JoinRefused, match="founder"):
        admit(member, request(b"3" * 32, to=member.peer), True, NOW)


@pytest.mark.parametrize(
    "join",
    [
        request(to=OTHER.peer),
        replace(request(), token=b"u" * 16),
        replace(request(), key=raw_public_key(key_from_seed(b"z" * 32))),
        replace(request(), key=b"\1" + bytes(31), proof=b"\1" + bytes(63)),
        replace(request(), inviter_key=bytes(32)),
    ],
)
def test_a_request_that_does_not_prove_its_key_here_and_now_is_refused(join: Join) -> None:
    with pytest.raises(JoinRefused):
        admit(FOUNDER, join, True, NOW)


def test_who_may_not_invite_admits_nobody() -> None:
    joined = admit(FOUNDER, request(), False, NOW)
    member = Identity(key_from_seed(b"k" * 32), joined.root, joined.inviter, joined.leaf)
    with pytest.raises(JoinRefused):
        admit(member, request(b"3" * 32, to=member.peer), False, NOW)


# the joiner ------------------------------------------------------------------------------------------------------------------------------


def joiner(invite: Invite = INVITE, listener: bytes = FOUNDER.leaf, now: int = NOW) -> Joiner:
    return Joiner(invite, listener, "cellar", b"k" * 32, b"q" * 32, now)


def converse(side: Joiner, answer: Callable[[Join], Joined | CloseCode]) -> list[object]:
    """Let a listener that answers so talk to the joiner. What the listener heard."""
    listener = Connection(True, HELLO, is_member=False)
    to_joiner, heard = listener.start(NOW), []
    while to_joiner:
        events, to_joiner = listener.receive(side.receive(to_joiner, NOW), NOW)
        for event in events:
            heard.append(event.message if isinstance(event, MessageReceived) else event)
            if isinstance(event, MessageReceived) and isinstance(event.message, Join):
                said = answer(event.message)
                to_joiner += listener.close(said) if isinstance(said, CloseCode) else listener.send(said)
    return heard


def test_a_joiner_becomes_a_member_and_hangs_up() -> None:
    side = joiner()
    heard = converse(side, lambda join: admit(FOUNDER, join, True, NOW))
    assert side.error is None
    assert side.identity is not None
    assert side.identity.network == FOUNDER.network
    assert side.identity.peer == peer_id(key_from_seed(b"k" * 32))
    assert side.identity.may_invite
    assert isinstance(heard[0], Join)
    assert isinstance(heard[1], Closed)
    assert heard[1].code == CloseCode.NORMAL


def test_a_joiner_says_nothing_before_the_listeners_hello() -> None:
    assert joiner().receive(b"", NOW) == b""


@pytest.mark.parametrize(
    ("side", "says"),
    [
        (joiner(listener=OTHER.leaf), "another device"),
        (joiner(listener=b"junk"), "not Chinwag"),
        (joiner(now=NOW + 601), "expired"),
    ],
)
def test_a_joiner_keeps_its_token_from_whoever_is_not_the_inviter(side: Joiner, says: str) -> None:
    assert side.error is not None
    assert says in side.error
    assert side.receive(Connection(True, HELLO, is_member=False).start(NOW), NOW) == b""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (CloseCode.INVITE_REFUSED, "used already"),
        (CloseCode.LIMIT, "no room"),
        (CloseCode.SHUTDOWN, "stopping"),
        (CloseCode.INTERNAL, "internal"),
    ],
)
def test_a_refusal_is_told_in_words(code: CloseCode, says: str) -> None:
    side = joiner()
    converse(side, lambda join: code)
    assert side.identity is None
    assert side.code == code
    assert side.error is not None
    assert says in side.error


def swapped(join: Join) -> Joined:
    return replace(admit(FOUNDER, join, False, NOW), leaf=admit(FOUNDER, request(b"z" * 32), False, NOW).leaf)


def other_root(join: Join) -> Joined:
    return replace(admit(FOUNDER, join, False, NOW), root=OTHER.root)


def junk(join: Join) -> Joined:
    return replace(admit(FOUNDER, join, False, NOW), leaf=b"junk")


def others_authority(join: Join) -> Joined:
    return replace(admit(FOUNDER, join, False, NOW), authority=FOUNDER.authority)


def expired(join: Join) -> Joined:
    return admit(FOUNDER, join, False, NOW - 91 * 86_400)


def by_another_inviter(join: Join) -> Joined:
    assert FOUNDER.root_key is not None
    key, authority_key = key_from_seed(b"2" * 32), key_from_seed(b"3" * 32)
    authority = issue_authority(FOUNDER.root_key, FOUNDER.root, authority_key.public_key(), peer_id(key), NOW)
    leaf = issue_leaf(authority_key, authority, key_from_seed(b"k" * 32).public_key(), NOW)
    assert MemberCertificate.from_der(leaf).invited_by == peer_id(key)
    return Joined(FOUNDER.root, authority, leaf)


@pytest.mark.parametrize("answer", [swapped, other_root, junk, others_authority, expired, by_another_inviter])
def test_a_joiner_believes_no_answer_that_does_not_make_it_a_member(answer: Callable[[Join], Joined]) -> None:
    side = joiner()
    converse(side, answer)
    assert side.identity is None
    assert side.error is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=4))
def test_no_bytes_from_an_inviter_break_a_joiner(pieces: list[bytes]) -> None:
    side = joiner()
    for piece in [Connection(True, HELLO, is_member=False).start(NOW), *pieces]:
        side.receive(piece, NOW)
    assert side.identity is None


def test_an_inviter_that_hangs_up_without_a_word_has_no_invite_open() -> None:
    side = joiner()
    side.hung_up()
    assert side.error is not None
    assert "used already" in side.error
