# SPDX-License-Identifier: GPL-3.0-or-later
"""Multi-resolution hash encoding of positions, after the equations of Müller et al. 2022, "Instant Neural Graphics
Primitives with a Multiresolution Hash Encoding", section 3.

Level l is a grid of N_l cells a side over the unit cube, N_l = floor(N_min · b^l), b = (N_max / N_min)^(1 / (L - 1)).
A position reads the 8 corners of its cell, linearly weighted. Corner (x, y, z) stands at x + y·(N_l + 1) + z·(N_l + 1)²
where all corners of the level fit into the table, else at (x ⊕ y·π₂ ⊕ z·π₃) mod T.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, no_type_check

import torch
import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch
from backend.kernels.lanes import active_lanes, find_run, sum_of_run

wp.set_module_options(MODULE_OPTIONS)

PRIME_Y = 2654435761
PRIME_Z = 805459861
_PRIME_Y = wp.constant(wp.uint32(PRIME_Y))
_PRIME_Z = wp.constant(wp.uint32(PRIME_Z))


@dataclass(frozen=True)
class HashGridConfig:
    """Shape of the encoding: `features` (2 or 4) numbers per corner, at most 2**log2_table_size corners a level."""

    levels: int
    features: int = 2
    log2_table_size: int = 15
    base_resolution: int = 8
    finest_resolution: int = 256

    def __post_init__(self) -> None:
        assert self.levels >= 1 and self.features in (2, 4)
        assert 1 <= self.base_resolution <= self.finest_resolution
        # corner coordinates and entry numbers must stay inside int32
        assert 1 <= self.log2_table_size <= 24 and self.finest_resolution < 1 << 20
        assert self.entries * self.features < 1 << 31

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Cells a side of each level, coarse to fine."""
        if self.levels == 1:
            return (self.base_resolution,)
        growth = (self.finest_resolution / self.base_resolution) ** (1.0 / (self.levels - 1))
        # the small addend keeps the finest level at its stated resolution in spite of rounding
        return tuple(int(self.base_resolution * growth**level + 1e-6) for level in range(self.levels))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each level: (N + 1)^3 where dense, else 2**log2_table_size."""
        return tuple(min((n + 1) ** 3, 1 << self.log2_table_size) for n in self.resolutions)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level."""
        return tuple(sum(self.sizes[:level]) for level in range(self.levels))

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return sum(self.sizes)

    @property
    def width(self) -> int:
        """Columns of the encoding: levels · features."""
        return self.levels * self.features

    def dense(self, level: int) -> bool:
        """True where every corner of the level has an entry of its own."""
        return (self.resolutions[level] + 1) ** 3 <= 1 << self.log2_table_size


def make_table(
    config: HashGridConfig, device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> torch.Tensor:
    """A fresh table [entries, features] float32, uniform in ±1e-4. The generator, if any, lives on `device`."""
    table = torch.empty(config.entries, config.features, device=device)
    return table.uniform_(-1e-4, 1e-4, generator=generator)


def hash_encode(
    positions: torch.Tensor,
    table: torch.Tensor,
    config: HashGridConfig,
    active_levels: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Encode positions [P, 3] float32 in [0, 1] with the table [entries, F] float32 -> [P, L · F], coarse levels first.

    Levels from `active_levels` on are locked: they yield zeros, send no gradient and cost next to nothing. A tensor
    [1] int32 on the device may say how many are active, and change from one replay of a recorded step to the next.
    Differentiable once with respect to the table, and to the positions if these require a gradient. Positions outside
    the cube are clamped to it and receive no gradient along the clamped axes.
    """
    assert positions.dim() == 2 and positions.shape[1] == 3 and positions.dtype == torch.float32
    assert table.shape == (config.entries, config.features) and table.dtype == torch.float32
    assert positions.device == table.device
    active = config.levels if active_levels is None else active_levels
    if not isinstance(active, torch.Tensor):
        active = _number(active, positions.device)
    return _HashEncode.apply(positions, table, config, active)


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, positions: torch.Tensor, table: torch.Tensor, config: HashGridConfig, active: torch.Tensor
    ) -> torch.Tensor:
        positions, table = positions.contiguous(), table.contiguous()
        ctx.config = config
        ctx.save_for_backward(positions, table, active)
        encoding = torch.empty(positions.shape[0], config.width, device=positions.device)
        if positions.shape[0] > 0:
            forward_kernel, _ = _kernels(config.features)
            points, levels_a_thread, dim = _forward_shape(positions, config.levels)
            vector = _vector(config.features)
            launch(
                forward_kernel,
                dim,
                [as_warp(positions, wp.vec3), as_warp(table, vector), _levels(config, positions.device)]
                + [as_warp(active, wp.int32), points, levels_a_thread, config.levels],
                [as_warp(encoding.view(-1, config.features), vector)],
                positions.device,
            )
        return encoding

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        positions, table, active = ctx.saved_tensors
        config = ctx.config
        to_positions, to_table = ctx.needs_input_grad[:2]
        grad = grad.contiguous()
        # an array argument must exist even where nothing is written to it
        grad_positions = torch.zeros_like(positions) if to_positions else positions
        grad_table = torch.zeros_like(table) if to_table else table
        if positions.shape[0] > 0:
            _, backward_kernel = _kernels(config.features)
            # level by level, on the CPU too: half the time there, since the gradient of one level stays cached
            points = positions.shape[0]
            vector = _vector(config.features)
            launch(
                backward_kernel,
                points * config.levels,
                [as_warp(positions, wp.vec3), as_warp(table, vector), _levels(config, positions.device)]
                + [as_warp(active, wp.int32), points, config.levels, as_warp(grad.view(-1, config.features), vector)]
                + [int(to_positions), int(to_table)],
                [as_warp(grad_positions, wp.vec3), as_warp(grad_table, vector)],
                positions.device,
            )
        return (grad_positions if to_positions else None), (grad_table if to_table else None), None, None


def _vector(features: int) -> Any:
    return wp.vec2 if features == 2 else wp.vec4


def _forward_shape(positions: torch.Tensor, levels: int) -> tuple[int, int, int]:
    """Points, levels a thread, threads. CUDA: a thread for each (level, point), level by level, so that the entries of
    one level stay in the cache. CPU: a thread a point, which writes its row in one go (measured 25 % faster)."""
    points = positions.shape[0]
    return (points, 1, points * levels) if positions.is_cuda else (points, levels, points)


class OpenLevels:
    """How many levels of a hash grid are in use: a number for the host, and the same where the kernels read it."""

    def __init__(self, levels: int, device: torch.device | str) -> None:
        self._count = levels
        self.tensor = torch.tensor([levels], dtype=torch.int32, device=device)

    @property
    def count(self) -> int:
        """The levels, the coarsest ones."""
        return self._count

    @count.setter
    def count(self, levels: int) -> None:
        if levels != self._count:
            self._count = levels
            self.tensor.fill_(levels)


@cache
def _number(value: int, device: torch.device) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.int32, device=device)


@cache
def _level_table(config: HashGridConfig, device: torch.device) -> torch.Tensor:
    rows = [
        (config.resolutions[level], config.offsets[level], config.sizes[level], int(config.dense(level)))
        for level in range(config.levels)
    ]
    return torch.tensor(rows, dtype=torch.int32, device=device)  # [L, 4] int32: cells, first entry, entries, dense


def _levels(config: HashGridConfig, device: torch.device) -> Any:
    return as_warp(_level_table(config, device), wp.vec4i)


@wp.func
@no_type_check
def _cell(x: float, resolution: int) -> int:
    """Cell along one axis; the last one for x = 1, and always a valid one, whatever x is (NaN included)."""
    return wp.clamp(int(wp.floor(x * float(resolution))), 0, resolution - 1)


@wp.func
@no_type_check
def _entry(level: wp.vec4i, x: int, y: int, z: int) -> int:
    """Row of the table for a corner. uint32 makes the products wrap as the hash wants."""
    ux = wp.uint32(x)
    uy = wp.uint32(y)
    uz = wp.uint32(z)
    side = wp.uint32(level[0] + 1)
    row = ux + side * (uy + side * uz)
    if level[3] == 0:
        row = (ux ^ (uy * _PRIME_Y) ^ (uz * _PRIME_Z)) & wp.uint32(level[2] - 1)
    return level[1] + int(row)


@wp.func
@no_type_check
def _run_key(thread: int, i: int, resolution: int, x: int, y: int, z: int) -> int:
    """The same for threads of level `i` in one cell, and for no others side by side."""
    if resolution > 1000:  # numbers of cells would no longer fit
        return -1 - thread
    return (x + resolution * (y + resolution * z)) | ((i & 1) << 30)


@cache
def _kernels(features: int) -> tuple[Any, Any]:
    """Forward and backward kernels, compiled on their own for the number of features in use."""
    vector = _vector(features)

    @wp.kernel(module="unique", enable_backward=False)
    @no_type_check
    def hash_forward(
        positions: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=wp.vec4i),
        active: wp.array(dtype=wp.int32),
        points: int,
        levels_a_thread: int,
        total_levels: int,
        encoding: wp.array(dtype=vector),
    ):
        thread = wp.tid()
        first = thread // points
        point = thread - first * points
        position = positions[point]
        px = wp.clamp(position[0], 0.0, 1.0)
        py = wp.clamp(position[1], 0.0, 1.0)
        pz = wp.clamp(position[2], 0.0, 1.0)
        last = first + levels_a_thread
        for i in range(wp.max(first, active[0]), last):
            encoding[point * total_levels + i] = vector()
        for i in range(first, wp.min(last, active[0])):
            level = levels[i]
            n = level[0]
            x = _cell(px, n)
            y = _cell(py, n)
            z = _cell(pz, n)
            wx = px * float(n) - float(x)
            wy = py * float(n) - float(y)
            wz = pz * float(n) - float(z)
            low = (1.0 - wy) * ((1.0 - wx) * table[_entry(level, x, y, z)] + wx * table[_entry(level, x + 1, y, z)])
            low += wy * ((1.0 - wx) * table[_entry(level, x, y + 1, z)] + wx * table[_entry(level, x + 1, y + 1, z)])
            z += 1
            high = (1.0 - wy) * ((1.0 - wx) * table[_entry(level, x, y, z)] + wx * table[_entry(level, x + 1, y, z)])
            high += wy * ((1.0 - wx) * table[_entry(level, x, y + 1, z)] + wx * table[_entry(level, x + 1, y + 1, z)])
            encoding[point * total_levels + i] = (1.0 - wz) * low + wz * high

    @wp.kernel(module="unique", enable_backward=False)
    @no_type_check
    def hash_backward(
        positions: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=wp.vec4i),
        active: wp.array(dtype=wp.int32),
        points: int,
        total_levels: int,
        grad: wp.array(dtype=vector),
        to_positions: int,
        to_table: int,
        grad_positions: wp.array(dtype=wp.vec3),
        grad_table: wp.array(dtype=vector),
    ):
        thread = wp.tid()
        i = thread // points
        if i >= active[0]:
            return
        lanes = active_lanes()
        point = thread - i * points
        g = grad[point * total_levels + i]
        position = positions[point]
        px = wp.clamp(position[0], 0.0, 1.0)
        py = wp.clamp(position[1], 0.0, 1.0)
        pz = wp.clamp(position[2], 0.0, 1.0)
        level = levels[i]
        n = level[0]
        x = _cell(px, n)
        y = _cell(py, n)
        z = _cell(pz, n)
        wx = px * float(n) - float(x)
        wy = py * float(n) - float(y)
        wz = pz * float(n) - float(z)
        run = find_run(lanes, _run_key(thread, i, n, x, y, z))
        slope = wp.vec3(0.0, 0.0, 0.0)
        for corner in range(8):
            cx = corner & 1
            cy = (corner >> 1) & 1
            cz = corner >> 2
            # weight along an axis: w for the upper corner, 1 - w for the lower
            ax = wp.where(cx == 1, wx, 1.0 - wx)
            ay = wp.where(cy == 1, wy, 1.0 - wy)
            az = wp.where(cz == 1, wz, 1.0 - wz)
            entry = _entry(level, x + cx, y + cy, z + cz)
            if to_table == 1:
                total = (ax * ay * az) * g
                for feature in range(features):
                    total[feature] = sum_of_run(lanes, run, total[feature])
                # unused places of padded lists would all queue for one entry
                if (run & 32) != 0 and wp.dot(total, total) != 0.0:
                    wp.atomic_add(grad_table, entry, total)
            if to_positions == 1:
                value = wp.dot(g, table[entry])
                slope += value * wp.vec3(
                    wp.where(cx == 1, ay * az, -ay * az),
                    wp.where(cy == 1, ax * az, -ax * az),
                    wp.where(cz == 1, ax * ay, -ax * ay),
                )
        if to_positions == 1:
            slope *= float(n)
            for axis in range(3):
                if position[axis] < 0.0 or position[axis] > 1.0:
                    slope[axis] = 0.0
            wp.atomic_add(grad_positions, point, slope)

    return hash_forward, hash_backward
