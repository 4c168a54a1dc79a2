# SPDX-License-Identifier: GPL-3.0-or-later
"""The material field: what lies in its range, and levels that are not open yet."""

from __future__ import annotations

import torch

from backend.appearance.material import MIN_ROUGHNESS, MaterialField
from backend.kernels.hash_grid import HashGridConfig

LEVELS, TABLE = 5, 10  # TABLE: log2 of the entries of the finest


def field() -> MaterialField:
    torch.manual_seed(0)
    config = HashGridConfig(levels=LEVELS, features=2, log2_table_size=TABLE, base_resolution=4, finest_resolution=64)
    made = MaterialField((-1.0, -1.0, -1.0), 2.0, config, 16, torch.device("cpu"))
    with torch.no_grad():
        made.table.normal_()
    return made


POSITIONS = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_values_are_possible_materials() -> None:
    values = field().values(POSITIONS).detach()
    assert values.shape == (200, 5) and bool(((values >= 0) & (values <= 1)).all())
    assert float(values[:, 3].min()) >= MIN_ROUGHNESS


def test_levels_that_are_closed_have_no_part_in_it() -> None:
    made = field()
    whole = made.values(POSITIONS)
    made.open_levels.count = 2
    coarse = made.values(POSITIONS)
    assert float((coarse - whole).detach().abs().mean()) > 1e-3
    coarse.sum().backward()
    gradient = made.table.grad
    assert gradient is not None
    assert bool(gradient[: 5**3].any()) and not bool(gradient[-(2**TABLE) :].any())
