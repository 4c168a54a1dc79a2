# SPDX-License-Identifier: GPL-3.0-or-later
"""Adam with one second moment for a whole tensor: keeps the directions of smoothed gradients (Large Steps, 4.3).

Gradients far out in the tail, or larger than all before by far, are cut off: see `kernels.uniform_step`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..kernels.uniform_step import uniform_step
from .optimizer import Optimizer


class UniformAdam(Optimizer):
    """Steps of about the rate for the entries with the largest gradients.

    Its state lives on the device of the parameters and nothing waits for it, so that a step can be recorded.
    """

    def __init__(
        self, parameters: Iterable[Tensor], rate: float | Tensor, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__([(parameters, rate)])
        self._betas = betas

    @torch.no_grad()
    def step(self) -> None:
        """One step from the gradients present."""
        for group in self.groups:
            for parameter in group.parameters:
                if parameter.grad is None:
                    continue
                rate = group.rate
                if not isinstance(rate, Tensor):
                    rate = torch.full((), rate, device=parameter.device)
                uniform_step(parameter, parameter.grad, *self._of(parameter), rate, self._betas)

    def _of(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if parameter not in self._state:
            first = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
            second, count = (torch.zeros((), device=parameter.device) for _ in range(2))
            self._state[parameter] = first, second, count
        return self._state[parameter]
