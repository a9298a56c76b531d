"""Fetching a published result: only what was asked for, from whom it was asked, whole and as announced (SPEC 5.7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.exchange import SLOWEST_BYTES_PER_S, Epoch, Subject
from protocol.fetch import ANSWER_S, Fetched, Fetches
from protocol.identity import PeerId
from protocol.messages import Fetch, Refuse, Result
from protocol.tensors import Manifest, TensorSpec, digest, encode

PARTNER, STARTER = PeerId(b"p" * 32), PeerId(b"s" * 32)
SUBJECT = Subject(b"t" * 32, "statistics")
OTHER = Subject(b"t" * 32, "weights")
MANIFEST = Manifest((TensorSpec("v", (4,)), TensorSpec("rows", ())))
ARRAYS: dict[str, Any] = {"v": np.array([1.0, -2.0, 3.5, 0.0]), "rows": np.array(20.0)}
PAYLOAD = encode(MANIFEST, ARRAYS, "f64", None)
XID = b"x" * 16
LINK = 7
RESULT = Result(xid=XID, epoch=3, starter=STARTER, encoding="f64", size=len(PAYLOAD), digest=digest(PAYLOAD))


def asked() -> Fetches:
    fetches = Fetches()
    assert fetches.ask(LINK, PARTNER, SUBJECT, MANIFEST, XID, 0.0) == Fetch(xid=XID, task=SUBJECT.task, part="statistics")
    return fetches


def is_free(fetches: Fetches, now: float = 1.0) -> bool:
    """Whether the subject is no longer being fetched."""
    return fetches.ask(LINK, PARTNER, SUBJECT, MANIFEST, b"y" * 16, now) is not None


def deliver(fetches: Fetches, payload: bytes, size: int = 7, link: int = LINK, xid: bytes = XID) -> list[Fetched]:
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    return [f for piece in pieces if (f := fetches.chunk(link, xid, piece)) is not None]


@pytest.mark.parametrize("size", [1, 7, len(PAYLOAD)])
def test_a_result_arrives_whole_whatever_the_pieces(size: int) -> None:
    fetches = asked()
    fetches.receive(LINK, RESULT)
    (fetched,) = deliver(fetches, PAYLOAD, size)
    assert (fetched.subject, fetched.partner, fetched.epoch) == (SUBJECT, PARTNER, Epoch(3, STARTER))
    assert all(np.array_equal(fetched.arrays[n], ARRAYS[n]) for n in ARRAYS)
    assert is_free(fetches)


def test_a_result_may_come_in_any_encoding() -> None:
    for encoding in ("f32", "f16", "int8"):
        fetches, payload = asked(), encode(MANIFEST, ARRAYS, encoding, 1)
        fetches.receive(LINK, replace(RESULT, encoding=encoding, size=len(payload), digest=digest(payload)))
        assert len(deliver(fetches, payload)) == 1


def test_a_subject_is_fetched_once_at_a_time() -> None:
    fetches = asked()
    assert not is_free(fetches)
    assert fetches.ask(LINK, PARTNER, OTHER, MANIFEST, b"y" * 16, 0.0) is not None


def test_a_refusal_ends_the_fetch() -> None:
    fetches = asked()
    fetches.receive(LINK, Refuse(xid=XID, reason="nothing-yet", retry_ms=2000))
    assert is_free(fetches)
    fetches = asked()
    fetches.receive(LINK, Refuse(xid=b"z" * 16, reason="nothing-yet", retry_ms=2000))
    assert not is_free(fetches)


@pytest.mark.parametrize("size", [0, len(PAYLOAD) - 1, len(PAYLOAD) + 1, 2**40])
def test_a_result_of_another_size_than_the_manifests_ends_the_fetch(size: int) -> None:
    fetches = asked()
    fetches.receive(LINK, replace(RESULT, size=size))
    assert deliver(fetches, PAYLOAD) == []
    assert is_free(fetches)


def test_a_result_with_other_bytes_than_announced_is_dropped() -> None:
    fetches = asked()
    fetches.receive(LINK, RESULT)
    assert deliver(fetches, PAYLOAD[:-1] + b"\x01") == []
    assert is_free(fetches)


def test_a_result_with_values_that_are_no_numbers_is_dropped() -> None:
    fetches, payload = asked(), np.full(5, np.nan).tobytes()
    fetches.receive(LINK, replace(RESULT, digest=digest(payload)))
    assert deliver(fetches, payload) == []
    assert is_free(fetches)


def test_more_bytes_than_announced_end_the_fetch() -> None:
    fetches = asked()
    fetches.receive(LINK, RESULT)
    assert deliver(fetches, PAYLOAD + b"more", size=len(PAYLOAD) + 4) == []
    assert is_free(fetches)


def test_nothing_counts_on_another_link_or_under_another_name() -> None:
    fetches = asked()
    fetches.receive(LINK + 1, RESULT)
    assert deliver(fetches, PAYLOAD) == []
    fetches.receive(LINK, replace(RESULT, xid=b"z" * 16))
    fetches.receive(LINK, RESULT)
    assert deliver(fetches, PAYLOAD, link=LINK + 1) == []
    assert deliver(fetches, PAYLOAD, xid=b"z" * 16) == []
    assert len(deliver(fetches, PAYLOAD)) == 1


def test_chunks_before_the_result_and_a_second_result_count_for_nothing() -> None:
    fetches = asked()
    assert deliver(fetches, PAYLOAD) == []
    fetches.receive(LINK, RESULT)
    fetches.receive(LINK, replace(RESULT, epoch=9))
    assert [f.epoch.number for f in deliver(fetches, PAYLOAD)] == [3]
    assert deliver(fetches, PAYLOAD) == []


def test_a_lost_link_ends_its_fetches_and_no_others() -> None:
    fetches = asked()
    fetches.link_lost(LINK + 1)
    assert not is_free(fetches)
    fetches.link_lost(LINK)
    assert is_free(fetches)


def test_a_fetch_without_an_answer_is_given_up_after_a_minute() -> None:
    assert not is_free(asked(), ANSWER_S - 0.1)
    assert is_free(asked(), ANSWER_S)


def test_a_result_on_its_way_has_the_time_that_its_size_takes_besides() -> None:
    big = Manifest((TensorSpec("v", (8 << 20,)),))
    fetches = Fetches()
    fetches.ask(LINK, PARTNER, SUBJECT, big, XID, 0.0)
    fetches.receive(LINK, replace(RESULT, size=64 << 20))
    slowest = ANSWER_S + (64 << 20) / SLOWEST_BYTES_PER_S
    assert not is_free(fetches, slowest - 1.0)
    assert is_free(fetches, slowest)


@given(
    st.lists(
        st.sampled_from([("result", LINK), ("result", 8), ("other", LINK), ("piece", LINK), ("piece", 8), ("refuse", LINK), ("lost", 8)])
    )
)
def test_in_any_order_there_is_one_result_at_most_and_it_is_the_announced_one(steps: list[tuple[str, int]]) -> None:
    fetches, found, sent = asked(), [], 0
    for what, link in steps:
        match what:
            case "result":
                fetches.receive(link, RESULT)
            case "other":
                fetches.receive(link, replace(RESULT, xid=b"z" * 16))
            case "refuse":
                fetches.receive(link, Refuse(xid=XID, reason="busy", retry_ms=0))
            case "lost":
                fetches.link_lost(link)
            case "piece":
                piece = PAYLOAD[sent : sent + 10]
                sent = (sent + 10) % len(PAYLOAD) if link == LINK else sent
                found += [f for f in [fetches.chunk(link, XID, piece)] if f is not None]
    assert len(found) <= 1
    assert all(np.array_equal(f.arrays["v"], ARRAYS["v"]) for f in found)
