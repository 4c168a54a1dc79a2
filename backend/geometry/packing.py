# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs charts into a square: the horizon method (Lévy et al. 2002, "Least Squares Conformal Maps", section 4).

Charts are turned into their smallest rectangle, sorted by size, and dropped, in the best of four quarter turns and at
the best column, onto the horizon of those already placed. The scale is searched so that the horizon ends at the top.
"""

import time
from dataclasses import dataclass

import numpy as np

CELLS = 1024  # the horizon's columns, at most


@dataclass(frozen=True)
class Outline:
    """Charts as `points` [N, 2] in world units and border `edges` [M, 2] of point indices, both with chart numbers."""

    points: np.ndarray
    point_charts: np.ndarray
    edges: np.ndarray
    edge_charts: np.ndarray
    count: int


@dataclass(frozen=True)
class Packing:
    """`points` [N, 2] in texels (y up), `scale` in texels per world unit and the share of the height used."""

    points: np.ndarray
    scale: float
    filled: float


def extents(points: np.ndarray, charts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest coordinates [C, 2] of each chart."""
    low = np.full((count, 2), np.inf)
    high = np.full((count, 2), -np.inf)
    order = np.argsort(charts, kind="stable")
    starts = np.flatnonzero(np.diff(charts[order], prepend=-1))
    present = charts[order][starts]
    low[present] = np.minimum.reduceat(points[order], starts)
    high[present] = np.maximum.reduceat(points[order], starts)
    return low, high


def rotate_to_smallest_box(points: np.ndarray, charts: np.ndarray, count: int, angles: int = 24) -> np.ndarray:
    """Turns each chart so that its bounding box is smallest over `angles` in a quarter turn, wider than high."""
    best_area = np.full(count, np.inf)
    best = np.zeros(count)
    order = np.argsort(charts, kind="stable")
    starts = np.flatnonzero(np.diff(charts[order], prepend=-1))
    ordered, present = points[order], charts[order][starts]
    for angle in np.arange(angles) * (np.pi / 2 / angles):
        turned = ordered @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        size = np.maximum.reduceat(turned, starts) - np.minimum.reduceat(turned, starts)
        area = size[:, 0] * size[:, 1]
        better = area < best_area[present] * 0.999
        best_area[present[better]] = area[better]
        best[present[better]] = angle + np.where(size[better, 0] < size[better, 1], np.pi / 2, 0.0)
    cosine, sine = np.cos(best)[charts], np.sin(best)[charts]
    x, y = points[:, 0], points[:, 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def _profiles(
    outline: Outline, points: np.ndarray, columns: np.ndarray, cell: float, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest y (texels, widened by the margin) over each column of each chart, and where each chart begins.

    `points` are relative to the chart's lower left corner, whose distance from the first column's left is the margin.
    """
    begin = np.cumsum(columns) - columns
    a, b = points[outline.edges[:, 0]], points[outline.edges[:, 1]]
    swap = (a[:, 0] > b[:, 0])[:, None]
    left, right = np.where(swap, b, a), np.where(swap, a, b)
    # A column of the grid sees all that comes within the margin of it.
    first = np.maximum(np.floor(left[:, 0] / cell).astype(np.int64), 0)
    last = np.floor((right[:, 0] + 2 * margin) / cell).astype(np.int64)
    last = np.minimum(last, columns[outline.edge_charts] - 1)
    count = last - first + 1
    owner = np.repeat(np.arange(len(count)), count)
    column = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    lo = np.maximum(column * cell - 2 * margin, left[owner, 0])
    hi = np.minimum((column + 1) * cell, right[owner, 0])
    run = right[:, 0] - left[:, 0]
    slope = np.where(run > 1e-9, (right[:, 1] - left[:, 1]) / np.where(run > 1e-9, run, 1.0), 0.0)[owner]
    steep = (run <= 1e-9)[owner]
    at_lo = np.where(steep, left[owner, 1], left[owner, 1] + (lo - left[owner, 0]) * slope)
    at_hi = np.where(steep, right[owner, 1], left[owner, 1] + (hi - left[owner, 0]) * slope)
    key = begin[outline.edge_charts[owner]] + column
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    low = np.full(int(columns.sum()), np.inf)
    high = np.full(int(columns.sum()), -np.inf)
    low[key[order][starts]] = np.minimum.reduceat(np.minimum(at_lo, at_hi)[order], starts)
    high[key[order][starts]] = np.maximum.reduceat(np.maximum(at_lo, at_hi)[order], starts)
    return low, high + 2 * margin, begin


def _drop(
    outline: Outline, points: np.ndarray, size: np.ndarray, grid: int, cell: float, margin: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Packs at one scale. Returns turns [C], positions [C, 2] of the margins' corners (texels), height in cells."""
    cells = np.maximum(np.ceil((size + 2 * margin) / cell - 1e-9).astype(np.int64), 1)
    profiles = []
    for axis in (0, 1):
        flipped = points if axis == 0 else points[:, ::-1]
        low, high, begin = _profiles(outline, flipped, cells[:, axis], cell, margin)
        low = np.where(np.isfinite(low), np.floor(low / cell + 1e-9), cells[:, 1 - axis].max())
        high = np.where(np.isfinite(high), np.ceil(high / cell - 1e-9), 0.0)
        profiles.append((low.astype(np.int64), high.astype(np.int64), begin))
    horizon = np.zeros(grid, dtype=np.int64)
    turns = np.zeros(outline.count, dtype=np.int64)
    positions = np.zeros((outline.count, 2))
    order = np.lexsort((-cells.min(1), -cells.max(1)))
    for chart in order:
        wide, tall = int(cells[chart, 0]), int(cells[chart, 1])
        best: tuple[float, int, int, int] | None = None
        for turn in range(4):
            low_p, high_p, begin = profiles[turn % 2]
            span = slice(begin[chart], begin[chart] + (tall if turn % 2 else wide))
            bottom, top = low_p[span], high_p[span]
            depth = wide if turn % 2 else tall
            if turn in (1, 2):  # the quarter turns 1 (x' = −y, y' = x) and 2 read the profile backwards
                bottom, top = bottom[::-1], top[::-1]
            if turn in (2, 3):  # and 2 and 3 (x' = y, y' = −x) see it upside down
                bottom, top = depth - top, depth - bottom
            if len(bottom) > grid:
                continue
            windows = _windows(horizon, len(bottom))
            level = np.maximum((windows - bottom).max(1), 0)
            total = np.concatenate([[0], np.cumsum(horizon)])
            waste = level * len(bottom) + bottom.sum() - (total[len(bottom) :] - total[: -len(bottom)])
            score = waste + 1.5 * len(bottom) * level + 0.5 * len(bottom) * int(top.max())
            column = int(score.argmin())
            if best is None or score[column] < best[0]:
                best = (float(score[column]), turn, column, int(level[column]))
                best_top = top
        if best is None:
            return turns, positions, 100 * grid
        _, turns[chart], column, level_at = best
        positions[chart] = column * cell, level_at * cell
        span = slice(column, column + len(best_top))
        horizon[span] = np.maximum(horizon[span], level_at + best_top)
    return turns, positions, int(horizon.max())


def _windows(row: np.ndarray, width: int) -> np.ndarray:
    """All runs of `width` entries, as a view (numpy's own sliding windows cost more to set up than to use here)."""
    step = row.strides[0]
    return np.ndarray((len(row) - width + 1, width), row.dtype, row, strides=(step, step))


def pack(
    outline: Outline,
    area: float,
    size: int,
    padding: float,
    deadline: float = np.inf,
    passes: int = 8,
) -> Packing | None:
    """Places charts of total `area` (world units squared) into a square of `size` texels, `padding` texels apart.

    Returns None if nothing fits, or not before the deadline (of time.monotonic).
    """
    turned = rotate_to_smallest_box(outline.points, outline.point_charts, outline.count)
    low, high = extents(turned, outline.point_charts, outline.count)
    local = turned - low[outline.point_charts]
    box = high - low
    grid = min(size, CELLS)
    cell = size / grid
    margin = 0.5 * padding
    scale = float(np.sqrt(0.6 * size * size / max(area, 1e-30)))
    best: Packing | None = None
    for step in range(passes + 40):
        turns, positions, height = _drop(outline, local * scale, box * scale, grid, cell, margin)
        if height <= grid and (best is None or scale > best.scale):
            best = Packing(
                _place(outline, local * scale, box * scale, turns, positions, margin, cell), scale, height / grid
            )
        late = time.monotonic() > deadline
        if late or (best is not None and (step >= passes - 1 or best.filled > 0.985)):
            return best
        scale *= float(np.clip(np.sqrt(0.99 * grid / height), 0.7, 1.3))
        if best is not None and scale <= best.scale:
            scale = best.scale * (1.0 + 0.02 / (1 + step))
    return best


def _place(
    outline: Outline,
    points: np.ndarray,
    size: np.ndarray,
    turns: np.ndarray,
    positions: np.ndarray,
    margin: float,
    cell: float,
) -> np.ndarray:
    """Applies quarter turns and positions to points relative to their chart's lower left corner (texels)."""
    charts = outline.point_charts
    full = np.maximum(np.ceil((size + 2 * margin) / cell - 1e-9), 1) * cell
    x, y = (points + margin).T
    wide, high = full[charts].T
    turn = turns[charts]
    new_x = np.choose(turn, [x, high - y, wide - x, y])
    new_y = np.choose(turn, [y, x, high - y, wide - x])
    return np.stack([new_x, new_y], axis=1) + positions[charts]
