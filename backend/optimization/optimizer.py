# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters and their rates, and Adam on them.

`torch.optim` has the same, but the first use of it loads PyTorch's compiler: two to six seconds of every job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-15


@dataclass
class Group:
    """Parameters that share a rate: a number, or a tensor [] on their device, which a recorded step reads anew."""

    parameters: list[Tensor]
    rate: float | Tensor


class Optimizer:
    """What moves parameters along their gradients."""

    def __init__(self, groups: Iterable[tuple[Iterable[Tensor], float | Tensor]]) -> None:
        self.groups = [Group(list(parameters), rate) for parameters, rate in groups]
        self._state: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}  # both moments, and a count as a float tensor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    def step(self) -> None:
        """One step from the gradients present."""
        raise NotImplementedError


class Adam(Optimizer):
    """Kingma and Ba 2015, in PyTorch's fused kernel."""

    def __init__(
        self, groups: Iterable[tuple[Iterable[Tensor], float | Tensor]], betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(groups)
        self._betas = betas

    @torch.no_grad()
    def step(self) -> None:
        """One step from the gradients present."""
        for group in self.groups:
            moved = [parameter for parameter in group.parameters if parameter.grad is not None]
            if not moved:
                continue
            gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
            firsts, seconds, counts = zip(*(self._of(parameter) for parameter in moved), strict=True)
            torch._foreach_add_(counts, 1.0)
            torch._fused_adam_(
                moved,
                gradients,
                firsts,
                seconds,
                [],
                counts,
                lr=group.rate,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _of(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if parameter not in self._state:
            zeros = torch.zeros_like(parameter), torch.zeros_like(parameter)
            self._state[parameter] = *zeros, torch.zeros((), device=parameter.device)
        return self._state[parameter]
