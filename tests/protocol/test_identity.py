"""Keys, certificates, identities: what makes a member, and what passes for one with OpenSSL or with us and must not."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.certificates import CLOCK_SKEW_S, DAY_S, ROOT_DAYS
from protocol.identity import (
    LEAF_DAYS,
    BadCertificate,
    BadKey,
    Identity,
    MemberCertificate,
    found_network,
    issue_authority,
    issue_leaf,
    key_from_seed,
    key_id,
    peer_id,
    public_key,
    raw_public_key,
    renewal_due,
    seed_of,
    short,
    verify_authority,
    verify_chain,
    verify_root,
)

NOW = int(dt.datetime.now(dt.UTC).timestamp())
FOUNDER = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW)
OTHER = found_network(b"R" * 32, b"A" * 32, b"P" * 32, NOW)
KEY = key_from_seed(b"k" * 32)
GOLDEN = ["f75875aeee4a31f2", "1b0fa36059d29c37", "196082da31b9d583"]
assert FOUNDER.authority_key is not None
assert FOUNDER.root_key is not None


def leaf(now: float = NOW, days: int = LEAF_DAYS, key: Ed25519PrivateKey = KEY, by: Identity = FOUNDER) -> bytes:
    assert by.authority_key is not None
    assert by.authority is not None
    return issue_leaf(by.authority_key, by.authority, key.public_key(), now, days)


# keys ------------------------------------------------------------------------------------------------------------------------------------


def test_a_peer_is_the_hash_of_its_public_key() -> None:
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert peer_id(KEY) == peer_id(KEY.public_key()) == hashlib.sha256(spki).digest()


def test_a_key_is_its_seed() -> None:
    assert seed_of(key_from_seed(b"s" * 32)) == b"s" * 32
    assert raw_public_key(public_key(raw_public_key(KEY))) == raw_public_key(KEY)


def test_a_peer_id_is_read_out_as_two_groups_of_four() -> None:
    assert short(bytes(32)) == "AAAA-AAAA"
    assert short(b"\xff" * 32) == "7777-7777"


SMALL = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
"""libsodium's list, in its canonical part."""


@pytest.mark.parametrize(
    "raw",
    [bytes.fromhex(text) for text in SMALL]
    + [(int.from_bytes(bytes.fromhex(text), "little") | 1 << 255).to_bytes(32, "little") for text in SMALL]
    + [(2**255 - 19 + more).to_bytes(32, "little") for more in (0, 1, 2, 18)]
    + [b"", b"k" * 31, b"k" * 33],
    ids=lambda raw: raw.hex()[-8:],
)
def test_points_of_small_order_and_second_encodings_are_no_keys(raw: bytes) -> None:
    with pytest.raises(BadKey):
        public_key(raw)


# making ----------------------------------------------------------------------------------------------------------------------------------


def test_the_same_seeds_and_the_same_second_make_the_same_network() -> None:
    again = found_network(b"r" * 32, b"a" * 32, b"p" * 32, NOW + 0.9)
    assert (again.root, again.authority, again.leaf) == (FOUNDER.root, FOUNDER.authority, FOUNDER.leaf)


def test_the_bytes_of_a_networks_certificates_are_these() -> None:
    made = found_network(b"r" * 32, b"a" * 32, b"p" * 32, 1_767_225_600)
    found = [hashlib.sha256(der).hexdigest()[:16] for der in (made.root, made.inviter, made.leaf)]
    assert found == GOLDEN


def test_a_leaf_tells_who_it_is_for_who_let_them_in_and_until_when() -> None:
    certificate = MemberCertificate.from_der(leaf())
    assert certificate.peer == peer_id(KEY)
    assert certificate.invited_by == FOUNDER.peer
    assert certificate.issuer == key_id(peer_id(FOUNDER.authority_key))  # type: ignore[arg-type]
    assert certificate.not_before == NOW - CLOCK_SKEW_S
    assert certificate.not_after == NOW + LEAF_DAYS * DAY_S
    assert raw_public_key(certificate.public_key) == raw_public_key(KEY)


def test_a_membership_never_outlives_the_right_to_give_it() -> None:
    late = NOW + ROOT_DAYS * DAY_S - 3600
    assert MemberCertificate.from_der(leaf(now=late)).not_after == NOW + ROOT_DAYS * DAY_S


def test_certificates_of_one_issuer_have_different_serial_numbers() -> None:
    made = [leaf(), leaf(now=NOW + 1), leaf(days=1), leaf(key=key_from_seed(b"x" * 32))]
    assert len({x509.load_der_x509_certificate(der).serial_number for der in made}) == len(made)


def test_renewal_is_due_in_the_last_third() -> None:
    certificate = MemberCertificate.from_der(leaf())
    third = (certificate.not_after - certificate.not_before) / 3
    assert not renewal_due(certificate, certificate.not_after - third - 1)
    assert renewal_due(certificate, certificate.not_after - third + 1)


# what OpenSSL says -----------------------------------------------------------------------------------------------------------------------


def context(side: int, root: bytes, key: Any, chain: list[bytes], folder: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=root)
    file = folder / "chain.pem"
    pems = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + b"".join(pems))
    made.load_cert_chain(file)
    return made


def shakes_hands(key: Any, chain: list[bytes], folder: Path) -> bool:
    """Whether the founder, listening or dialling, takes whoever shows this chain for a member."""
    for founder_side, other_side in (
        (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT),
        (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER),
    ):
        one, two = ssl.MemoryBIO(), ssl.MemoryBIO()
        founder = context(founder_side, FOUNDER.root, FOUNDER.key, [FOUNDER.leaf, FOUNDER.inviter], folder)
        other = context(other_side, FOUNDER.root, key, chain, folder)
        ends = [
            founder.wrap_bio(one, two, founder_side == ssl.PROTOCOL_TLS_SERVER),
            other.wrap_bio(two, one, other_side == ssl.PROTOCOL_TLS_SERVER),
        ]
        done = [False, False]
        for _ in range(8):
            for i, end in enumerate(ends):
                try:
                    end.do_handshake()
                    done[i] = True
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    return False
        if not all(done):
            return False
        assert ends[0].getpeercert(True) == chain[0]
    return True


def test_openssl_takes_members_in_strict_mode(tmp_path: Path) -> None:
    assert shakes_hands(KEY, [leaf(), FOUNDER.inviter], tmp_path)


def test_openssl_takes_members_of_different_inviters(tmp_path: Path) -> None:
    second_key, second_authority_key = key_from_seed(b"2" * 32), key_from_seed(b"3" * 32)
    assert FOUNDER.root_key is not None
    authority = issue_authority(FOUNDER.root_key, FOUNDER.root, second_authority_key.public_key(), peer_id(second_key), NOW)
    third = issue_leaf(second_authority_key, authority, KEY.public_key(), NOW)
    assert shakes_hands(KEY, [third, authority], tmp_path)
    assert verify_chain(FOUNDER.root, authority, third, NOW).invited_by == peer_id(second_key)


def test_openssl_refuses_strangers_the_expired_the_early_and_what_no_inviter_signed(tmp_path: Path) -> None:
    assert OTHER.authority is not None
    assert FOUNDER.authority is not None
    assert FOUNDER.authority_key is not None
    stranger = leaf(by=OTHER)
    assert not shakes_hands(KEY, [stranger, OTHER.authority], tmp_path)
    assert not shakes_hands(KEY, [leaf(now=NOW - 5 * DAY_S, days=1), FOUNDER.inviter], tmp_path)
    assert not shakes_hands(KEY, [leaf(now=NOW + 5 * DAY_S), FOUNDER.inviter], tmp_path)
    assert not shakes_hands(KEY, [leaf()], tmp_path)
    assert not shakes_hands(FOUNDER.authority_key, [FOUNDER.authority], tmp_path)
    member = leaf()
    by_a_member = issue_leaf(KEY, member, OTHER.key.public_key(), NOW)
    assert not shakes_hands(OTHER.key, [by_a_member, member, FOUNDER.inviter], tmp_path)


# what we say -----------------------------------------------------------------------------------------------------------------------------


def test_a_chain_is_verified_as_a_whole() -> None:
    assert verify_chain(FOUNDER.root, FOUNDER.inviter, leaf(), NOW).peer == peer_id(KEY)
    assert verify_root(FOUNDER.root, NOW) == FOUNDER.network


@pytest.mark.parametrize(
    "chain",
    [
        (OTHER.root, FOUNDER.inviter, leaf()),
        (FOUNDER.root, OTHER.inviter, leaf()),
        (FOUNDER.root, OTHER.inviter, leaf(by=OTHER)),
        (FOUNDER.root, FOUNDER.inviter, leaf(by=OTHER)),
        (FOUNDER.root, FOUNDER.root, leaf()),
        (FOUNDER.root, FOUNDER.inviter, FOUNDER.inviter),
        (FOUNDER.inviter, FOUNDER.inviter, leaf()),
        (FOUNDER.root, leaf(), leaf()),
        (FOUNDER.root, leaf(), issue_leaf(KEY, leaf(), OTHER.key.public_key(), NOW)),
        (FOUNDER.root, FOUNDER.inviter, b""),
        (FOUNDER.root, FOUNDER.inviter, leaf() + b"\0"),
        (FOUNDER.root, FOUNDER.inviter, b"\x30\x82\xff\xff" + bytes(65535)),
    ],
)
def test_a_chain_with_a_wrong_link_is_refused(chain: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(BadCertificate):
        verify_chain(*chain, NOW)


def test_a_certificate_is_in_force_from_ten_minutes_before_it_is_made_until_its_end() -> None:
    made = leaf(days=1)
    for now in (NOW - CLOCK_SKEW_S, NOW + DAY_S):
        verify_chain(FOUNDER.root, FOUNDER.inviter, made, now)
    for now, says in ((NOW - CLOCK_SKEW_S - 1, "clock"), (NOW + DAY_S + 1, "ended")):
        with pytest.raises(BadCertificate, match=says):
            verify_chain(FOUNDER.root, FOUNDER.inviter, made, now)
    verify_chain(FOUNDER.root, FOUNDER.inviter, made, None)


def forged(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A leaf that the founder's authority did sign, but of another make than ours."""
    public = KEY.public_key()
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    parts: dict[str, Any] = {
        "subject": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer_id(KEY).hex())]),
        "issuer": x509.load_der_x509_certificate(FOUNDER.inviter).subject,
        "public": public,
        "key": FOUNDER.authority_key,
        "hash": None,
        "days": 90,
        "extensions": [
            (x509.BasicConstraints(False, None), True),
            (usage, True),
            (x509.SubjectKeyIdentifier(key_id(peer_id(KEY))), False),
            (x509.AuthorityKeyIdentifier(key_id(peer_id(FOUNDER.authority_key)), None, None), False),  # type: ignore[arg-type]
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        ],
    }
    change(parts)
    begin = dt.datetime.fromtimestamp(NOW - CLOCK_SKEW_S, dt.UTC)
    end = dt.datetime.fromtimestamp(NOW + parts["days"] * DAY_S, dt.UTC)
    builder = x509.CertificateBuilder(parts["issuer"], parts["subject"], parts["public"], 7, begin, end)
    for extension, is_critical in parts["extensions"]:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(parts["key"], parts["hash"]).public_bytes(Encoding.DER)


def test_the_forger_of_these_tests_can_make_a_good_leaf() -> None:
    verify_chain(FOUNDER.root, FOUNDER.inviter, forged(lambda parts: None), NOW)


def other_key(parts: dict[str, Any]) -> None:
    parts["public"] = ec.generate_private_key(ec.SECP256R1()).public_key()


def other_name(parts: dict[str, Any]) -> None:
    parts["subject"] = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, FOUNDER.peer.hex())])


def no_name(parts: dict[str, Any]) -> None:
    parts["subject"] = x509.Name([])


def more_names(parts: dict[str, Any]) -> None:
    parts["subject"] = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x"), *parts["subject"]])


def loud_name(parts: dict[str, Any]) -> None:
    parts["subject"] = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer_id(KEY).hex().upper())])


def long_life(parts: dict[str, Any]) -> None:
    parts["days"] = 91


def one_extension_more(parts: dict[str, Any]) -> None:
    parts["extensions"].append((x509.SubjectAlternativeName([x509.DNSName("x")]), False))


def one_extension_less(parts: dict[str, Any]) -> None:
    del parts["extensions"][-1]


def unknown_critical(parts: dict[str, Any]) -> None:
    parts["extensions"].append((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), True))


def authority(parts: dict[str, Any]) -> None:
    parts["extensions"][0] = (x509.BasicConstraints(True, 0), True)


def critical_turned(parts: dict[str, Any]) -> None:
    parts["extensions"][1] = (parts["extensions"][1][0], False)


def wrong_key_identifier(parts: dict[str, Any]) -> None:
    parts["extensions"][2] = (x509.SubjectKeyIdentifier(b"x" * 20), False)


def another_signer(parts: dict[str, Any]) -> None:
    parts["key"] = KEY


def another_kind_of_signature(parts: dict[str, Any]) -> None:
    parts["key"], parts["hash"] = ec.generate_private_key(ec.SECP256R1()), SHA256()


@pytest.mark.parametrize(
    "change",
    [
        other_key, other_name, no_name, more_names, loud_name, long_life, one_extension_more, one_extension_less, unknown_critical,
        authority, critical_turned, wrong_key_identifier, another_signer, another_kind_of_signature,
    ],
)  # fmt: skip
def test_a_leaf_of_another_make_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(BadCertificate):
        verify_chain(FOUNDER.root, FOUNDER.inviter, forged(change), NOW)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(1, 255))
def test_a_changed_byte_anywhere_makes_a_certificate_worthless_and_breaks_nothing(at: int, value: int) -> None:
    der = bytearray(FOUNDER.leaf)
    der[at % len(der)] ^= value
    with pytest.raises(BadCertificate):
        verify_chain(FOUNDER.root, FOUNDER.inviter, bytes(der), NOW)


def test_what_only_the_parser_knows_to_object_to_is_refused_too() -> None:
    version_3 = bytes.fromhex("a003020102")
    assert version_3 in FOUNDER.leaf
    with pytest.raises(BadCertificate):
        MemberCertificate.from_der(FOUNDER.leaf.replace(version_3, bytes.fromhex("a003020103"), 1))


# identities ------------------------------------------------------------------------------------------------------------------------------


def test_a_founder_may_invite_and_make_inviters() -> None:
    assert FOUNDER.may_invite
    assert FOUNDER.may_make_inviters
    assert FOUNDER.peer == FOUNDER.certificate.peer == peer_id(FOUNDER.key)
    assert len(FOUNDER.tag) == 16
    assert FOUNDER.tag not in FOUNDER.network.hex()
    FOUNDER.verify(NOW)


def test_a_renewed_leaf_is_put_in_place() -> None:
    member = Identity(KEY, FOUNDER.root, FOUNDER.inviter, leaf())
    renewed = replace(member, leaf=leaf(now=NOW + DAY_S), inviter=FOUNDER.inviter)
    assert renewed.certificate.not_after == member.certificate.not_after + DAY_S
    assert (renewed.peer, renewed.network, renewed.may_invite) == (member.peer, member.network, False)


def test_pieces_that_do_not_fit_make_no_identity() -> None:
    good: dict[str, Any] = {"key": KEY, "root": FOUNDER.root, "inviter": FOUNDER.inviter, "leaf": leaf()}
    Identity(**good)
    for wrong in (
        {"key": OTHER.key},
        {"root": OTHER.root},
        {"inviter": OTHER.inviter},
        {"leaf": FOUNDER.leaf},
        {"authority": FOUNDER.authority},
        {"authority_key": FOUNDER.authority_key},
        {"authority": FOUNDER.authority, "authority_key": FOUNDER.authority_key},
        {"root_key": OTHER.root_key},
    ):
        with pytest.raises(BadCertificate):
            Identity(**{**good, **wrong})


def test_an_authority_is_the_holders_own() -> None:
    assert FOUNDER.authority is not None
    assert verify_authority(FOUNDER.root, FOUNDER.authority, NOW).holder == FOUNDER.peer
    with pytest.raises(BadCertificate):
        verify_authority(FOUNDER.root, FOUNDER.leaf, NOW)


def test_an_identity_does_not_print_its_keys() -> None:
    assert "Ed25519" not in repr(FOUNDER)
    assert seed_of(FOUNDER.key).hex() not in repr(FOUNDER)
