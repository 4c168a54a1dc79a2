# SPDX-License-Identifier: GPL-3.0-or-later
"""Learning rates that fall in the course of a stage, also inside a recorded step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .optimizer import Adam, Optimizer


def adam(groups: Iterable[tuple[Iterable[Tensor], float]], device: torch.device) -> Adam:
    """Adam on groups of (parameters, rate), whose steps can be recorded on CUDA."""
    return Adam((parameters, rate_of(rate, device)) for parameters, rate in groups)


def rate_of(rate: float, device: torch.device) -> float | Tensor:
    """A rate in the form that an optimizer's group needs on `device`."""
    return torch.tensor(rate, device=device) if device.type == "cuda" else rate


class Decay:
    """The rates of optimizers, lowered together."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self._groups = [group for optimizer in optimizers for group in optimizer.groups]
        self._rates = [float(group.rate) for group in self._groups]

    def to(self, factor: float) -> None:
        """Set every rate to `factor` times its first value."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            if isinstance(group.rate, Tensor):
                group.rate.fill_(rate * factor)
            else:
                group.rate = rate * factor
