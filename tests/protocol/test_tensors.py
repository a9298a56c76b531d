"""Arrays as bytes: exact sizes, finite values, rounding without bias, the same numbers at both ends (SPEC 5.3)."""

from __future__ import annotations

import hashlib
import math
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import ENCODINGS, MAX_PAYLOAD_BYTES
from protocol.tensors import (
    MAX_CHUNK_BYTES,
    MAX_DIMENSIONS,
    MAX_F16,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Assembly,
    BadManifest,
    BadScale,
    BadTensor,
    Manifest,
    NotFiniteValue,
    TensorSpec,
    WrongSize,
    chunks,
    decode,
    digest,
    encode,
)

XID = b"x" * 16
ONE = Manifest((TensorSpec("v", (3,)),))
TWO = Manifest((TensorSpec("w", (2, 2)), TensorSpec("n", ())))

values = st.floats(-6e4, 6e4)
manifests = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=4).map(
    lambda shapes: Manifest(tuple(TensorSpec(f"t{k}", shape) for k, shape in enumerate(shapes)))
)


def of(*numbers: float) -> dict[str, Any]:
    return {"v": np.array(numbers)}


def int8(scale: float, *steps: int) -> bytes:
    return struct.pack("<f", scale) + struct.pack(f"{len(steps)}b", *steps)


@st.composite
def states(draw: st.DrawFn) -> tuple[Manifest, dict[str, Any]]:
    manifest = draw(manifests)
    return manifest, {
        s.name: np.array(draw(st.lists(values, min_size=s.count, max_size=s.count))).reshape(s.shape) for s in manifest.tensors
    }


# manifests ------------------------------------------------------------------------------------------------------------


def specs(count: int) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"t{k}", (1,)) for k in range(count))


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param((), id="none"),
        pytest.param(specs(MAX_TENSORS + 1), id="too many"),
        pytest.param((TensorSpec("a", ()), TensorSpec("a", (2,))), id="a name twice"),
        pytest.param((TensorSpec("", ()),), id="no name"),
        pytest.param((TensorSpec("a" * (MAX_NAME_BYTES + 1), ()),), id="a long name"),
        pytest.param((TensorSpec("a\n", ()),), id="a control character"),
        pytest.param((TensorSpec("é", ()),), id="not ASCII"),
        pytest.param((TensorSpec("a", (1,) * (MAX_DIMENSIONS + 1)),), id="too many dimensions"),
        pytest.param((TensorSpec("a", (0,)),), id="an empty dimension"),
        pytest.param((TensorSpec("a", (0, 2**40)),), id="an empty dimension beside a huge one"),
        pytest.param((TensorSpec("a", (-1,)),), id="a negative dimension"),
        pytest.param((TensorSpec("a", (True,)),), id="a boolean dimension"),
        pytest.param((TensorSpec("a", (2**32, 2**32)),), id="a product that is 0 modulo 2^64"),
        pytest.param((TensorSpec("a", (2**62, 4, 2**62, 4)),), id="a product that is 0 modulo 2^128"),
        pytest.param((TensorSpec("a", (MAX_PAYLOAD_BYTES // 8 + 1,)),), id="too large"),
        pytest.param((TensorSpec("a", (MAX_PAYLOAD_BYTES // 8,)), TensorSpec("b", ())), id="too large together"),
    ],
)
def test_a_manifest_outside_the_limits_is_refused(tensors: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(BadManifest):
        Manifest(tensors)


def test_a_manifest_at_the_limits_is_taken() -> None:
    assert Manifest(specs(MAX_TENSORS)).size("int8") == 5 * MAX_TENSORS
    assert Manifest((TensorSpec("a" * MAX_NAME_BYTES, (1,) * MAX_DIMENSIONS),)).size("f64") == 8
    assert Manifest((TensorSpec("a", (MAX_PAYLOAD_BYTES // 8,)),)).size("f64") == MAX_PAYLOAD_BYTES


def test_the_schema_digest_tells_task_part_names_order_and_shapes_apart() -> None:
    def schema(*tensors: TensorSpec, task: bytes = bytes(32), part: str = "weights") -> bytes:
        return Manifest(tensors).digest(task, part)

    a, b = TensorSpec("a", (2, 3)), TensorSpec("b", ())
    found = [
        schema(a, b),
        schema(b, a),
        schema(a),
        schema(a, TensorSpec("c", ())),
        schema(TensorSpec("a", (3, 2)), b),
        schema(TensorSpec("a", (6,)), b),
        schema(a, TensorSpec("b", (1,))),
        schema(a, b, part="statistics"),
        schema(a, b, task=b"\1" * 32),
    ]
    assert len(set(found)) == len(found)
    assert schema(a, b) == schema(TensorSpec("a", (2, 3)), TensorSpec("b", ()))


# what is sent and read ------------------------------------------------------------------------------------------------


@given(states())
def test_f64_comes_back_bit_by_bit(state: tuple[Manifest, dict[str, Any]]) -> None:
    manifest, arrays = state
    found = decode(manifest, encode(manifest, arrays, "f64", None), "f64")
    assert list(found) == [s.name for s in manifest.tensors]
    assert all(found[n].tobytes() == arrays[n].tobytes() and found[n].shape == arrays[n].shape for n in arrays)


@given(states(), st.sampled_from(ENCODINGS), st.integers(0, 2**63))
def test_each_encoding_has_its_size_its_precision_and_float64_in_memory(
    state: tuple[Manifest, dict[str, Any]], encoding: str, seed: int
) -> None:
    manifest, arrays = state
    payload = encode(manifest, arrays, encoding, seed)
    assert len(payload) == manifest.size(encoding)
    for name, found in decode(manifest, payload, encoding).items():
        assert found.dtype == np.float64
        largest = float(np.max(np.abs(arrays[name])))
        step = {"f64": 0.0, "f32": largest * 2**-24 + 1e-45, "f16": largest * 2**-11 + 2**-25, "int8": largest / 127 * 1.0001 + 1e-44}[
            encoding
        ]
        assert np.all(np.abs(found - arrays[name]) <= step)


@given(states(), st.sampled_from(("f64", "f32", "f16")))
def test_what_has_travelled_once_travels_again_unchanged(state: tuple[Manifest, dict[str, Any]], encoding: str) -> None:
    manifest, arrays = state
    payload = encode(manifest, arrays, encoding, None)
    assert encode(manifest, decode(manifest, payload, encoding), encoding, None) == payload


@given(st.sampled_from(ENCODINGS), st.binary(max_size=40))
def test_arbitrary_bytes_are_refused_or_are_finite_numbers(encoding: str, data: bytes) -> None:
    payload = data[: TWO.size(encoding)]
    try:
        found = decode(TWO, payload, encoding)
    except BadTensor:
        return
    assert len(payload) == TWO.size(encoding)
    assert all(np.isfinite(a).all() for a in found.values())


def test_the_bytes_are_little_endian_in_c_order_in_the_order_of_the_manifest() -> None:
    arrays = {"n": np.array(5.0), "w": np.array([[1.0, 2.0], [3.0, -4.0]])}
    assert encode(TWO, arrays, "f32", None) == struct.pack("<5f", 1, 2, 3, -4, 5)
    assert encode(TWO, arrays, "f16", None) == struct.pack("<5e", 1, 2, 3, -4, 5)
    assert encode(TWO, {**arrays, "w": np.asfortranarray(arrays["w"])}, "f64", None) == struct.pack("<5d", 1, 2, 3, -4, 5)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_byte_less_or_more_is_refused(encoding: str) -> None:
    payload = encode(TWO, {"n": np.array(5.0), "w": np.ones((2, 2))}, encoding, 1)
    for wrong in (payload[:-1], payload + b"\0", b"", payload * 2):
        with pytest.raises(WrongSize):
            decode(TWO, wrong, encoding)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_neither_sent_nor_taken(value: float) -> None:
    for encoding, code in (("f64", "d"), ("f32", "f"), ("f16", "e")):
        with pytest.raises(NotFiniteValue):
            decode(ONE, struct.pack(f"<3{code}", 1.0, value, 2.0), encoding)
    for encoding in ENCODINGS:
        with pytest.raises(NotFiniteValue):
            encode(ONE, of(1.0, value, 2.0), encoding, 1)


def test_a_value_that_its_encoding_cannot_hold_is_not_sent() -> None:
    assert np.isfinite(decode(ONE, encode(ONE, of(MAX_F16, -MAX_F16, 0.0), "f16", None), "f16")["v"]).all()
    for encoding, value in (("f16", MAX_F16 * 1.0001), ("f16", 65_520.0), ("f32", 3.5e38), ("int8", 1e40)):
        with pytest.raises(NotFiniteValue):
            encode(ONE, of(0.0, -value, 1.0), encoding, 1)
    assert decode(ONE, encode(ONE, of(1e308, -1e308, 0.0), "f64", None), "f64")["v"][0] == 1e308


@pytest.mark.parametrize(
    "arrays", [{}, {"w": np.zeros(3)}, {"v": np.zeros(4)}, {"v": np.zeros((3, 1))}, {"v": np.zeros(3), "w": np.zeros(1)}]
)
def test_arrays_that_are_not_the_manifests_are_not_sent(arrays: dict[str, Any]) -> None:
    with pytest.raises(WrongSize):
        encode(ONE, arrays, "f64", None)


# int8 -----------------------------------------------------------------------------------------------------------------


def test_an_int8_payload_is_a_scale_and_steps_per_array() -> None:
    found = decode(TWO, int8(0.5, 1, -2, 127, -127) + int8(2.0, 3), "int8")
    assert found["w"].tolist() == [[0.5, -1.0], [63.5, -63.5]]
    assert found["n"].tolist() == 6.0


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, -1.0, -1e-45])
def test_a_scale_that_is_no_size_is_refused(scale: float) -> None:
    with pytest.raises(BadScale):
        decode(ONE, int8(scale, 1, 2, 3), "int8")


def test_minus_128_is_refused() -> None:
    with pytest.raises(BadScale):
        decode(ONE, int8(1.0, 1, -128, 3), "int8")


def test_zeros_have_the_scale_zero_and_come_back_as_zeros() -> None:
    assert encode(ONE, of(0.0, -0.0, 0.0), "int8", 1) == bytes(7)
    assert decode(ONE, bytes(7), "int8")["v"].tolist() == [0.0, 0.0, 0.0]
    assert not decode(ONE, int8(0.0, 1, 2, 3), "int8")["v"].any()


@pytest.mark.parametrize("largest", [5e-324, 1e-45, 1.1e-38, 1e-20, 1.0, math.pi, 3e38])
def test_the_largest_value_needs_no_more_than_127_steps_however_small_or_large_it_is(largest: float) -> None:
    for seed in range(20):
        found = decode(ONE, encode(ONE, of(largest, -largest, 0.0), "int8", seed), "int8")["v"]
        scale = struct.unpack("<f", encode(ONE, of(largest, -largest, 0.0), "int8", seed)[:4])[0]
        assert scale > 0
        assert 127 * scale >= largest
        assert np.all(np.abs(found - [largest, -largest, 0.0]) <= scale)


def test_rounding_has_no_bias() -> None:
    """Of each of 50 values, the mean of 4,000 roundings lies within 5 standard errors of it. Drawn seeds would fail once in 35,000 runs."""
    wide = Manifest((TensorSpec("v", (50,)),))
    truth = np.random.Generator(np.random.PCG64(3)).normal(size=50)
    rounds = np.array([decode(wide, encode(wide, {"v": truth}, "int8", seed), "int8")["v"] for seed in range(4000)])
    scale = float(np.max(np.abs(truth))) / 127
    assert np.all(np.abs(rounds.mean(axis=0) - truth) <= 5 * 0.5 * scale / math.sqrt(len(rounds)))
    inside = np.abs(truth) < np.max(np.abs(truth))
    assert np.all(rounds.std(axis=0)[inside] < 0.51 * scale)


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    wide = Manifest((TensorSpec("v", (100,)),))
    arrays = {"v": np.linspace(-1.0, 1.0, 100)}
    assert encode(wide, arrays, "int8", 7) == encode(wide, arrays, "int8", 7)
    assert encode(wide, arrays, "int8", 7) != encode(wide, arrays, "int8", 8)


def test_both_ends_compute_the_same_increments_from_what_travelled() -> None:
    """n_i d_i + n_j d_j = 0 up to rounding of the last digit, for bytes decoded at either end."""
    wide = Manifest((TensorSpec("v", (100,)),))
    generator = np.random.Generator(np.random.PCG64(5))
    bytes_i, bytes_j = (encode(wide, {"v": generator.normal(size=100)}, "int8", seed) for seed in (1, 2))
    n_i, n_j = 37, 4011
    at_i = [decode(wide, b, "int8")["v"] for b in (bytes_i, bytes_j)]
    at_j = [decode(wide, bytes(bytearray(b)), "int8")["v"] for b in (bytes_i, bytes_j)]
    assert [a.tobytes() for a in at_i] == [a.tobytes() for a in at_j]
    d_i = n_j / (n_i + n_j) * (at_i[1] - at_i[0])
    d_j = n_i / (n_i + n_j) * (at_j[0] - at_j[1])
    assert np.allclose(n_i * d_i, -n_j * d_j, rtol=1e-14, atol=0)


# chunks and assembly --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, 3 * MAX_CHUNK_BYTES])
def test_a_state_cut_into_chunks_is_whole_again_at_the_last(size: int) -> None:
    payload = np.random.Generator(np.random.PCG64(1)).bytes(size)
    pieces = list(chunks(XID, payload))
    assert len(pieces) == math.ceil(size / MAX_CHUNK_BYTES)
    assert all(p[:16] == XID and 16 < len(p) <= 16 + MAX_CHUNK_BYTES for p in pieces)
    assembly = Assembly(XID, size)
    assert [assembly.add(p[16:]) for p in pieces] == [False] * (len(pieces) - 1) + [True]
    assert assembly.payload() == payload
    assert assembly.digest() == digest(payload) == hashlib.sha256(payload).digest()


@given(st.binary(min_size=1, max_size=50), st.lists(st.integers(1, 20), max_size=10))
def test_the_sizes_of_the_pieces_do_not_matter(payload: bytes, sizes: list[int]) -> None:
    assembly, start = Assembly(XID, len(payload)), 0
    for size in [*sizes, len(payload)]:
        if start < len(payload):
            piece = payload[start : start + size]
            start += len(piece)
            assert assembly.add(piece) == (start == len(payload))
    assert (assembly.payload(), assembly.digest()) == (payload, digest(payload))


def test_more_than_was_announced_is_refused() -> None:
    assembly = Assembly(XID, 5)
    assert not assembly.add(b"abc")
    with pytest.raises(WrongSize):
        assembly.add(b"def")
    assert assembly.add(b"de")
    with pytest.raises(WrongSize):
        assembly.add(b"f")


def test_a_claim_costs_nothing_until_the_bytes_come() -> None:
    with pytest.raises(WrongSize):
        Assembly(XID, MAX_PAYLOAD_BYTES + 1)
    tracemalloc.start()
    try:
        claims = [Assembly(XID, MAX_PAYLOAD_BYTES) for _ in range(100)]
        for claim in claims:
            claim.add(b"one byte and seven more")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_whole_state_is_asked_for_only_when_it_is_whole() -> None:
    with pytest.raises(AssertionError):
        Assembly(XID, 5).payload()
    assert repr(Assembly(XID, 5)) == "<Assembly 0 of 5 bytes>"
