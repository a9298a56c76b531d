"""The task card: what it may say, and what it may not (SPEC 7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cards import card_id, open_card, sign_card
from protocol.identity import key_from_seed, peer_id
from protocol.tasks import MAX_CLASSES, MAX_COLUMNS, MODELS, Column, Target, Task, Thresholds
from protocol.wire import NotFinite, OutOfBounds, UnknownKey, WireError, WrongType, decode

KEY = key_from_seed(b"k" * 32)
COLUMNS = (Column("length", False, "cm", 0.0, 200.0), Column("width", True))
SPECIES = Target("species", ("a", "b"))


def task(**changes: Any) -> Task:
    """A valid card with these fields changed."""
    fields: dict[str, Any] = {
        "name": "iris",
        "about": "",
        "columns": COLUMNS,
        "target": SPECIES,
        "model": "lda",
        "alpha": 0.0,
        "protocol": "gossip",
        "encoding": "int8",
        "privacy": "open",
        "thresholds": Thresholds(20, 2),
        "network": b"n" * 32,
        "author": peer_id(KEY),
        "created": 1_750_000_000,
    }
    return Task(**{**fields, **changes})


@pytest.mark.parametrize("model", MODELS)
def test_a_card_of_every_model_comes_back_as_it_went(model: str) -> None:
    target = SPECIES if model != "ridge" else Target("price", ())
    card = task(model=model, target=target, ends=1_800_000_000, alpha=0.5)
    assert decode(Task, card.encode()) == card
    assert card.parts == (("statistics", "weights") if model == "logistic" else ("statistics",))


def test_a_task_is_known_by_the_hash_of_its_body_and_signed_by_its_author() -> None:
    card = sign_card("task", task().encode(), KEY)
    author, body = open_card("task", card)
    assert (author, decode(Task, body)) == (task().author, task())
    assert card_id(card) != card_id(sign_card("task", task(about="x").encode(), KEY))


WRONG: dict[str, dict[str, Any]] = {
    "no columns": {"columns": ()},
    "too many columns": {"columns": tuple(Column(f"c{k}", False) for k in range(MAX_COLUMNS + 1))},
    "a column named twice": {"columns": (Column("length", False), Column("length", True))},
    "a column named as the target": {"columns": (Column("species", False),)},
    "a class named twice": {"target": Target("species", ("a", "b", "a"))},
    "one class": {"target": Target("species", ("a",))},
    "a classifier without classes": {"target": Target("species", ())},
    "a regression with classes": {"model": "ridge"},
    "a model nobody knows": {"model": "forest"},
    "a protocol nobody knows": {"protocol": "server"},
    "an encoding weights do not travel in": {"encoding": "f16"},
    "statistics in f64 are not the card's to choose": {"encoding": "f64"},
    "a privacy nobody knows": {"privacy": "secret"},
    "a negative penalty": {"alpha": -0.1},
    "no name": {"name": ""},
    "a long name": {"name": "x" * 65},
    "a name with a line break": {"name": "a\nb"},
    "a long description": {"about": "x" * 513},
    "a short network": {"network": b"n" * 31},
    "a long author": {"author": b"a" * 33},
    "a date beyond the calendar": {"created": 2**40 + 1},
    "an end beyond the calendar": {"ends": 2**40 + 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_out_of_bounds(name: str) -> None:
    with pytest.raises(OutOfBounds):
        task(**WRONG[name])


def test_a_penalty_is_a_finite_float() -> None:
    with pytest.raises(NotFinite):
        task(alpha=float("nan"))
    with pytest.raises(WrongType):
        task(alpha=1)


def test_a_range_is_not_empty_and_may_be_half_open() -> None:
    assert Column("x", False, low=1.0).high is None
    assert Column("x", False, high=1.0).low is None
    for low, high in ((1.0, 1.0), (2.0, 1.0), (0.0, 5e-324)):
        with pytest.raises(OutOfBounds):
            Column("x", False, low=low, high=high)


def test_a_class_has_a_name() -> None:
    with pytest.raises(OutOfBounds):
        Target("species", ("a", ""))
    with pytest.raises(OutOfBounds):
        Target("species", tuple(f"k{k}" for k in range(MAX_CLASSES + 1)))


@pytest.mark.parametrize("thresholds", [(0, 1), (1, 0), (2**40 + 1, 1), (1, 2**20 + 1)])
def test_a_threshold_is_at_least_1(thresholds: tuple[int, int]) -> None:
    with pytest.raises(OutOfBounds):
        Thresholds(*thresholds)


def test_nobody_adds_a_field_to_a_card() -> None:
    encoded = task().encode()
    with pytest.raises(UnknownKey):
        decode(Task, bytes((encoded[0] + 1,)) + encoded[1:] + b"\xa4more\x01")


def test_the_largest_cards_of_everyday_names_fit() -> None:
    columns = tuple(Column(f"column {k:04d}", True, "mg/dl") for k in range(MAX_COLUMNS))
    card = sign_card("task", task(columns=columns).encode(), KEY)
    assert decode(Task, open_card("task", card)[1]).columns == columns


def test_a_card_too_large_to_travel_cannot_be_signed() -> None:
    columns = tuple(Column(f"{k:0128d}", True) for k in range(MAX_COLUMNS))
    with pytest.raises(OutOfBounds):
        sign_card("task", task(columns=columns).encode(), KEY)


@given(st.data())
def test_a_changed_card_is_another_task_or_none(data: st.DataObject) -> None:
    encoded = bytearray(task().encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        assert decode(Task, bytes(encoded)) != task()
    except WireError:
        pass
