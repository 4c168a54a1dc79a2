# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow, obvious references of what the kernels of backend.geometry do."""

from __future__ import annotations

import numpy as np


def covered_texels(corners: np.ndarray) -> list[tuple[int, int, int]]:
    """(triangle, row, column) of every texel whose center is in a triangle of [T, 3, 2] (texels, x right, y down)."""
    found = []
    for t, triangle in enumerate(np.asarray(corners, dtype=np.float64)):
        first, end = np.ceil(triangle[:, 1].min() - 0.5), np.ceil(triangle[:, 1].max() - 0.5)
        for row in range(int(first), int(end)):
            center = row + 0.5
            crossings = []
            for e in range(3):
                low, high = sorted((triangle[e], triangle[(e + 1) % 3]), key=lambda p: p[1])
                if low[1] <= center < high[1]:
                    crossings.append(low[0] + (center - low[1]) * ((high[0] - low[0]) / (high[1] - low[1])))
            if len(crossings) == 2 and min(crossings) < max(crossings):
                for column in range(int(np.ceil(min(crossings) - 0.5)), int(np.ceil(max(crossings) - 0.5))):
                    found.append((t, row, column))
    return found


def drop(
    profiles: list[list[list[tuple[int, int]]]], cells: list[tuple[int, int]], order: list[int], grid: int
) -> list[tuple[int, int, int]]:
    """Packs charts on a grid, each as low as it gets. profiles[chart][axis][column] = lowest and highest cell;
    cells[chart] = width, height. Returns turn, column and level of each chart."""
    taken = np.zeros((grid, 4 * grid), dtype=bool)
    placed = [(0, 0, 0)] * len(cells)
    for chart in order:
        best: tuple[int, int, int, int] | None = None
        for turn in (0, 1):
            spans = profiles[chart][turn][:: 1 - 2 * turn]
            for column in range(grid - len(spans) + 1):
                level = 0
                while any(taken[column + j, level + low : level + high].any() for j, (low, high) in enumerate(spans)):
                    level += 1
                score = 2 * level + cells[chart][1 - turn]
                if best is None or score < best[0]:
                    best = (score, turn, column, level)
        assert best is not None
        turn, column, level = placed[chart] = best[1:]
        for j, (low, high) in enumerate(profiles[chart][turn][:: 1 - 2 * turn]):
            taken[column + j, level + low : level + high] = True
    return placed


def fold_degrees(vertices: np.ndarray, triangles: np.ndarray) -> float:
    """Largest angle between the normals of two triangles that share an edge."""
    corners = vertices[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    sides: dict[frozenset[int], int] = {}
    largest = 0.0
    for t, triangle in enumerate(triangles.tolist()):
        for k in range(3):
            edge = frozenset((triangle[k], triangle[(k + 1) % 3]))
            if edge in sides:
                cosine = float(np.clip(normals[sides[edge]] @ normals[t], -1.0, 1.0))
                largest = max(largest, float(np.degrees(np.arccos(cosine))))
            sides[edge] = t
    return largest
