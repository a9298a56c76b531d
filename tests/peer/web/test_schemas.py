"""Request bodies: what is taken, and the sentence when it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from peer.control import ControlError, Exit
from peer.web.schemas import Acceptance, Departure, NewTask, read_body
from protocol.wire import WireError

TASK = {
    "name": "pumps",
    "columns": [{"name": "temp", "unit": "°C"}, {"name": "rpm"}],
    "target": {"name": "fault", "classes": ["no", "yes"]},
    "model": "lda",
}


def read_task(**changes: Any) -> NewTask:
    return read_body(NewTask, json.dumps(TASK | changes).encode())


def test_a_task_becomes_a_card() -> None:
    card = read_task(alpha=1).card(b"n" * 32, b"a" * 32, 1000)
    assert card.name == "pumps"
    assert card.columns[0].unit == "°C"
    assert card.columns[1].unit is None
    assert card.target.classes == ("no", "yes")
    assert card.alpha == 1.0
    assert card.thresholds.min_rows == 20
    assert (card.network, card.author, card.created) == (b"n" * 32, b"a" * 32, 1000)


def test_text_from_a_keyboard_is_put_into_the_one_form_of_the_wire() -> None:
    assert read_task(name="Ku\u0308che").card(b"n" * 32, b"a" * 32, 0).name == "K\u00fcche"


def test_a_misspelt_field_is_named_together_with_the_one_that_was_meant() -> None:
    with pytest.raises(ControlError) as caught:
        read_task(thresholds={"min_row": 3})
    assert caught.value.exit == Exit.USAGE
    assert "'min_row'" in caught.value.sentence
    assert "did you mean 'min_rows'?" in caught.value.sentence
    with pytest.raises(ControlError, match="there are: erase"):
        read_body(Departure, b'{"zzz": true}')


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"erase": 1}', b"\xff", b"null", b'{"erase": true} x'])
def test_what_is_not_the_body_is_refused_in_one_sentence(body: bytes) -> None:
    with pytest.raises(ControlError) as caught:
        read_body(Departure, body)
    assert caught.value.exit == Exit.USAGE
    assert "\n" not in caught.value.sentence


def test_no_bytes_are_an_empty_body() -> None:
    assert read_body(Acceptance, b"") == Acceptance()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": "gpt"}, "model"),
        ({"columns": []}, "columns"),
        ({"name": ""}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"target": {"name": "temp", "classes": ["a", "b"]}}, "twice"),
        ({"model": "ridge"}, "classes"),
        ({"alpha": -1}, "alpha"),
        ({"ends": 1000}, "ends"),
        ({"columns": [{"name": "x", "low": 2, "high": 1}]}, "range"),
    ],
)
def test_a_card_that_cannot_be_says_which_field_is_wrong(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(WireError, match=word):
        read_task(**changes).card(b"n" * 32, b"a" * 32, 1000)
