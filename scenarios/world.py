"""What a simulation is told and what it tells: plain frozen values, from which one seed makes one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from peer.learning.dataset import Rows

FAULTS: Final = (
    "crash", "restart", "cut", "partition", "one_way", "clog", "slow_cpu", "clock_jump", "clock_drift", "full_disk", "leave",
    "rows_change", "stop",
)  # fmt: skip
"""Kinds of faults; `Fault` says what each takes."""

LIARS: Final = ("sign_flip", "noise", "label_flip", "stale_replay", "silence", "garbage_bytes", "false_sizes")
"""Ways in which a peer lies; `scenarios/liars.py` says what each does."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One-way delay in milliseconds: `median`, varying log-normally by `spread` (sigma of the logarithm) with every packet, and by
    `across` from one pair of peers to another. Delays below 0.01 ms count as 0.01 ms."""

    median: float = 1.0
    spread: float = 0.0
    across: float = 0.0


@dataclass(frozen=True, slots=True)
class Weather:
    """The network between all peers. `loss`: share of packets lost, each of which costs a retransmission, and many in a row the
    connection. `topology`: pairs that can reach each other, in both directions; None if everybody can reach everybody."""

    latency_ms: Latency = field(default_factory=Latency)
    bytes_per_s: float | None = None
    loss: float = 0.0
    topology: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """One peer: its rows (None: no file), when it first starts, its processor's speed (1 is a laptop's), how it lies (see LIARS)."""

    name: str
    rows: Rows | None
    joins_at: float = 0.0
    cpu: float = 1.0
    liar: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at `at` seconds, with `peers` (indices), and ends at `until` (None: never).

    crash        power fails; `until` is when the peer starts again. value 1: in the middle of its next write to disk
    restart      the daemon is stopped in good order and started again at `until`, or at once
    cut          all links between these peers and all others break, some of them half-noticed; value: share of them (1)
    partition    nothing passes between these peers and the rest; what was sent waits, as TCP does
    one_way      nothing passes from these peers to the rest; the other direction works
    clog         nothing leaves these peers, then all of it at once
    slow_cpu     value: share of its speed that is left
    clock_jump   value: seconds that are added to its clock (not undone)
    clock_drift  value: share by which its clock runs fast
    full_disk    nothing can be written: the daemon stops at its next write and starts again at `until`
    leave        the owner leaves the task; with `until` accepts it again then. value 1: erases what was held
    rows_change  value: share of its rows that are kept (the first ones)
    stop         the device is off until `until`, in good order; as in churn
    """

    at: float
    kind: str
    peers: tuple[int, ...]
    until: float | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class World:
    """Everything about a run but its seed. Times are in virtual seconds from its beginning.

    classes: empty for ridge. `exchanges`: stop when every peer has committed that many. `lost_after_s`: silence after which a neighbour
    counts as gone for good. `sync_ms`: time of a durable write (0: at once; nothing can then happen in its middle). `introductions`: other
    peers whose address a starting peer is told of, as mDNS or a static list would; 0 for all. `view`: neighbours that a peer keeps; None is
    the daemon's 512, and 16 in networks of more than 64, as a thousand peers that all knew each other would only exchange records.
    """

    peers: tuple[PeerPlan, ...]
    test: Rows
    model: str = "lda"
    classes: tuple[str, ...] = ()
    alpha: float = 0.001
    encoding: str = "int8"
    min_rows: int = 1
    min_peers: int = 1
    weather: Weather = field(default_factory=Weather)
    faults: tuple[Fault, ...] = ()
    period_s: float = 0.25
    lost_after_s: float = 60.0
    seconds: float = 60.0
    sample_every_s: float = 1.0
    exchanges: int | None = None
    sync_ms: float = 0.0
    introductions: int = 8
    view: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A peer at one time; `score` of the model in use is None as long as there is none."""

    at: float
    peer: int
    exchanges: int
    bytes_sent: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: what was seen, when, and the last events before."""

    name: str
    seed: int
    at: float
    says: str
    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave. `verdicts`: by invariant, "holds" or why it does not. `spread`: (at, largest distance of a running peer's model from
    their mean, relative). `peers`: name, exchanges, bytes_sent, score, alone. `trace`: at, peer, kind and facts of all that happened. An
    invariant that a run ended too early to show is not among the verdicts. `seconds`: how long it ran."""

    samples: list[Sample]
    trace: list[dict[str, Any]]
    verdicts: dict[str, str]
    peers: list[dict[str, Any]]
    spread: list[tuple[float, float]]
    seconds: float
    violations: tuple[Violation, ...]
