# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularisers of the distance field against their definitions in torch, values and gradients."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from backend.kernels import field_losses
from backend.kernels.reference import field_losses as slow

VERTICES, ROWS = 300, 900
CELL = 0.125


def found(of: ModuleType, kind: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Value, and gradient [M], of a random field on random cells or edges, of which a few do not count."""
    generator = torch.Generator().manual_seed(7)
    values = (0.3 * torch.randn(VERTICES, generator=generator)).to(device).requires_grad_()
    rows = torch.randint(VERTICES, (ROWS, 8 if kind == "eikonal" else 2), generator=generator).to(device)
    count = torch.tensor([ROWS - 150], device=device)
    if kind == "eikonal":
        value = of.eikonal(values, rows, torch.arange(1, ROWS, 3, device=device), count, CELL)
    else:
        value = of.sign_change(values, rows, count, CELL)
    (3 * value).backward()
    assert values.grad is not None
    return value.detach(), values.grad


@pytest.mark.parametrize("kind", ["eikonal", "sign change"])
def test_value_and_gradient(kind: str, device: str) -> None:
    torch.testing.assert_close(found(field_losses, kind, device), found(slow, kind, device), rtol=1e-4, atol=1e-5)


def test_large_values_do_not_overflow(device: str) -> None:
    values = torch.tensor([200.0, -300.0], device=device, requires_grad=True)
    count = torch.ones(1, dtype=torch.int64, device=device)
    loss = field_losses.sign_change(values, torch.tensor([[0, 1]], device=device), count, 1.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(500) and values.grad is not None
    assert values.grad.tolist() == pytest.approx([1.0, -1.0])
