# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the time of a job goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Seconds of each named part of the job; `seconds` are those of an earlier run that it goes on with."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self._seconds = dict(seconds or {})
        self._begun: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        self._begun[name] = time.perf_counter()
        try:
            yield
        finally:
            self._seconds = self.seconds
            del self._begun[name]

    @property
    def seconds(self) -> dict[str, float]:
        """Of all parts, those that are not over yet up to now."""
        now = time.perf_counter()
        running = {name: self._seconds.get(name, 0.0) + now - start for name, start in self._begun.items()}
        return self._seconds | running
