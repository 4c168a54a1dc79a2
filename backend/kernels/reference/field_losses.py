# SPDX-License-Identifier: GPL-3.0-or-later
"""The regularisers of a signed distance field, step by step in torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def eikonal(values: Tensor, corners: Tensor, cells: Tensor, cell_count: Tensor, cell_size: float) -> Tensor:
    """As in `kernels.field_losses`."""
    corner = values[corners[cells[cells < cell_count]]].view(-1, 2, 2, 2)  # [N, z, y, x]
    differences = [(corner.select(axis, 1) - corner.select(axis, 0)).mean((1, 2)) for axis in (3, 2, 1)]
    slope = torch.stack(differences, dim=-1) / cell_size  # [N, 3]
    return ((slope.square().sum(-1) + 1e-8).sqrt() - 1).square().mean()


def sign_change(values: Tensor, edges: Tensor, edge_count: Tensor, cell_size: float) -> Tensor:
    """As in `kernels.field_losses`."""
    a, b = (values[edges[: int(edge_count)]] / cell_size).unbind(1)
    crossing = (a < 0) != (b < 0)
    a, b = a[crossing], b[crossing]
    terms = [binary_cross_entropy_with_logits(x, (y > 0).float(), reduction="none") for x, y in ((a, b), (b, a))]
    return (terms[0] + terms[1]).mean()
