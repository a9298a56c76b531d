"""A named set of arrays as bytes: closed list of encodings, sizes known beforehand, nothing taken on trust (SPEC 5.3).

What the arrays are called and how they are shaped is never sent: both ends derive the manifest from the task and compare its digest. So a
payload is the values alone, little-endian, in C order, one array after another, and its size is known before the first byte.

    f64, f32, f16    the values
    int8             per array a f32 scale, then one byte a value in -127..127: value = scale * byte, rounded stochastically by the sender

In memory every value is float64. Both ends compute with what travelled, so what one gains the other gives, whatever the encoding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from .messages import ENCODINGS, MAX_PAYLOAD_BYTES

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]
"""A part of a task's state in memory: float64, by name."""

MAX_TENSORS: Final = 4096
"""Arrays in one state. The largest networks people train on one device have some hundreds."""

MAX_DIMENSIONS: Final = 8
"""Of one array; numpy allows 64, and nobody uses more than 5."""

MAX_NAME_BYTES: Final = 128
"""Of one array's name: "encoder.layers.11.attention.out_proj.weight" has 43."""

MAX_CHUNK_BYTES: Final = 256 * 1024
"""State in one chunk. Larger writes stall the loop: 223 ms for 64 MiB at once, 2.3 ms in pieces of this size."""

MAX_F16: Final = 6e4
"""Largest magnitude a sender may put into f16, whose largest number is 65,504: rounding must not reach infinity."""

MAX_F32: Final = 3e38
"""The same for f32, whose largest number is 3.4e38, and for the scale of int8."""

_DTYPE: Final[Mapping[str, np.dtype[Any]]] = {
    "f64": np.dtype("<f8"),
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
}
_LARGEST: Final = {"f64": np.finfo(np.float64).max, "f32": MAX_F32, "f16": MAX_F16, "int8": MAX_F32}
_SCALE: Final = np.dtype("<f4")


class BadTensor(ValueError):
    """Bytes or arrays that are not a state of the agreed form. Each subclass names what is wrong."""


class BadManifest(BadTensor):
    """Names or shapes outside the limits."""


class WrongSize(BadTensor):
    """More or fewer bytes, or another shape, than the manifest says."""


class NotFiniteValue(BadTensor):
    """NaN or infinity among the values, or a value the encoding cannot hold."""


class BadScale(BadTensor):
    """An int8 scale that is negative or not finite, or the byte -128."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One array: its name and shape. () is a single number."""

    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Manifest:
    """What a part of a task's state consists of, in wire order."""

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [spec.name for spec in self.tensors]
        if not 1 <= len(names) <= MAX_TENSORS or len(set(names)) < len(names):
            raise BadManifest(f"1 to {MAX_TENSORS} arrays with different names are needed")
        for spec in self.tensors:
            if not (1 <= len(spec.name) <= MAX_NAME_BYTES and spec.name.isascii() and spec.name.isprintable()):
                raise BadManifest(f"{spec.name[:40]!r}: a name has 1 to {MAX_NAME_BYTES} bytes of printable ASCII")
            if len(spec.shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 1 for n in spec.shape):
                raise BadManifest(f"{spec.name}: at most {MAX_DIMENSIONS} dimensions, none empty")
        if self.size("f64") > MAX_PAYLOAD_BYTES:
            raise BadManifest(f"a state of more than {MAX_PAYLOAD_BYTES >> 20} MiB")

    @cached_property
    def _packed(self) -> bytes:
        packed: bytes = msgpack.packb([[spec.name, list(spec.shape)] for spec in self.tensors])
        return packed

    def digest(self, task: bytes, part: str) -> bytes:
        """The schema that PROPOSE carries: SHA-256 over task id, part, names and shapes."""
        return hashlib.sha256(b"chinwag schema\0" + task + part.encode() + b"\0" + self._packed).digest()

    def size(self, encoding: str) -> int:
        """Bytes of a payload in this encoding."""
        assert encoding in ENCODINGS
        scales = _SCALE.itemsize * len(self.tensors) if encoding == "int8" else 0
        return scales + _DTYPE[encoding].itemsize * sum(spec.count for spec in self.tensors)


def encode(manifest: Manifest, arrays: Arrays, encoding: str, seed: int | None) -> bytes:
    """The payload of these arrays.

    seed: of the stochastic rounding, needed for int8 only; the same seed gives the same bytes.
    Raises WrongSize if an array is missing, unknown or of another shape, NotFiniteValue if a value cannot be sent.
    """
    if arrays.keys() != {spec.name for spec in manifest.tensors}:
        raise WrongSize("other arrays than the manifest names")
    assert seed is not None or encoding != "int8", "without a seed numpy draws one from the system"
    generator = np.random.Generator(np.random.PCG64(seed)) if encoding == "int8" else None
    pieces = []
    for spec in manifest.tensors:
        if np.shape(arrays[spec.name]) != spec.shape:
            raise WrongSize(f"{spec.name}: an array of shape {spec.shape} is needed")
        values = np.ascontiguousarray(arrays[spec.name], dtype=np.float64)
        largest = float(np.max(np.abs(values)))
        if not largest <= _LARGEST[encoding]:
            raise NotFiniteValue(f"{spec.name}: a value of {largest} cannot be sent as {encoding}")
        pieces.append(values.astype(_DTYPE[encoding]).tobytes() if generator is None else _quantise(values, largest, generator))
    return b"".join(pieces)


def decode(manifest: Manifest, payload: bytes, encoding: str) -> dict[str, Array]:
    """The arrays of this payload. Raises BadTensor if it is not exactly what the manifest says, or not finite."""
    if len(payload) != manifest.size(encoding):
        raise WrongSize(f"{len(payload)} bytes, not {manifest.size(encoding)}")
    arrays: dict[str, Array] = {}
    start = 0
    for spec in manifest.tensors:
        scale = None
        if encoding == "int8":
            scale = float(np.frombuffer(payload, _SCALE, 1, start)[0])
            start += _SCALE.itemsize
            if not (math.isfinite(scale) and scale >= 0.0):
                raise BadScale(f"{spec.name}: a scale of {scale}")
        raw = np.frombuffer(payload, _DTYPE[encoding], spec.count, start).reshape(spec.shape)
        start += raw.nbytes
        if encoding == "int8" and bool(np.any(raw == -128)):
            raise BadScale(f"{spec.name}: -128 is not used")
        values = raw.astype(np.float64)
        if scale is not None:
            values *= scale
        if not bool(np.all(np.isfinite(values))):
            raise NotFiniteValue(f"{spec.name}: NaN or infinity")
        arrays[spec.name] = values
    return arrays


def _quantise(values: Array, largest: float, generator: np.random.Generator) -> bytes:
    """Scale and bytes of one array. The scale is rounded up, so that nothing needs more than 127 steps; then the mean of what each value
    may become is the value, and a network's average does not drift."""
    scale = np.float32(largest / 127.0)
    if float(scale) * 127.0 < largest:
        scale = np.nextafter(scale, np.float32(np.inf))
    if scale == 0.0:
        return scale.astype(_SCALE).tobytes() + bytes(values.size)
    steps = np.floor(values / float(scale) + generator.random(values.shape))
    return scale.astype(_SCALE).tobytes() + np.clip(steps, -127, 127).astype(np.int8).tobytes()


def digest(payload: bytes) -> bytes:
    """SHA-256 of a payload."""
    return hashlib.sha256(payload).digest()


def chunks(xid: bytes, payload: bytes) -> Iterator[bytes]:
    """Payloads of the chunk frames that carry this state: the xid, then a piece of at most MAX_CHUNK_BYTES."""
    view = memoryview(payload)
    for start in range(0, len(payload), MAX_CHUNK_BYTES):
        yield b"".join((xid, view[start : start + MAX_CHUNK_BYTES]))


class Assembly:
    """A state on its way in. It takes memory as bytes arrive, never as they are claimed, and hashes them as they arrive: 64 MiB at once
    would hold up everything else for 50 ms."""

    def __init__(self, xid: bytes, size: int) -> None:
        if size > MAX_PAYLOAD_BYTES:
            raise WrongSize(f"a state of {size} bytes; {MAX_PAYLOAD_BYTES} at most")
        self.xid = xid
        self._size = size
        self._pieces = bytearray()
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> bool:
        """Take in the next piece. Whether the state is whole now. Raises WrongSize if there is more than was announced."""
        if len(self._pieces) + len(data) > self._size:
            raise WrongSize("more bytes than were announced")
        self._pieces += data
        self._hash.update(data)
        return len(self._pieces) == self._size

    def payload(self) -> bytes:
        """The whole state."""
        assert len(self._pieces) == self._size
        return bytes(self._pieces)

    def digest(self) -> bytes:
        """SHA-256 of what has arrived."""
        return self._hash.digest()

    def __repr__(self) -> str:
        return f"<Assembly {len(self._pieces)} of {self._size} bytes>"
