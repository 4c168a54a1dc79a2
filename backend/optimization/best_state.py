# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a stage where it fitted best, to go back to when it suddenly fits much worse.

A surface that changes its topology can lose a thin part, or grow a blob before the cameras, within a few steps, and
what is gone has no gradient that would bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

WINDOW = 50  # steps whose mean misfit counts: a few batches say little
WORSE = 1.25  # times the least misfit so far, from which on the stage goes back


class BestState:
    """Keeps copies of tensors.

    Args:
        tensors: the state, which is changed in place.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = [tensor.detach() for tensor in tensors]
        self._kept: list[Tensor] = []
        self._least = float("inf")
        self._sum = torch.zeros((), device=self._tensors[0].device)
        self._steps = 0

    @torch.no_grad()
    def observe(self, misfit: Tensor, last: bool) -> bool:
        """Take note of a step's `misfit`, a scalar that counts what is missing too.

        Returns whether the state is another, older one now.

        Waits for the device once in a window, and at the `last` step.
        """
        self._sum += misfit
        self._steps += 1
        if self._steps < (WINDOW // 2 if last else WINDOW):
            return False
        mean = float(self._sum) / self._steps
        self._sum.zero_()
        self._steps = 0
        if mean <= self._least:
            self._least = mean
            if not last:
                self._kept = [tensor.clone() for tensor in self._tensors]
            return False
        if not self._kept or mean < WORSE * self._least:
            return False
        for tensor, kept in zip(self._tensors, self._kept, strict=True):
            tensor.copy_(kept)
        return True
