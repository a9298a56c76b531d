"""Who a peer is: its key, and the certificates that make that key a member of one network (SPEC 6).

The face of `keys.py` (keys and the names made of them) and of `certificates.py` (root, authority, leaf): the program imports from here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .certificates import (
    LEAF_DAYS,
    Authority,
    BadCertificate,
    MemberCertificate,
    issue_authority,
    issue_leaf,
    make_root,
    renewal_due,
    verify_authority,
    verify_chain,
    verify_root,
)
from .keys import BadKey, KeyId, PeerId, key_from_seed, key_id, peer_id, public_key, raw_public_key, seed_of, short

__all__ = [
    "LEAF_DAYS",
    "Authority",
    "BadCertificate",
    "BadKey",
    "Identity",
    "KeyId",
    "MemberCertificate",
    "PeerId",
    "found_network",
    "issue_authority",
    "issue_leaf",
    "key_from_seed",
    "key_id",
    "make_root",
    "peer_id",
    "public_key",
    "raw_public_key",
    "renewal_due",
    "seed_of",
    "short",
    "verify_authority",
    "verify_chain",
    "verify_root",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer's keys and certificates. The pieces fit each other, or there is no Identity; whether they are in force is `verify`'s question.

    root, inviter, leaf: DER; `inviter` is the authority that signed `leaf`. Who may invite also holds an authority of its own and its key;
    a network's founder also the root's key. A renewed leaf is put in with `dataclasses.replace(identity, leaf=…, inviter=…)`.
    """

    key: Ed25519PrivateKey = field(repr=False)
    root: bytes = field(repr=False)
    inviter: bytes = field(repr=False)
    leaf: bytes = field(repr=False)
    authority_key: Ed25519PrivateKey | None = field(default=None, repr=False)
    authority: bytes | None = field(default=None, repr=False)
    root_key: Ed25519PrivateKey | None = field(default=None, repr=False)
    peer: PeerId = field(init=False, repr=False)
    network: bytes = field(init=False, repr=False)
    certificate: MemberCertificate = field(init=False)

    def __post_init__(self) -> None:
        network = verify_root(self.root, None)
        certificate = verify_chain(self.root, self.inviter, self.leaf, None)
        if certificate.peer != peer_id(self.key):
            raise BadCertificate("the membership is for another key than this peer's")
        if (self.authority is None) != (self.authority_key is None):
            raise BadCertificate("the right to invite needs both its key and its certificate")
        if self.authority is not None and self.authority_key is not None:
            authority = verify_authority(self.root, self.authority, None)
            if authority.key != key_id(peer_id(self.authority_key)) or authority.holder != certificate.peer:
                raise BadCertificate("the right to invite is for another key than this peer's")
        if self.root_key is not None and peer_id(self.root_key) != network:
            raise BadCertificate("the root key is of another network")
        object.__setattr__(self, "peer", certificate.peer)
        object.__setattr__(self, "network", bytes(network))
        object.__setattr__(self, "certificate", certificate)

    @property
    def tag(self) -> str:
        """16 hexadecimal digits that members recognise and that do not give the network away; announced over mDNS."""
        return hashlib.sha256(b"chinwag tag" + self.network).hexdigest()[:16]

    @property
    def may_invite(self) -> bool:
        return self.authority_key is not None

    @property
    def may_make_inviters(self) -> bool:
        """Only the root signs authorities, so only the founder hands the right to invite on."""
        return self.root_key is not None

    def verify(self, now: float) -> None:
        """Raise BadCertificate unless this identity makes its peer a member at `now`."""
        verify_chain(self.root, self.inviter, self.leaf, now)


def found_network(root_seed: bytes, authority_seed: bytes, peer_seed: bytes, now: float) -> Identity:
    """A network of one, from three random seeds of 32 bytes."""
    root_key, authority_key, key = key_from_seed(root_seed), key_from_seed(authority_seed), key_from_seed(peer_seed)
    root = make_root(root_key, now)
    authority = issue_authority(root_key, root, authority_key.public_key(), peer_id(key), now)
    leaf = issue_leaf(authority_key, authority, key.public_key(), now)
    return Identity(key, root, authority, leaf, authority_key, authority, root_key)
