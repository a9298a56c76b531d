"""A peer's keys and certificates on disk: for its owner only, and replaced whole or not at all."""

from __future__ import annotations

import os
import signal
import stat
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peer import files
from peer.config import Home, IdentityDamaged, NoPeerHere, load_identity, save_identity, save_leaf
from protocol.identity import Identity, found_network, issue_leaf, seed_of

NOW = 1_700_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def network_of(seed: int) -> Identity:
    return found_network(*(bytes([seed + n]) * 32 for n in range(3)), NOW)


FOUNDER, STRANGER = network_of(1), network_of(9)


def plain(identity: Identity) -> Any:
    keys = (identity.key, identity.authority_key, identity.root_key)
    return [key and seed_of(key) for key in keys], identity.root, identity.inviter, identity.leaf, identity.authority


MEMBER = replace(FOUNDER, authority=None, authority_key=None, root_key=None)


@pytest.mark.parametrize("identity", [FOUNDER, replace(FOUNDER, root_key=None), MEMBER], ids=["founder", "inviter", "member"])
def test_an_identity_comes_back_as_it_was(home: Home, identity: Identity) -> None:
    save_identity(home, identity)
    assert plain(load_identity(home)) == plain(identity)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_keys_are_for_the_owner_only_and_are_shut_again_if_somebody_opened_them(home: Home) -> None:
    save_identity(home, FOUNDER)
    (home.identity / "key.pem").chmod(0o644)
    load_identity(home)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home.path, *home.path.rglob("*"))}
    names = ("root.pem", "leaf.pem", "key.pem", "authority.pem", "authority.key", "root.key")
    assert modes == {"home": 0o700, "identity": 0o700} | dict.fromkeys(names, 0o600)


def test_a_new_leaf_and_its_authority_replace_the_old_together(home: Home) -> None:
    save_identity(home, FOUNDER)
    assert FOUNDER.authority_key is not None
    leaf = issue_leaf(FOUNDER.authority_key, FOUNDER.inviter, FOUNDER.key.public_key(), NOW + 5000)
    save_leaf(home, leaf, FOUNDER.inviter)
    assert plain(load_identity(home)) == plain(replace(FOUNDER, leaf=leaf))


def test_joining_another_network_replaces_the_identity_whole_and_keeps_the_old_aside(home: Home) -> None:
    save_identity(home, FOUNDER)
    joined = replace(STRANGER, authority=None, authority_key=None, root_key=None)
    save_identity(home, joined)
    assert plain(load_identity(home)) == plain(joined)
    assert (home.path / "identity.old" / "root.key").exists()


DAMAGES = {
    "key.pem": "key.pem does not hold an Ed25519 key without a passphrase.",
    "leaf.pem": "leaf.pem does not hold 2 certificates.",
    "root.pem": "root.pem does not hold a certificate.",
    "root.key": "root.key does not hold an Ed25519 key",
    "authority.pem": "authority.pem does not hold a certificate.",
    "authority.key": "authority.key does not hold an Ed25519 key",
}


@pytest.mark.parametrize(("name", "sentence"), DAMAGES.items())
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"])
def test_a_damaged_file_of_the_identity_is_named(home: Home, name: str, sentence: str, content: bytes) -> None:
    save_identity(home, FOUNDER)
    (home.identity / name).write_bytes(content)
    with pytest.raises(IdentityDamaged, match=r"(does not hold|do not belong together)") as caught:
        load_identity(home)
    assert sentence in str(caught.value) or content.startswith(b"-----")


@pytest.mark.parametrize("name", ["key.pem", "leaf.pem", "root.pem", "authority.key"])
def test_a_missing_file_of_the_identity_is_named(home: Home, name: str) -> None:
    save_identity(home, FOUNDER)
    (home.identity / name).unlink()
    with pytest.raises(IdentityDamaged, match=rf"{name} is missing"):
        load_identity(home)


def test_files_of_two_identities_do_not_pass_for_one(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    save_identity(home, FOUNDER)
    save_identity(other, STRANGER)
    for name in ("key.pem", "leaf.pem", "root.pem", "authority.key", "authority.pem", "root.key"):
        before = (home.identity / name).read_bytes()
        (home.identity / name).write_bytes((other.identity / name).read_bytes())
        with pytest.raises(IdentityDamaged, match="do not belong together"):
            load_identity(home)
        (home.identity / name).write_bytes(before)


@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL")
@pytest.mark.parametrize("before", [None, FOUNDER], ids=["first identity", "another identity"])
def test_a_kill_before_any_single_operation_leaves_one_whole_identity(tmp_path: Path, before: Identity | None) -> None:
    seen = []
    for nth in range(200):
        home = Home(tmp_path / str(nth))
        if before is not None:
            save_identity(home, before)
        is_done = _killed_before(nth, home)
        try:
            found = load_identity(home)
        except NoPeerHere:
            assert before is None
            seen.append("nothing")
        else:
            seen.append("new" if plain(found) == plain(STRANGER) else "old")
            assert plain(found) in [plain(each) for each in (before, STRANGER) if each is not None]
            save_leaf(home, found.leaf, found.inviter)
            assert plain(load_identity(home)) == plain(found)
        if is_done:
            break
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == "new"
    assert len(seen) > 20


def _killed_before(nth: int, home: Home) -> bool:
    """Save the stranger's identity in a child that is killed right before its nth flush, rename or deletion. Whether it lived."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        left = nth

        def counted(function: Any) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        try:
            for name in ("fsync", "replace", "rename", "unlink", "open", "mkdir", "rmdir"):
                setattr(os, name, counted(getattr(os, name)))
            save_identity(home, STRANGER)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "saving failed by itself"
    return status == 0


# files ----------------------------------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_whole(tmp_path / "file", b"old")

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]
