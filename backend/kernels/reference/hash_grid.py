# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow, obvious hash encoding in torch: any float type, gradients by autograd. The tests hold the kernel against it."""

import torch

from backend.kernels.hash_grid import PRIME_Y, PRIME_Z, HashGridConfig


def hash_encode(
    positions: torch.Tensor, table: torch.Tensor, config: HashGridConfig, active_levels: int | None = None
) -> torch.Tensor:
    """positions [P, 3], table [entries, F] -> [P, L · F]; see `backend.kernels.hash_grid.hash_encode`."""
    active = config.levels if active_levels is None else active_levels
    columns = []
    for level in range(config.levels):
        n = config.resolutions[level]
        if level >= active:
            columns.append(torch.zeros(positions.shape[0], config.features, dtype=table.dtype, device=table.device))
            continue
        scaled = positions.clamp(0.0, 1.0) * n
        cell = scaled.detach().floor().clamp(0, n - 1)
        weight = scaled - cell
        total = torch.zeros(positions.shape[0], config.features, dtype=table.dtype, device=table.device)
        for corner in range(8):
            step = torch.tensor([corner & 1, (corner >> 1) & 1, corner >> 2], device=positions.device)
            x, y, z = (cell.long() + step).unbind(1)
            if config.dense(level):
                row = x + y * (n + 1) + z * (n + 1) ** 2
            else:
                wrapped = x ^ ((y * PRIME_Y) & 0xFFFFFFFF) ^ ((z * PRIME_Z) & 0xFFFFFFFF)
                row = wrapped % config.sizes[level]
            share = torch.where(step == 1, weight, 1.0 - weight).prod(1, keepdim=True)
            total = total + share * table[config.offsets[level] + row]
        columns.append(total)
    return torch.cat(columns, dim=1)
