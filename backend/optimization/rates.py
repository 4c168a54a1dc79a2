# SPDX-License-Identifier: GPL-3.0-or-later
"""Learning rates that fall in the course of a stage, also inside a recorded step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def adam(groups: Iterable[tuple[Iterable[Tensor], float]], device: torch.device) -> torch.optim.Adam:
    """Adam on groups of (parameters, rate); on CUDA its rates and counts are tensors, so that steps can be recorded."""
    recorded = device.type == "cuda"
    return torch.optim.Adam(
        [{"params": list(parameters), "lr": rate_of(rate, device)} for parameters, rate in groups],
        betas=(0.9, 0.99),
        eps=1e-15,
        fused=True,
        capturable=recorded,
    )


def rate_of(rate: float, device: torch.device) -> Any:
    """A rate in the form that an optimizer's group needs on `device`."""
    return torch.tensor(rate, device=device) if device.type == "cuda" else rate


class Decay:
    """The rates of optimizers, lowered together."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self._rates = [float(group["lr"]) for group in self._groups]

    def to(self, factor: float) -> None:
        """Set every rate to `factor` times its first value."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
