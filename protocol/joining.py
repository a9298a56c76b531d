"""Becoming a member: an invite as a link, and the two sides of using it (SPEC 6.3).

The link holds where the inviter listens, the hash of its key, and a token that works once. The joiner connects over TLS without a
certificate, sees whether the key that answers is the one in the link, waits for HELLO, and sends JOIN. The inviter answers JOINED with
certificates, and both hang up. From then on the joiner is a member like any other.

What it rests on: whoever holds the link may join, so a link is a secret for the minutes that it lives. Whoever does not hold the private
key named in it learns nothing, since the token is sent only after TLS has proved that key. And `proof` ties the token to that key too: it
cannot be carried to another inviter.

Sans-IO: `Joiner` takes bytes and returns bytes; sockets are `peer/joining.py`'s.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature

from .connection import Closed, Connection, Greeted, MessageReceived
from .identity import (
    BadCertificate,
    BadKey,
    Identity,
    MemberCertificate,
    issue_authority,
    issue_leaf,
    key_from_seed,
    peer_id,
    public_key,
    raw_public_key,
    short,
)
from .messages import PEER, CloseCode, Join, Joined
from .records import ADDRESS, MAX_ADDRESSES, parse_address
from .wire import Bytes, Many, Structure, UInt, WireError, decode, wire

MAX_INVITE_ADDRESSES: Final = MAX_ADDRESSES

TOKEN_BYTES: Final = 16
"""128 random bits: guessing is hopeless, and the link still fits a QR code that a phone reads from a terminal."""

SCHEME: Final = "chinwag:"

CHECK_BYTES: Final = 4
"""Of SHA-256, at the end of the link: one typo in 4 billion goes unseen, and is then refused by the inviter."""

MAX_LINK_CHARACTERS: Final = 2048
"""The longest link we make has 1,250."""


class BadLink(ValueError):
    """Text that is no whole invite. The error says in plain words what to do."""


class JoinRefused(ValueError):
    """The inviter lets nobody in with this request; the text says why. The joiner is only told INVITE_REFUSED."""


@dataclass(frozen=True, slots=True)
class Invite(Structure):
    """What the link holds. `inviter` is a peer id, `expires` is in seconds since 1970, UTC."""

    addresses: tuple[str, ...] = wire(Many(ADDRESS, MAX_INVITE_ADDRESSES, low=1))
    inviter: bytes = wire(PEER)
    token: bytes = wire(Bytes(TOKEN_BYTES, TOKEN_BYTES))
    expires: int = wire(UInt(0, 2**40))

    def validate(self) -> None:
        for address in self.addresses:
            parse_address(address)


def invite_link(invite: Invite) -> str:
    """The invite as one word to send or to show as a QR code: "chinwag:" and base32, which survives typing and capitals."""
    payload = invite.encode()
    return SCHEME + base64.b32encode(payload + _check(payload)).decode().rstrip("=").lower()


def read_link(text: str) -> Invite:
    """The invite in a link, however a mail program broke or a person capitalised it. Raises BadLink.

    Whether it is still open is not known here: `Joiner` looks at the clock, the inviter at its list.
    """
    link = re.sub(r"\s+", "", text).strip("\"'`<>.,").lower()
    if not link.startswith(SCHEME):
        raise BadLink(f"an invite link begins with {SCHEME!r}; copy the whole link from the device that invites")
    if len(link) > MAX_LINK_CHARACTERS:
        raise BadLink("this is too long for an invite link; copy just the link")
    # 0, 1 and 8 are not used, and people read them for these.
    code = link.removeprefix(SCHEME).translate(str.maketrans("018", "olb")).upper()
    try:
        content = base64.b32decode(code + "=" * (-len(code) % 8))
    except (binascii.Error, ValueError):
        raise BadLink("the link has a character that no invite link has, or lacks some; copy it once more") from None
    payload, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
    if check != _check(payload) or base64.b32encode(content).decode().rstrip("=") != code:
        raise BadLink("the link is incomplete or has a typing error; copy it once more")
    try:
        return decode(Invite, payload)
    except WireError:
        raise BadLink("the link is of another version of Chinwag; install the same version on both devices") from None


def _check(payload: bytes) -> bytes:
    return hashlib.sha256(b"chinwag link" + payload).digest()[:CHECK_BYTES]


def _proven(token: bytes, inviter: bytes) -> bytes:
    """What a joiner signs to show that it holds the key it wants certified, here and now and for this inviter."""
    return b"chinwag/1 join\0" + token + inviter


class Joiner:
    """The joiner's side of one connection to an inviter.

    listener: the DER certificate that TLS has proved the other end to hold. key_seed, authority_seed: 32 random bytes each; the second is
    used only if the invite gives the right to invite. `receive` until `identity` or `error` is there.
    """

    def __init__(self, invite: Invite, listener: bytes, name: str, key_seed: bytes, authority_seed: bytes, now: float) -> None:
        self.identity: Identity | None = None
        self.error: str | None = None
        self.code: int | None = None
        """The close code behind `error`, if there was one."""
        self.is_inviter = False
        """Whether the device that the invite names is at the other end."""
        self._invite = invite
        self._key, self._authority_key = key_from_seed(key_seed), key_from_seed(authority_seed)
        self._join = Join(
            token=invite.token,
            name=name,
            key=raw_public_key(self._key),
            proof=self._key.sign(_proven(invite.token, invite.inviter)),
            inviter_key=raw_public_key(self._authority_key),
        )
        self._connection = Connection(False, None, is_member=False)
        self._connection.start(now)
        self._check_before(listener, now)

    def receive(self, data: bytes, now: float) -> bytes:
        """Take what arrived; what to send."""
        if self.error or self.identity:
            return b""
        events, answer = self._connection.receive(data, now)
        for event in events:
            match event:
                case Greeted():
                    answer += self._connection.send(self._join)
                case MessageReceived(Joined() as joined):
                    self._take(joined, now)
                    return answer + self._connection.close(CloseCode.NORMAL)
                case Closed(code, _, reason):
                    self._fail(_why_closed(code, reason), code)
                    return answer
                case _:
                    self._fail("the inviter's answer makes no sense")
                    return answer + self._connection.close(CloseCode.BAD_STATE)
        return answer

    def hung_up(self) -> None:
        """The other side ended the connection without a word, as it does when it has no invite open."""
        if self.identity is None and self.error is None:
            self._fail("the inviter hung up; most likely the invite was used already or has expired, so ask for a new one")

    def _check_before(self, listener: bytes, now: float) -> None:
        """Anything that speaks against sending the token at all."""
        try:
            found = MemberCertificate.from_der(listener).peer
        except BadCertificate:
            return self._fail("what answers there is not Chinwag")
        self.is_inviter = found == self._invite.inviter
        if not self.is_inviter:
            self._fail(f"another device answers there: {short(found)}, not {short(self._invite.inviter)}")
        elif now > self._invite.expires:
            self._fail("the invite has expired by this device's clock; set the clock right or ask for a new invite")

    def _take(self, joined: Joined, now: float) -> None:
        authority_key = None if joined.authority is None else self._authority_key
        try:
            identity = Identity(self._key, joined.root, joined.inviter, joined.leaf, authority_key, joined.authority)
            identity.verify(now)
            if identity.certificate.invited_by != self._invite.inviter:
                raise BadCertificate("another device than the inviter signed it")
        except BadCertificate as error:
            return self._fail(f"the inviter's answer cannot be used: {error}")
        self.identity = identity

    def _fail(self, why: str, code: int | None = None) -> None:
        self.error, self.code = why, code


def _why_closed(code: int, reason: str) -> str:
    match code:
        case CloseCode.INVITE_REFUSED:
            return "the invite was used already, has expired or was withdrawn; ask for a new one"
        case CloseCode.VERSION:
            return "the inviter has another version of Chinwag; install the same version on both devices"
        case CloseCode.TIMEOUT:
            return "the inviter did not answer in time"
        case CloseCode.LIMIT:
            return "the inviter has no room for another connection; try again in a minute"
        case CloseCode.SHUTDOWN:
            return "the inviter is stopping"
        case _:
            return f"the inviter hung up: {reason}" if reason else f"the inviter hung up (code {code})"


def admit(identity: Identity, join: Join, may_invite: bool, now: float) -> Joined:
    """Make whoever asks a member, and an inviter if `may_invite`. The token was looked up by the caller; this checks the rest.

    Raises JoinRefused.
    """
    if identity.authority is None or identity.authority_key is None:
        raise JoinRefused("this peer may not invite")
    try:
        key = public_key(join.key)
        key.verify(join.proof, _proven(join.token, identity.peer))
        wanted = None if join.inviter_key is None or not may_invite else public_key(join.inviter_key)
    except (BadKey, InvalidSignature):
        raise JoinRefused("the request does not prove that it holds its key") from None
    authority = None
    if wanted is not None:
        if identity.root_key is None:
            raise JoinRefused("only the network's founder passes the right to invite on")
        authority = issue_authority(identity.root_key, identity.root, wanted, peer_id(key), now)
    leaf = issue_leaf(identity.authority_key, identity.authority, key, now)
    return Joined(root=identity.root, inviter=identity.authority, leaf=leaf, authority=authority)
