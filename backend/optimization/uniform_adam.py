# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam with one second moment for a whole tensor: keeps the directions of smoothed gradients (Large Steps, 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class UniformAdam(torch.optim.Optimizer):
    """Steps of about `lr` for the entry with the largest gradient."""

    def __init__(self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step from the gradients present."""
        assert closure is None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["count"] = 0
                    state["first"] = torch.zeros_like(parameter)
                    state["second"] = torch.zeros((), device=parameter.device)
                state["count"] += 1
                state["first"].lerp_(parameter.grad, 1 - beta1)
                state["second"].lerp_(parameter.grad.square().max(), 1 - beta2)
                first = state["first"] / (1 - beta1 ** state["count"])
                second = state["second"] / (1 - beta2 ** state["count"])
                parameter -= group["lr"] * first / (second.sqrt() + 1e-20)
