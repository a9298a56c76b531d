"""The three certificates of a network: root, authority, leaf (SPEC 6.2).

A network is its root. The root signs authorities (the right to invite), an authority signs leaves (membership). All are plain X.509, so
that TLS itself checks membership and no handshake is of our making. The profile is narrow: Ed25519 everywhere, exactly the extensions
below, and names that carry peer ids. A certificate with anything else in it is not one of ours.

An authority's subject names its holder, and so does the issuer of every leaf it signs. One look at a leaf tells who let that peer in, and
revoking a peer revokes its right to invite with it (`revocations.py`).

No clock and no random source: `now` is an argument and serial numbers are hashes. The same arguments give the same certificate.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .keys import KeyId, PeerId, key_id, peer_id, public_key, raw_public_key
from .wire import WireError

DAY_S: Final = 86_400

LEAF_DAYS: Final = 90
"""Life of a membership. Renewed by any inviter met in its last third, so a peer may be away for a month and come back."""

ROOT_DAYS: Final = 20 * 365
"""Life of a network, and of the right to invite. Nothing renews a root: its end is the network's end, so it lies far away."""

CLOCK_SKEW_S: Final = 600
"""Certificates begin this long before they are made, because a neighbour's clock may be behind."""

MAX_CERTIFICATE_BYTES: Final = 1536
"""Ours are about 500 bytes. Bounded because they arrive inside revocations and messages from others."""

NETWORK: Final = "network"
INVITER: Final = "inviter"


class BadCertificate(WireError):
    """A certificate, or a chain of them, that does not make its holder a member. The text says why."""


@dataclass(frozen=True, slots=True)
class MemberCertificate:
    """A leaf, read: who it names, which authority signed it, and who held that. Reading proves nothing; TLS or `verify_chain` does."""

    peer: PeerId
    issuer: KeyId
    invited_by: PeerId
    not_before: int
    not_after: int
    der: bytes = field(repr=False)

    @classmethod
    def from_der(cls, der: bytes) -> MemberCertificate:
        """Read a leaf. Raises BadCertificate if it is not one of ours."""
        return _member(_read(der))

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that this certificate is for: what a renewal certifies again."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        assert isinstance(key, Ed25519PublicKey)
        return key


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority, read: the right of `holder` to sign leaves with the key whose identifier is `key`."""

    key: KeyId
    holder: PeerId
    not_after: int
    der: bytes = field(repr=False)

    @classmethod
    def from_der(cls, der: bytes) -> Authority:
        """Read an authority. Raises BadCertificate if it is not one of ours."""
        return _authority(_read(der))


def renewal_due(certificate: MemberCertificate, now: float) -> bool:
    """Whether less than a third of the certificate's life is left."""
    return certificate.not_after - now < (certificate.not_after - certificate.not_before) / 3


# making -----------------------------------------------------------------------------------------------------------------------------------


def make_root(root_key: Ed25519PrivateKey, now: float) -> bytes:
    """The certificate of a new network, DER."""
    name = _name(peer_id(root_key), NETWORK)
    return _issue(name, root_key.public_key(), name, root_key, int(now), int(now) + ROOT_DAYS * DAY_S, path_length=1)


def issue_authority(root_key: Ed25519PrivateKey, root_der: bytes, public: Ed25519PublicKey, holder: PeerId, now: float) -> bytes:
    """Give `holder` the right to invite, exercised with the key `public`. DER."""
    root = _read(root_der)
    return _issue(_name(holder, INVITER), public, root.certificate.subject, root_key, int(now), root.end, path_length=0)


def issue_leaf(
    authority_key: Ed25519PrivateKey, authority_der: bytes, public: Ed25519PublicKey, now: float, days: int = LEAF_DAYS
) -> bytes:
    """Make whoever holds `public` a member for `days`, at most 90 and never beyond the authority's own end. DER."""
    assert 0 < days <= LEAF_DAYS
    authority = _read(authority_der)
    until = min(int(now) + days * DAY_S, authority.end)
    return _issue(_name(peer_id(public)), public, authority.certificate.subject, authority_key, int(now), until, path_length=None)


def _name(peer: bytes, role: str | None = None) -> x509.Name:
    unit = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role)] if role else []
    return x509.Name([*unit, x509.NameAttribute(NameOID.COMMON_NAME, peer.hex())])


def _extensions(subject: KeyId, issuer: KeyId, path_length: int | None) -> list[tuple[x509.ExtensionType, bool]]:
    """The extensions of our certificates, and whether each is critical: what `_issue` writes and `_read` demands."""
    is_authority = path_length is not None
    usage = x509.KeyUsage(not is_authority, False, False, False, False, is_authority, is_authority, False, False)
    both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return [
        (x509.BasicConstraints(is_authority, path_length), True),
        (usage, True),
        (x509.SubjectKeyIdentifier(subject), False),
        (x509.AuthorityKeyIdentifier(issuer, None, None), False),
        *([] if is_authority else [(both_ends, False)]),
    ]


def _issue(
    name: x509.Name,
    public: Ed25519PublicKey,
    issuer_name: x509.Name,
    issuer_key: Ed25519PrivateKey,
    now: int,
    until: int,
    path_length: int | None,
) -> bytes:
    """One certificate. `path_length` None makes a leaf; otherwise so many authorities may follow."""
    begin, subject, issuer = now - CLOCK_SKEW_S, key_id(peer_id(public)), key_id(peer_id(issuer_key))
    # The serial numbers of one issuer must differ. A hash of all that tells two certificates apart does, and needs no random source.
    told_apart = subject + issuer + begin.to_bytes(8, "big") + until.to_bytes(8, "big") + name.public_bytes()
    builder = x509.CertificateBuilder(
        issuer_name,
        name,
        public,
        int.from_bytes(hashlib.sha256(b"chinwag serial" + told_apart).digest()[:16], "big"),
        datetime.fromtimestamp(begin, UTC),
        datetime.fromtimestamp(until, UTC),
    )
    for extension, is_critical in _extensions(subject, issuer, path_length):
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(issuer_key, None).public_bytes(Encoding.DER)


# reading ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """A certificate that fits the profile. `key` and `issuer_key` tell its key and its signer's; `name`, `issuer` are (peer id, role)."""

    certificate: x509.Certificate
    der: bytes
    key: PeerId
    issuer_key: KeyId
    path_length: int | None
    name: tuple[PeerId, str | None]
    issuer: tuple[PeerId, str | None]
    begin: int
    end: int


_PARSER_ERRORS: Final = (x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the parser raises besides ValueError (and, in cryptography 45, KeyError). These have no common base but Exception."""


def _read(der: bytes) -> _Read:
    """Everything of it, at once: the parser is lazy, and a fault may sit in any field."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise BadCertificate(f"a certificate of {len(der)} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key, found = certificate.public_key(), certificate.extensions
        if not isinstance(key, Ed25519PublicKey):
            raise BadCertificate("a certificate for another kind of key than Ed25519")
        peer = peer_id(public_key(raw_public_key(key)))
        constraints = found.get_extension_for_class(x509.BasicConstraints).value
        path_length = constraints.path_length if constraints.ca else None
        issuer_key = KeyId(found.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b"")
        name, issuer = _named(certificate.subject), _named(certificate.issuer)
        begin, end = _seconds(certificate.not_valid_before_utc), _seconds(certificate.not_valid_after_utc)
        is_ours = [(e.value, e.critical) for e in found] == _extensions(key_id(peer), issuer_key, path_length)
    except BadCertificate:
        raise
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm, *_PARSER_ERRORS):
        raise BadCertificate("not a certificate of a network's") from None
    if not is_ours:
        raise BadCertificate("a certificate with other fields than a network's")
    return _Read(certificate, der, peer, issuer_key, path_length, name, issuer, begin, end)


def _named(name: x509.Name) -> tuple[PeerId, str | None]:
    """The peer id and the role in a name. Raises ValueError if it holds anything else."""
    values = [str(attribute.value) for attribute in name]
    peer = PeerId(bytes.fromhex(values[-1] if values else ""))
    role = values[0] if len(values) > 1 else None
    if len(peer) != 32 or name != _name(peer, role):
        raise ValueError("not a peer id")
    return peer, role


def _member(read: _Read) -> MemberCertificate:
    if read.path_length is not None or read.name != (read.key, None):
        raise BadCertificate("not a member's certificate")
    if read.end - read.begin > LEAF_DAYS * DAY_S + CLOCK_SKEW_S:
        raise BadCertificate(f"a membership of more than {LEAF_DAYS} days")
    invited_by, role = read.issuer
    if role != INVITER:
        raise BadCertificate("a membership that no inviter gave")
    return MemberCertificate(read.key, read.issuer_key, invited_by, read.begin, read.end, read.der)


def _authority(read: _Read) -> Authority:
    holder, role = read.name
    if read.path_length != 0 or role != INVITER:
        raise BadCertificate("not an inviter's certificate")
    return Authority(key_id(read.key), holder, read.end, read.der)


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


# verifying ------------------------------------------------------------------------------------------------------------------------------


def verify_root(root_der: bytes, now: float | None) -> PeerId:
    """The network this root makes (the hash of its key), if it is one, in force at `now` (None: at any time). Raises BadCertificate."""
    root = _read(root_der)
    if root.path_length != 1 or root.name != (root.key, NETWORK):
        raise BadCertificate("not a network's root certificate")
    _require_issued(root, root)
    _require_in_force(root, now, "the network")
    return root.key


def verify_authority(root_der: bytes, authority_der: bytes, now: float | None) -> Authority:
    """The authority, if the root of this network signed it and both are in force at `now` (None: at any time). Raises BadCertificate."""
    verify_root(root_der, now)
    read = _read(authority_der)
    authority = _authority(read)
    _require_issued(read, _read(root_der))
    _require_in_force(read, now, "the right to invite")
    return authority


def verify_chain(root_der: bytes, inviter_der: bytes, leaf_der: bytes, now: float | None) -> MemberCertificate:
    """The leaf, if it makes its holder a member of this network at `now` (None: at any time). Raises BadCertificate.

    TLS makes the same check of every connection; this one is for certificates that arrive inside messages.
    """
    verify_authority(root_der, inviter_der, now)
    read = _read(leaf_der)
    member = _member(read)
    _require_issued(read, _read(inviter_der))
    _require_in_force(read, now, "the membership")
    return member


def _require_issued(read: _Read, issuer: _Read) -> None:
    if read.issuer_key != key_id(issuer.key):
        raise BadCertificate("a certificate of another issuer")
    try:
        read.certificate.verify_directly_issued_by(issuer.certificate)
    except (ValueError, TypeError, InvalidSignature):
        raise BadCertificate("a certificate of another issuer") from None


def _require_in_force(read: _Read, now: float | None, what: str) -> None:
    if now is not None and now < read.begin:
        raise BadCertificate(f"{what} begins only at {_date(read.begin)}, later than this device's clock; is the clock right?")
    if now is not None and now > read.end:
        raise BadCertificate(f"{what} ended at {_date(read.end)} by this device's clock")


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
