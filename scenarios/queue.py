"""The virtual clock and what happens next. Things that happen at one time happen in the order in which they were planned."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class Queue:
    """Times are seconds since the beginning of the run."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []

    def at(self, at: float, call: Callable[..., Any], arguments: tuple[Any, ...] = ()) -> None:
        self._order += 1
        heapq.heappush(self._heap, (max(at, self.now), self._order, call, arguments))

    def after(self, seconds: float, call: Callable[..., Any], arguments: tuple[Any, ...] = ()) -> None:
        self.at(self.now + seconds, call, arguments)

    def run(self, until: float, is_over: Callable[[], bool] | None = None) -> None:
        """Let happen all that is planned up to this time, or until it is over."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
            if is_over is not None and is_over():
                return
        self.now = max(self.now, until)
