"""The examples of SPEC.md, chapter 9: each is what the code writes, and what it reads.

An example is a fenced block `example KIND NAME`: what it is about as lines `field = value`, `---`, its bytes in hexadecimal with comments
after `;`. Values are written as in Python, byte strings as h'00ff', repeated as h'00' * 16. A block `facts NAME` has no bytes of its own:
it gives values that follow from each other, and a test of its own computes them; later blocks may name them as {NAME.field}.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.learning.dataset import Rows
from peer.learning.moments import layout, own_statistics
from protocol import cards, exchange, identity, joining, messages, records, revocations, tasks, tensors, wire
from protocol.connection import Closed, Connection
from protocol.frames import FrameReader, frame, message_frame
from protocol.messages import MESSAGES, CloseCode, Message
from protocol.wire import Structure, WireError

SPEC = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text(encoding="utf-8")

STRUCTURES: dict[str, type[Structure]] = {
    **{m.__name__: m for m in MESSAGES.values()},
    "PeerRecord": records.PeerRecord,
    "RevocationBody": revocations.Revocation,
    "Invite": joining.Invite,
    "Task": tasks.Task,
    "Column": tasks.Column,
}


@dataclass(frozen=True)
class Example:
    kind: str
    name: str
    fields: dict[str, Any]
    data: bytes


# reading them ---------------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {}
"""Values of the blocks of facts read so far, as "keys.root"."""

NAMED = re.compile(r"\{(\w+\.\w+)\}")


def literal(text: str) -> Any:
    """A value as the examples write it."""
    text = NAMED.sub(lambda m: repr(FACTS[m[1]]), text)
    text = re.sub(r"h'([0-9a-f\s]*)'(?: \* (\d+))?", lambda m: repr(bytes.fromhex(m[1]) * int(m[2] or 1)), text)
    return ast.literal_eval(text.strip())


def parse(kind: str, name: str, body: str) -> Example:
    head, _, code = body.partition("---\n")
    # A value goes on over indented lines.
    lines = re.sub(r"\n\s+", " ", head.strip("\n")).splitlines()
    fields = {key.strip(): literal(value) for key, _, value in (line.partition("=") for line in lines)}
    FACTS.update({f"{name}.{key}": value for key, value in fields.items()} if kind == "facts" else {})
    data = NAMED.sub(lambda m: FACTS[m[1]].hex(), "".join(line.partition(";")[0] for line in code.splitlines()))
    return Example(kind, name, fields, bytes.fromhex(data))


EXAMPLES = [parse(*found) for found in re.findall(r"^```example (\w+) (\w+)\n(.*?)^```$", SPEC, re.M | re.S)]


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(e, id=f"{e.name}-{k}") for k, e in enumerate(EXAMPLES) if e.kind == kind]


def facts(name: str) -> dict[str, Any]:
    return next(e.fields for e in EXAMPLES if (e.kind, e.name) == ("facts", name))


def example(name: str) -> Example:
    return next(e for e in EXAMPLES if e.kind in ("frame", "map") and e.name == name)


# frames and structures ------------------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_message_and_none_that_nothing_checks() -> None:
    assert {e.name for e in EXAMPLES if e.kind == "frame"} == {m.__name__ for m in MESSAGES.values()}
    assert {e.kind for e in EXAMPLES} == {"frame", "map", "refused", "closed", "chunk", "payload", "facts"}
    assert {e.name for e in EXAMPLES if e.kind == "facts"} == {
        *("keys", "schema", "exchange", "record", "revocation", "task", "moments", "invite", "join")
    }
    assert len(re.findall(r"^```example", SPEC, re.M)) == len(EXAMPLES)


@pytest.mark.parametrize("found", of_kind("frame"))
def test_a_message_is_sent_and_read_so(found: Example) -> None:
    kind = STRUCTURES[found.name]
    assert issubclass(kind, Message)
    message = kind(**found.fields)
    assert message_frame(message) == found.data
    (read,) = FrameReader().receive(found.data)
    assert read.type == kind.TYPE
    assert messages.decode_message(read.type, read.payload) == message


@pytest.mark.parametrize("found", of_kind("map"))
def test_a_structure_is_written_and_read_so(found: Example) -> None:
    structure = STRUCTURES[found.name]
    value = structure(**found.fields)
    assert value.encode() == found.data
    assert wire.decode(structure, found.data) == value


@pytest.mark.parametrize("found", of_kind("refused"))
def test_refused_bytes_are_refused_by_that_name(found: Example) -> None:
    with pytest.raises(WireError) as caught:
        wire.decode(STRUCTURES[found.fields["structure"]], found.data)
    assert type(caught.value).__name__ == found.name


@pytest.mark.parametrize("found", of_kind("closed"))
def test_a_fault_on_an_open_connection_ends_it_with_that_code(found: Example) -> None:
    hello = messages.Hello((1,), "example", (), bytes(32), bytes(32))
    connection = Connection(True, hello)
    connection.start(0.0)
    connection.receive(message_frame(hello), 0.0)
    events, answer = connection.receive(found.data, 0.0)
    assert [e.code for e in events if isinstance(e, Closed)] == [CloseCode[found.name]]
    assert answer == message_frame(messages.Close(int(CloseCode[found.name])))


# states ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", of_kind("chunk"))
def test_a_chunk_is_a_frame_of_an_xid_and_state(found: Example) -> None:
    (chunk,) = tensors.chunks(found.fields["xid"], found.fields["state"])
    assert frame(messages.CHUNK_TYPE, chunk) == found.data


@pytest.mark.parametrize("found", of_kind("payload"))
def test_a_payload_has_these_values(found: Example) -> None:
    arrays = {name: np.array(value, dtype=np.float64) for name, value in found.fields.items()}
    manifest = tensors.Manifest(tuple(tensors.TensorSpec(name, a.shape) for name, a in arrays.items()))
    read = tensors.decode(manifest, found.data, found.name)
    assert list(read) == list(arrays)
    assert all(np.array_equal(read[n], arrays[n]) for n in arrays)
    # Rounding for int8 is at random; these numbers are whole steps, which it leaves as they are.
    assert tensors.encode(manifest, arrays, found.name, 1) == found.data


def test_the_schema_follows_from_the_arrays() -> None:
    f = facts("schema")
    manifest = tensors.Manifest(tuple(tensors.TensorSpec(name, tuple(shape)) for name, shape in f["arrays"]))
    assert hashlib.sha256(f["hashed"]).digest() == f["schema"] == manifest.digest(f["task"], f["part"])
    assert {e: manifest.size(e) for e in messages.ENCODINGS} == f["sizes"]


def test_the_exchange_moves_both_ends_by_opposite_amounts() -> None:
    f = facts("exchange")
    x_i, x_j, n_i, n_j = np.array(f["x_i"]), np.array(f["x_j"]), f["n_i"], f["n_j"]
    assert hashlib.sha256(x_i.astype("<f8").tobytes()).digest() == f["digest_i"] == example("Propose").fields["digest"]
    assert hashlib.sha256(x_j.astype("<f8").tobytes()).digest() == f["digest_j"] == example("Accept").fields["digest"]
    assert exchange.both(f["digest_i"], f["digest_j"]) == f["both"] == example("Commit").fields["digest"]
    assert (n_j / (n_i + n_j) * (x_j - x_i)).tolist() == f["delta_i"]
    assert (n_i / (n_i + n_j) * (x_i - x_j)).tolist() == f["delta_j"]
    assert (n_i * np.array(f["delta_i"]) + n_j * np.array(f["delta_j"])).tolist() == [0.0, 0.0, 0.0]


# identity -------------------------------------------------------------------------------------------------------------


def network() -> identity.Identity:
    return identity.found_network(*(facts("keys")[k] for k in ("root_seed", "authority_seed", "peer_seed", "now")))


def test_the_keys_and_certificates_follow_from_the_seeds() -> None:
    f, founder = facts("keys"), network()
    assert identity.raw_public_key(founder.key) == f["peer_key"]
    assert f["spki"] == bytes.fromhex("302a300506032b6570032100") + f["peer_key"]
    assert founder.peer == f["peer_id"] == hashlib.sha256(f["spki"]).digest()
    assert identity.key_id(founder.peer) == f["key_id"] == f["peer_id"][:20]
    assert identity.short(founder.peer) == f["short"]
    assert founder.network == f["network"]
    assert founder.tag == f["tag"] == hashlib.sha256(b"chinwag tag" + f["network"]).hexdigest()[:16]
    assert (founder.root, founder.inviter, founder.leaf) == (f["root"], f["authority"], f["leaf"])


def test_the_invite_makes_that_link() -> None:
    f, invite = facts("invite"), example("Invite")
    value = joining.Invite(**invite.fields)
    assert f["check"] == hashlib.sha256(b"chinwag link" + invite.data).digest()[:4]
    assert joining.invite_link(value) == f["link"]
    assert joining.read_link(f["link"].upper()) == value


def test_the_join_proves_its_key_and_is_answered_so() -> None:
    f, join = facts("join"), example("Join").fields
    key = identity.key_from_seed(f["joiner_seed"])
    assert f["signed"] == b"chinwag/1 join\0" + join["token"] + facts("keys")["peer_id"]
    assert identity.raw_public_key(key) == join["key"]
    assert key.sign(f["signed"]) == join["proof"]
    joined = joining.admit(network(), messages.Join(**join), False, facts("keys")["now"])
    assert message_frame(joined) == example("Joined").data
    assert joined.leaf == f["leaf"]


def test_the_record_is_signed_by_its_peer() -> None:
    f, body = facts("record"), example("PeerRecord").data
    key = identity.key_from_seed(facts("keys")["peer_seed"])
    assert f["signed"] == b"chinwag/1 record\0" + body
    assert key.sign(f["signed"]) == f["signature"]
    assert cards.sign_card("record", body, key) == f["card"]
    assert records.open_record(f["card"]) == (facts("keys")["peer_id"], wire.decode(records.PeerRecord, body))
    assert cards.card_id(f["card"]) == f["id"] == hashlib.sha256(body).digest()


def test_the_revocation_is_the_roots_and_makes_that_set() -> None:
    f, body = facts("revocation"), example("RevocationBody").data
    assert cards.sign_card("revocation", body, identity.key_from_seed(facts("keys")["root_seed"])) == f["card"]
    known = revocations.Revocations(facts("keys")["root"])
    assert known.digest() == hashlib.sha256(b"").digest() == example("Hello").fields["revocations"]
    assert known.add(f["card"])
    assert known.digest() == f["digest"] == hashlib.sha256(cards.card_id(f["card"])).digest()


# tasks ----------------------------------------------------------------------------------------------------------------


def test_the_task_has_that_id() -> None:
    f, body = facts("task"), example("Task").data
    assert cards.sign_card("task", body, identity.key_from_seed(facts("keys")["peer_seed"])) == f["card"]
    assert cards.card_id(f["card"]) == f["id"] == hashlib.sha256(body).digest()
    assert hashlib.sha256(f["id"]).digest() == f["tasks"]


def test_the_rows_have_these_moments() -> None:
    f, task = facts("moments"), wire.decode(tasks.Task, example("Task").data)
    X = np.array([[np.nan if v is None else v for v in row] for row in f["rows"]])
    y = np.array([task.target.classes.index(c) for c in f["classes"]])
    found = own_statistics(task, Rows(X, y))
    assert layout(task, "statistics") == tensors.Manifest(tuple(tensors.TensorSpec(n, np.shape(v)) for n, v in f["statistics"].items()))
    assert {n: a.tolist() for n, a in found.items()} == f["statistics"]
