# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs charts into a square of cells: each in turn, the large ones first, as low as it fits, holes between others
included.

Charts are turned into their smallest rectangle, and stand or lie. Over each column of cells a chart counts as solid
from its lowest to its highest point. The scale is searched so that the packing ends at the top.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import warp as wp

from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

# Cells along a side, at most, and packings tried: the scale is found on a coarse grid, the fine one fills better.
GRIDS = ((512, 4), (1024, 2))
FULL = 0.97  # share of the height at which a packing will do
FINER = 1.02  # by so much larger charts usually fit on the next grid
SMALL = 16  # cells along a side up to which a chart counts as its whole box, so that many have one shape
STRIDE = 32  # a chart is tried at every column, or this share of its length


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


LARGEST_SMALL, COLUMNS_TRIED = wp.constant(SMALL), wp.constant(STRIDE)


@wp.kernel
def _drop(
    order: wp.array(dtype=wp.int32),
    cells: wp.array2d(dtype=wp.int32),
    begin: wp.array2d(dtype=wp.int32),
    spans: wp.array(dtype=wp.vec2i),
    room: wp.array2d(dtype=wp.int16),
    turned: wp.array(dtype=wp.vec2i),
    floors: wp.array2d(dtype=wp.int32),
    placed: wp.array2d(dtype=wp.int32),
) -> None:
    """Place charts in `order`, each as low as it gets: `placed` [C, 3] = turn, column, level. One thread.

    `room` [columns, rows]: free cells from this one upward, or less than zero: taken ones. `turned` is scratch memory,
    as is `floors` [2, columns]: levels below which no chart of the present small shape fits, wide and high.
    """
    grid = room.shape[0]
    rows = room.shape[1]
    longer = wp.int32(0)
    shorter = wp.int32(0)
    for place in range(order.shape[0]):
        chart = order[place]
        least = wp.int32(2147483647)
        small = wp.max(cells[chart, 0], cells[chart, 1]) <= LARGEST_SMALL
        if longer != wp.max(cells[chart, 0], cells[chart, 1]) or shorter != wp.min(cells[chart, 0], cells[chart, 1]):
            longer = wp.max(cells[chart, 0], cells[chart, 1])
            shorter = wp.min(cells[chart, 0], cells[chart, 1])
            if small:
                for column in range(grid):
                    floors[0, column] = 0
                    floors[1, column] = 0
        for turn in range(2):
            length = cells[chart, turn]
            depth = cells[chart, 1 - turn]
            if length > grid:
                continue
            for j in range(length):
                turned[j] = span_of(spans, begin[chart, turn], length, turn, j)
            slot = wp.where(length == longer, 0, 1)
            column = wp.int32(0)
            while column <= grid - length:
                level = wp.int32(0)
                if small:
                    level = floors[slot, column]
                met = wp.int32(0)  # columns in a row that the level suits
                j = wp.int32(0)
                while met < length:
                    if 2 * level + depth >= least or level + depth >= rows:
                        break
                    free = wp.int32(room[column + j, level + turned[j][0]])
                    if free < 0:
                        level -= free
                        met = 0
                    elif free < turned[j][1] - turned[j][0]:
                        level += free
                        met = 0
                    else:
                        met += 1
                        j += 1
                        if j == length:
                            j = 0
                if small:
                    floors[slot, column] = level
                if met == length:
                    least = 2 * level + depth
                    placed[chart, 0] = turn
                    placed[chart, 1] = column
                    placed[chart, 2] = level
                column += wp.max(length / COLUMNS_TRIED, 1)
        if least == 2147483647:
            placed[chart, 2] = 100 * grid
            break
        lies = placed[chart, 0]
        length = cells[chart, lies]
        for j in range(length):
            span = span_of(spans, begin[chart, lies], length, lies, j)
            there = placed[chart, 1] + j
            first = placed[chart, 2] + span[0]
            end = placed[chart, 2] + span[1]
            # Runs of the column from the top of this chart down.
            run = wp.int32(0)
            if room[there, end] < wp.int16(0):
                run = wp.int32(room[there, end])
            y = end - 1
            while y >= first:
                run -= 1
                room[there, y] = wp.int16(run)
                y -= 1
            free = wp.int32(0)
            while y >= 0:
                if room[there, y] < wp.int16(0):
                    if free > 0:
                        break
                    run -= 1
                    room[there, y] = wp.int16(run)
                else:
                    free += 1
                    room[there, y] = wp.int16(free)
                y -= 1


@wp.func
def span_of(spans: wp.array(dtype=wp.vec2i), begin: int, length: int, turn: int, j: int) -> wp.vec2i:
    """Lowest and highest cell over column j of a chart that stands, or lies after a quarter turn (x' = −y, y' = x)."""
    k = begin + j
    if turn == 1:
        k = begin + length - 1 - j
    return spans[k]


def profiles(
    outline: Outline, points: np.ndarray, size: np.ndarray, cell: float, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charts as cells of the grid: width and height `cells` [C, 2], lowest and highest cell `spans` [N, 2] over each
    column (then over each row, the axes swapped), and the first span of each chart for either, [C, 2].

    `points` [N, 2] are in texels, relative to the lower left corner of their chart, which has `size` [C, 2].
    """
    cells = np.maximum(np.ceil((size + 2 * margin) / cell - 1e-9).astype(np.int64), 1)
    spans, begins, done = [], [], 0
    for axis in (0, 1):
        flipped = points if axis == 0 else points[:, ::-1]
        low, high, begin = _profiles(outline, flipped, cells[:, axis], cell, margin)
        low = np.where(np.isfinite(low), np.floor(low / cell + 1e-9), 0.0)
        high = np.where(np.isfinite(high), np.ceil(high / cell - 1e-9), 0.0)
        boxed = np.repeat(cells.max(1) <= SMALL, cells[:, axis])
        low[boxed] = 0.0
        high[boxed] = np.repeat(cells[:, 1 - axis], cells[:, axis])[boxed]
        spans.append(np.stack([low, high], axis=1).astype(np.int64))
        begins.append(begin + done)
        done = len(low)
    return cells, np.concatenate(spans), np.stack(begins, axis=1)


def drop(
    outline: Outline, points: np.ndarray, size: np.ndarray, grid: int, cell: float, margin: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Packs at one scale. Returns turns [C], positions [C, 2] of the margins' corners (texels), height in cells."""
    cells, spans, begins = profiles(outline, points, size, cell, margin)
    if cells.max() > 2 * grid:
        return np.zeros(outline.count, np.int64), np.zeros((outline.count, 2)), int(cells.max())
    order = np.lexsort((-cells.min(1), -cells.max(1)))
    rows = 2 * grid + int(cells.max())
    room = torch.arange(rows, 0, -1, dtype=torch.int16).repeat(grid, 1)
    placed = torch.zeros((outline.count, 3), dtype=torch.int32)
    arrays = [torch.from_numpy(np.ascontiguousarray(x, dtype=np.int32)) for x in (order, cells, begins)]
    inputs = [bridge.as_array(x, wp.int32) for x in arrays]
    inputs.append(bridge.as_array(torch.from_numpy(spans.astype(np.int32)), wp.vec2i))
    turned, floors = torch.zeros((grid, 2), dtype=torch.int32), torch.zeros((2, grid), dtype=torch.int32)
    outputs = [bridge.as_array(room, wp.int16), bridge.as_array(turned, wp.vec2i)]
    outputs += [bridge.as_array(x, wp.int32) for x in (floors, placed)]
    bridge.launch(_drop, 1, inputs, outputs)
    turns, columns, levels = placed.numpy().T.astype(np.int64)
    height = int((levels + cells[np.arange(outline.count), 1 - turns]).max())
    return turns, np.stack([columns * cell, levels * cell], axis=1), height


def pack(outline: Outline, area: float, size: int, padding: float, deadline: float = np.inf) -> Packing | None:
    """Places charts of total `area` (world units squared) into a square of `size` texels, `padding` texels apart.

    Returns None if nothing fits, or not before the deadline (of time.monotonic).
    """
    turned = rotate_to_smallest_box(outline.points, outline.point_charts, outline.count)
    low, high = extents(turned, outline.point_charts, outline.count)
    local = turned - low[outline.point_charts]
    box = high - low
    margin = 0.5 * padding
    scale = float(np.sqrt(0.6 * size * size / max(area, 1e-30)))
    best: Packing | None = None
    for cells, passes in GRIDS:
        grid = min(size, cells)
        cell = size / grid
        for step in range(passes if best else 50):
            turns, positions, height = drop(outline, local * scale, box * scale, grid, cell, margin)
            if height <= grid and (best is None or scale > best.scale):
                points = _place(outline, local * scale, box * scale, turns, positions, margin, cell)
                best = Packing(points, scale, height / grid)
            late = time.monotonic() > deadline
            if late or (best is not None and (step >= passes - 1 or best.filled > FULL)):
                break
            scale *= float(np.clip(np.sqrt(0.99 * grid / height), 0.7, 1.3))
            if best is not None and scale <= best.scale:
                scale = best.scale * (1.0 + 0.02 / (1 + step))
        if best is None or late or size <= cells:
            break
        scale = best.scale * FINER * float(np.sqrt(0.99 / best.filled))
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
    high = full[charts, 1]
    lies = turns[charts] == 1
    return np.stack([np.where(lies, high - y, x), np.where(lies, x, y)], axis=1) + positions[charts]
