"""The TLS of a network: version 1.3, both sides with a certificate under the network's root, and nothing else.

OpenSSL does all of the checking; what is set here is what it must insist on. Host names are not compared, because peers have none that
lasts: whose key answers is compared with the peer that was meant, in `transport.py`.
"""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from protocol.identity import BadCertificate, Identity, MemberCertificate

ALPN: Final = "chinwag/1"


def listening_context(identity: Identity) -> ssl.SSLContext:
    """For those who dial us. Demands a member's certificate; `open_door` lets it be absent."""
    context = _member_context(ssl.PROTOCOL_TLS_SERVER, identity)
    # Without tickets there is no resumption: every connection proves its membership anew, so a shut door is shut at once.
    context.num_tickets = 0
    return context


def open_door(context: ssl.SSLContext, is_open: bool) -> None:
    """Let handshakes from now on go without a client certificate, or not. One that is offered is checked in full either way."""
    context.verify_mode = ssl.CERT_OPTIONAL if is_open else ssl.CERT_REQUIRED


def dialling_context(identity: Identity) -> ssl.SSLContext:
    """For those whom we dial."""
    return _member_context(ssl.PROTOCOL_TLS_CLIENT, identity)


def stranger_context() -> ssl.SSLContext:
    """For a joiner, who has no certificate and no root yet. Checks nothing: the joiner must compare the key with the one in the invite."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate_of(tls: ssl.SSLObject) -> MemberCertificate | None:
    """Who is at the other end; None if it showed no certificate.

    Raises BadCertificate for one that is not made as ours are, and for another protocol than ours.
    """
    if tls.selected_alpn_protocol() != ALPN:
        raise BadCertificate("the other side speaks another protocol")
    der = tls.getpeercert(True)
    return None if der is None else MemberCertificate.from_der(der)


def _context(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.set_alpn_protocols([ALPN])
    return context


def _member_context(side: int, identity: Identity) -> ssl.SSLContext:
    context = _context(side)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=identity.root)
    _load(context, identity)
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """Put the key and the chain into the context. `ssl` takes them from a file only: ours is private, locked with a password that exists in
    this call alone, and gone when the call returns. A crash in between leaves a file that nobody can use."""
    password = secrets.token_hex(16)
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    chain = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in (identity.leaf, identity.inviter)]
    number, path = tempfile.mkstemp(prefix="chinwag-", suffix=".pem")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(b"".join((key, *chain)))
        context.load_cert_chain(path, password=password)
    finally:
        os.unlink(path)
