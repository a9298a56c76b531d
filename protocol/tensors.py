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

MAX_TENSORS: Final = 4096
MAX_DIMENSIONS: Final = 8
MAX_NAME_BYTES: Final = 128

MAX_CHUNK_BYTES: Final = 256 * 1024
"""State in one chunk. Larger writes stall the loop: 223 ms for 64 MiB at once, 2.3 ms in pieces of this size."""

MAX_F16: Final = 6e4
"""Largest magnitude a sender may put into f16, whose largest number is 65,504: rounding must not reach infinity."""

_WIDTH: Final = {"f64": 8, "f32": 4, "f16": 2, "int8": 1}
_DTYPE: Final[Mapping[str, np.dtype[Any]]] = {"f64": np.dtype("<f8"), "f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "int8": np.dtype("i1")}
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

    specs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [s.name for s in self.specs]
        if not 1 <= len(names) <= MAX_TENSORS or len(set(names)) < len(names):
            raise BadManifest(f"1 to {MAX_TENSORS} arrays with different names are needed")
        for spec in self.specs:
            if not 1 <= len(spec.name.encode()) <= MAX_NAME_BYTES:
                raise BadManifest(f"{spec.name[:40]!r}: a name has 1 to {MAX_NAME_BYTES} bytes")
            if len(spec.shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 1 for n in spec.shape):
                raise BadManifest(f"{spec.name}: at most {MAX_DIMENSIONS} dimensions, none empty")
        if 8 * sum(s.count for s in self.specs) > MAX_PAYLOAD_BYTES:
            raise BadManifest(f"a state of more than {MAX_PAYLOAD_BYTES >> 20} MiB")

    @cached_property
    def _packed(self) -> bytes:
        packed: bytes = msgpack.packb([[s.name, list(s.shape)] for s in self.specs])
        return packed

    def digest(self, task: bytes, part: str) -> bytes:
        """The schema that PROPOSE carries: SHA-256 over task id, part, names and shapes."""
        return hashlib.sha256(b"chinwag schema\0" + task + part.encode() + b"\0" + self._packed).digest()

    def size(self, encoding: str) -> int:
        """Bytes of a payload in this encoding."""
        assert encoding in ENCODINGS
        scales = _SCALE.itemsize * len(self.specs) if encoding == "int8" else 0
        return scales + _WIDTH[encoding] * sum(s.count for s in self.specs)


def encode(manifest: Manifest, arrays: Arrays, encoding: str, seed: int | None) -> bytes:
    """The payload of these arrays.

    seed: of the stochastic rounding, needed for int8 only; the same seed gives the same bytes.
    Raises WrongSize if an array is missing or of another shape, NotFiniteValue if a value cannot be sent.
    """
    generator = np.random.Generator(np.random.PCG64(seed)) if encoding == "int8" else None
    pieces = []
    for spec in manifest.specs:
        if spec.name not in arrays or np.shape(arrays[spec.name]) != spec.shape:
            raise WrongSize(f"{spec.name}: an array of shape {spec.shape} is needed")
        values = np.ascontiguousarray(arrays[spec.name], dtype=np.float64)
        largest = float(np.max(np.abs(values)))
        if not math.isfinite(largest) or (encoding == "f16" and largest > MAX_F16) or (encoding != "f64" and largest > 3e38):
            raise NotFiniteValue(f"{spec.name}: a value of {largest} cannot be sent as {encoding}")
        pieces.append(values.astype(_DTYPE[encoding]).tobytes() if generator is None else _quantise(values, largest, generator))
    return b"".join(pieces)


def decode(manifest: Manifest, payload: bytes, encoding: str) -> dict[str, Array]:
    """The arrays of this payload. Raises BadTensor if it is not exactly what the manifest says, or not finite."""
    if len(payload) != manifest.size(encoding):
        raise WrongSize(f"{len(payload)} bytes, not {manifest.size(encoding)}")
    arrays, start, view = {}, 0, memoryview(payload)
    for spec in manifest.specs:
        scale = 1.0
        if encoding == "int8":
            scale = float(np.frombuffer(view[start : start + 4], _SCALE)[0])
            start += 4
            if not (math.isfinite(scale) and scale >= 0.0):
                raise BadScale(f"{spec.name}: a scale of {scale}")
        end = start + spec.count * _WIDTH[encoding]
        raw = np.frombuffer(view[start:end], _DTYPE[encoding]).reshape(spec.shape)
        if encoding == "int8" and bool(np.any(raw == -128)):
            raise BadScale(f"{spec.name}: -128 is not used")
        values = raw.astype(np.float64) * scale if encoding == "int8" else raw.astype(np.float64)
        if not bool(np.all(np.isfinite(values))):
            raise NotFiniteValue(f"{spec.name}: NaN or infinity")
        arrays[spec.name] = values
        start = end
    return arrays


def _quantise(values: Array, largest: float, generator: np.random.Generator) -> bytes:
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
    """A state on its way in. It takes memory as bytes arrive, never as they are claimed."""

    def __init__(self, xid: bytes, size: int) -> None:
        if size > MAX_PAYLOAD_BYTES:
            raise WrongSize(f"a state of {size} bytes; {MAX_PAYLOAD_BYTES} at most")
        self.xid = xid
        self._size = size
        self._pieces = bytearray()

    def add(self, data: bytes) -> bool:
        """Take in the next piece. Whether the state is whole now. Raises WrongSize if there is more than was announced."""
        if len(self._pieces) + len(data) > self._size:
            raise WrongSize("more bytes than were announced")
        self._pieces += data
        return len(self._pieces) == self._size

    def payload(self) -> bytes:
        """The whole state."""
        assert len(self._pieces) == self._size
        return bytes(self._pieces)

    def __repr__(self) -> str:
        return f"<Assembly {len(self._pieces)} of {self._size} bytes>"


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two sets of arrays are equal, value by value."""
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)
