"""Where a peer lives and what its owner has set: the folder, `config.toml`, and the keys and certificates in `identity/`.

Every setting is declared once, in the tables below; reading, checking, the sentences about mistakes and the comments in a new file are all
made from them. A misspelt key is an error that names the key that was meant: a misspelt limit must not silently become no limit.

An identity is replaced whole, by renaming a folder, and a new leaf together with the authority that signed it, in one file: no crash leaves
a peer with the leaf of one network and the root of another.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from protocol.wire import Text, WireError

from . import toml
from .files import private_folder, shut, sync_folder, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from protocol.identity import Identity

DEFAULT_PORT: Final = 8786
"""Where peers dial when nothing else is said. Above 1023, so it needs no rights."""

INIT: Final = "chinwag init"


class ConfigError(Exception):
    """What the owner has set, or the folder it lies in, cannot be used: one sentence that says what and where, and what to type next."""

    exit: Final = 2

    def __init__(self, sentence: str, next: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.next = next


class NoPeerHere(ConfigError):
    """The folder holds no peer yet."""


class IdentityDamaged(ConfigError):
    """A key or a certificate cannot be read, or they do not belong together."""


# the folder -------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one peer, and where things lie in it."""

    path: Path

    @classmethod
    def find(cls, chosen: Path | str | None = None) -> Home:
        """The folder that was asked for (--home), else $CHINWAG_HOME, else the user's data folder."""
        if named := chosen or os.environ.get("CHINWAG_HOME"):
            return cls(Path(named).expanduser().absolute())
        import platformdirs

        return cls(platformdirs.user_data_path("chinwag", appauthor=False))

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def identity(self) -> Path:
        return self.path / "identity"

    @property
    def database(self) -> Path:
        return self.path / "state.db"

    @property
    def tensors(self) -> Path:
        return self.path / "tensors"

    @property
    def control(self) -> Path:
        return self.path / "control.json"


# the settings -----------------------------------------------------------------------------------------------------------------------------


class PeerTable(toml.Table, frozen=True):
    """[peer]"""

    name: Annotated[str, Meta(description="what the others call this device")]
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port that peers dial; 0 takes any free one")] = DEFAULT_PORT
    discovery: Annotated[tuple[Literal["mdns", "static"], ...], Meta(description="how neighbours are found")] = ("mdns", "static")
    static: Annotated[tuple[str, ...], Meta(description='peers to dial without being told of them: "host:port"')] = ()
    interfaces: Annotated[Literal["auto"] | tuple[str, ...], Meta(description='"auto", or a list of network interfaces')] = "auto"
    lost_after_s: Annotated[float, Meta(ge=1, le=86_400, description="seconds of silence after which a peer is shown as lost")] = 60.0
    period_s: Annotated[float, Meta(ge=0.01, le=3600, description="seconds from one exchange to the next")] = 0.25

    def __post_init__(self) -> None:
        try:
            Text(64).check(self.name, "name")
        except WireError as error:
            raise ValueError(str(error)) from None


class RowsTable(toml.Table, frozen=True):
    """[rows]: what a task gets when nothing else is said for it."""

    source: Annotated[str | None, Meta(description="file with this device's rows")] = None
    target: Annotated[str | None, Meta(description="the column that is predicted")] = None


class TaskTable(toml.Table, frozen=True):
    """[task."name"]: this device's rows for one task. `map` goes from the task's column to the file's."""

    source: Annotated[str | None, Meta(description="file with the rows, if not that of [rows]")] = None
    map: Annotated[dict[str, str], Meta(description='columns that the file calls otherwise: { "theirs" = "ours" }')] = msgspec.field(
        default_factory=dict
    )
    test: Annotated[str | None, Meta(description="file of rows to score on, never trained on")] = None
    holdout: Annotated[float, Meta(ge=0, lt=1, description="share of the rows kept back to score on")] = 0.2


class ControlTable(toml.Table, frozen=True):
    """[control]: the commands' own door, on loopback only."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port on 127.0.0.1; 0 takes any free one")] = 0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All of `config.toml`."""

    peer: PeerTable
    rows: RowsTable = RowsTable()
    tasks: dict[str, TaskTable] = msgspec.field(default_factory=dict)
    control: ControlTable = ControlTable()


TABLES: Final = ("peer", "rows", "task", "control")


def load_config(home: Home) -> Config:
    """What the owner has set. Raises ConfigError with one sentence that names the file, the line and the key."""
    try:
        text = home.config.read_bytes().decode()
    except FileNotFoundError:
        raise NoPeerHere(f"There is no peer in {home.path} yet.", INIT) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{home.config} is not text in UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{home.config} cannot be read: {error.strerror}.") from None
    try:
        return _config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        hint = r" Put a path with \ in it between 'single quotes'." if "\\" in text else ""
        raise ConfigError(f"{home.config} is not valid TOML: {error}.{hint}") from None
    except toml.Mistake as mistake:
        line = toml.line_of(text, mistake.path, mistake.key)
        raise ConfigError(f"{home.config}{f', line {line}' if line else ''}: {mistake}") from None


def save_config(home: Home, config: Config) -> None:
    """Write `config.toml`. A table that says already what it should is left as it stands, with the owner's comments."""
    private_folder(home.path)
    tables: dict[toml.Path, toml.Table] = {("peer",): config.peer, ("rows",): config.rows, ("control",): config.control}
    tables |= {("task", name): table for name, table in config.tasks.items()}
    try:
        text = toml.edited(home.config.read_bytes().decode(), tables)
        is_right = _config(tomllib.loads(text)) == config
    except (OSError, ValueError, KeyError, toml.Mistake):
        is_right = False
    write_whole(home.config, (text if is_right else toml.written(tables)).encode())


def _config(found: Mapping[str, Any]) -> Config:
    for name in found:
        if name not in TABLES:
            raise toml.Mistake((), name, f"there is no [{name}].{toml.meant(name, TABLES)}")
    tasks = found.get("task", {})
    if not isinstance(tasks, dict):
        raise toml.Mistake((), "task", 'task: every task has a table of its own: [task."name"].')
    return Config(
        peer=toml.table(("peer",), found.get("peer", {}), PeerTable),
        rows=toml.table(("rows",), found.get("rows", {}), RowsTable),
        tasks={name: toml.table(("task", name), table, TaskTable) for name, table in tasks.items()},
        control=toml.table(("control",), found.get("control", {}), ControlTable),
    )


# the identity -----------------------------------------------------------------------------------------------------------------------------

ROOT: Final = "root.pem"
LEAF: Final = "leaf.pem"
"""The leaf, and after it the authority that signed it, as TLS presents them. One file, because one is no use without the other."""

KEY: Final = "key.pem"
AUTHORITY: Final = "authority.pem"
AUTHORITY_KEY: Final = "authority.key"
ROOT_KEY: Final = "root.key"


def save_identity(home: Home, identity: Identity) -> None:
    """Make this the peer's identity, whole or not at all. The one before, if any, is kept as `identity.old`. Raises OSError."""
    private_folder(home.path)
    _put_in_place(home)
    building = home.path / "identity.tmp"
    shutil.rmtree(building, ignore_errors=True)
    private_folder(building)
    files = {ROOT: _certificates(identity.root), LEAF: _certificates(identity.leaf, identity.inviter), KEY: _key(identity.key)}
    if identity.authority is not None and identity.authority_key is not None:
        files |= {AUTHORITY: _certificates(identity.authority), AUTHORITY_KEY: _key(identity.authority_key)}
    if identity.root_key is not None:
        files |= {ROOT_KEY: _key(identity.root_key)}
    for name, content in files.items():
        write_whole(building / name, content)
    os.rename(building, _new(home))
    sync_folder(home.path)
    _put_in_place(home)


def save_leaf(home: Home, leaf: bytes, inviter: bytes) -> None:
    """Replace the leaf and the authority that signed it (both DER). Raises OSError, and then the old ones are still there."""
    _put_in_place(home)
    write_whole(home.identity / LEAF, _certificates(leaf, inviter))


def load_identity(home: Home) -> Identity:
    """The peer's keys and certificates. Raises NoPeerHere or IdentityDamaged; whether the certificates are in force is not looked at."""
    from protocol.identity import BadCertificate, Identity

    folder = _new(home) if _new(home).is_dir() else home.identity
    if not folder.is_dir():
        raise NoPeerHere(f"There is no peer in {home.path} yet.", INIT)
    [root], [leaf, inviter] = _read_certificates(folder / ROOT, 1), _read_certificates(folder / LEAF, 2)
    authority = _read_certificates(folder / AUTHORITY, 1)[0] if (folder / AUTHORITY).exists() else None
    authority_key = _read_key(folder / AUTHORITY_KEY) if authority is not None else None
    root_key = _read_key(folder / ROOT_KEY) if (folder / ROOT_KEY).exists() else None
    try:
        return Identity(_read_key(folder / KEY), root, inviter, leaf, authority_key, authority, root_key)
    except BadCertificate as error:
        raise _damaged(f"The files in {folder} do not belong together: {error}.") from None


def _new(home: Home) -> Path:
    """A whole identity on its way to its place. While it exists it is the one that counts."""
    return home.path / "identity.new"


def _put_in_place(home: Home) -> None:
    """The second half of replacing an identity; done again after a crash in the middle of it."""
    if not _new(home).is_dir():
        return
    if home.identity.exists():
        shutil.rmtree(home.path / "identity.old", ignore_errors=True)
        os.rename(home.identity, home.path / "identity.old")
    os.rename(_new(home), home.identity)
    sync_folder(home.path)


def _certificates(*ders: bytes) -> bytes:
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in ders).encode()


def _key(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _read_certificates(path: Path, count: int) -> list[bytes]:
    blocks = _read(path).split(ssl.PEM_FOOTER)[:-1]
    try:
        found = [ssl.PEM_cert_to_DER_cert(block.strip() + "\n" + ssl.PEM_FOOTER) for block in blocks]
    except ValueError:
        found = []
    if len(found) != count:
        raise _damaged(f"{path} does not hold {'a certificate' if count == 1 else f'{count} certificates'}.")
    return found


def _read_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(f"{path} does not hold an Ed25519 key without a passphrase.")
    shut(path, 0o600)
    return key


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", errors="replace")
    except FileNotFoundError:
        raise _damaged(f"{path} is missing.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def _damaged(sentence: str) -> IdentityDamaged:
    return IdentityDamaged(sentence, "put the file back from a copy, or take a new identity: chinwag join LINK")
