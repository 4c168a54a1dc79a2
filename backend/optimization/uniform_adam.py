# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam with one second moment for a whole tensor: keeps the directions of smoothed gradients (Large Steps, 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ..kernels.uniform_step import uniform_step


class UniformAdam(torch.optim.Optimizer):
    """Steps of about `lr` for the entry with the largest gradient.

    Its state lives on the device of the parameters and nothing waits for it, so that a step can be recorded; a rate
    that is a tensor [] float32 there can change between repetitions.
    """

    def __init__(self, params: Iterable[Tensor], lr: float | Tensor, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients present."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, device = self.state[parameter], parameter.device
                if not state:
                    state["count"] = torch.zeros((), device=device)  # a float, as whatever a loaded state holds
                    state["first"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                    state["second"] = torch.zeros((), device=device)
                rate = group["lr"]
                if not isinstance(rate, Tensor):
                    rate = torch.full((), rate, device=device)
                means = state["first"], state["second"], state["count"]
                uniform_step(parameter, parameter.grad, *means, rate, group["betas"])
