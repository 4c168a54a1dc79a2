# SPDX-License-Identifier: GPL-3.0-or-later
"""Products and solutions with I + λL, L the combinatorial Laplacian of a mesh, without reductions.

The solver is the Chebyshev semi-iteration (Golub & Varga 1961) on the matrix scaled by its diagonal. Its coefficients
follow from bounds of the spectrum alone, so that an iteration is one launch and nothing is measured on the way:

    x_(k+1) = x_k + α_k (x_k − x_(k−1)) + β_k D⁻¹ (b − A x_k)

`bounds` finds them for D⁻¹A, A = 1 + λ (degree − W), D = 1 + λ·degree, W the adjacency matrix. Low end: the constant
vector has the Rayleigh quotient 1 / (1 + λ·mean degree), and the lowest eigenvalue lies a few percent below; should it
lie lower still, its part of the error only falls more slowly. High end: 1 + λ·degree / (1 + λ·degree), by the sums of
rows, is nearly 2; but from Σ (x_i + x_j + x_k)² ≥ 0 over the triangles follows xᵀWx ≥ −½ Σ degree·x² where each edge
has two triangles, hence 1.5. An edge with m triangles is made up for by |2 − m| terms (x_i ± x_j)² ≥ 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
import warp as wp
from scipy import sparse
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch_range

wp.set_module_options(MODULE_OPTIONS)

LOW_END = 0.95  # of the constant vector's Rayleigh quotient


@dataclass(frozen=True)
class LaplacianMatrix:
    """I + λL on one mesh.

    Attributes:
        strength: λ.
        row_starts: [V + 1] int32, where each vertex' neighbors begin.
        neighbors: [2E] int32.
        spectrum: low and high bound of the eigenvalues of D⁻¹(I + λL).
    """

    strength: float
    row_starts: Tensor
    neighbors: Tensor
    spectrum: tuple[float, float]

    @staticmethod
    def of(triangles: Tensor, vertex_count: int, strength: float) -> LaplacianMatrix:
        """For `triangles` [T, 3], on their device."""
        faces = triangles.long().cpu().numpy()
        sides = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
        sides = np.sort(sides[sides[:, 0] != sides[:, 1]], axis=1)
        keys, uses = np.unique(sides[:, 0] * vertex_count + sides[:, 1], return_counts=True)
        edges = np.stack((keys // vertex_count, keys % vertex_count), axis=1)  # [E, 2]
        both = np.concatenate((edges, edges[:, ::-1]))
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        degrees = np.bincount(both[:, 0], minlength=vertex_count)
        starts = np.concatenate(([0], np.cumsum(degrees)))
        row_starts, neighbors = (
            torch.from_numpy(x.astype(np.int32)).to(triangles.device) for x in (starts, both[:, 1])
        )
        return LaplacianMatrix(strength, row_starts, neighbors, bounds(edges, uses, degrees, strength))

    def __matmul__(self, x: Tensor) -> Tensor:
        """The product [V, 3] float32 with x [V, 3] float32."""
        x = x.detach().contiguous()
        result = torch.empty_like(x)
        inputs = [self.strength, *self._arrays(), as_warp(x, wp.vec3)]
        launch_range(_multiply, len(x), inputs, [as_warp(result, wp.vec3)], x.device)
        return result

    def iterations(self, reduction: float) -> int:
        """Even number of iterations after which an error is below `reduction` times what it was, in the norm of D."""
        low, high = self.spectrum
        if high - low < 1e-6 * high:
            return 2
        wanted = math.acosh(1 / reduction) / math.acosh((high + low) / (high - low))
        return 2 * math.ceil(wanted / 2)

    def solve(self, right: Tensor, solution: Tensor, scratch: Tensor, iterations: int) -> None:
        """Improve `solution` [V, 3] of A·solution = right in place by an even number of iterations.

        `right`, `solution` and `scratch`, which is overwritten, are [V, 3] float32 and contiguous.
        """
        assert iterations % 2 == 0 and all(t.is_contiguous() for t in (right, solution, scratch))
        arrays, source = self._arrays(), as_warp(right, wp.vec3)
        present, other = as_warp(solution, wp.vec3), as_warp(scratch, wp.vec3)
        for momentum, step in _coefficients(self.spectrum, iterations):
            inputs = [self.strength, momentum, step, *arrays, source, present]
            launch_range(_iterate, len(right), inputs, [other], right.device)
            present, other = other, present

    def _arrays(self) -> list[Any]:
        return [as_warp(self.row_starts, wp.int32), as_warp(self.neighbors, wp.int32)]


def bounds(edges: np.ndarray, uses: np.ndarray, degrees: np.ndarray, strength: float) -> tuple[float, float]:
    """Low and high bound of the eigenvalues of D⁻¹(I + λL).

    Args:
        edges: [E, 2] vertices.
        uses: [E] triangles at each edge.
        degrees: [V] edges at each vertex.
        strength: λ.
    """
    if not len(edges):
        return 1.0, 1.0
    count = len(degrees)
    links = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    parts = sparse.csgraph.connected_components(links, directed=False)[1]
    mean_degree = float((np.bincount(parts, degrees) / np.bincount(parts)).max())
    diagonal = 1 + strength * degrees
    row_sum = float((strength * degrees / diagonal).max())
    low = max(1 - row_sum, LOW_END / (1 + strength * mean_degree))
    ends, weights = edges.reshape(-1), np.repeat(uses / 2 + np.abs(2 - uses), 2)  # a triangle counts at two edges
    corners = np.bincount(ends, weights, count)
    return low, 1 + min(row_sum, float((strength / 2 * corners / diagonal).max()))


def _coefficients(spectrum: tuple[float, float], count: int) -> list[tuple[float, float]]:
    """α_k and β_k of the first `count` iterations."""
    center, half = (spectrum[1] + spectrum[0]) / 2, (spectrum[1] - spectrum[0]) / 2
    if half < 1e-6 * center:
        return [(0.0, 1 / center)] * count
    rho = half / center
    found = [(0.0, 1 / center)]
    for _ in range(count - 1):
        following = 1 / (2 * center / half - rho)
        found.append((following * rho, 2 * following / half))
        rho = following
    return found


@wp.func
@no_type_check
def _row(
    i: wp.int32,
    strength: wp.float32,
    row_starts: wp.array(dtype=wp.int32),
    neighbors: wp.array(dtype=wp.int32),
    x: wp.array(dtype=wp.vec3),
) -> wp.vec3:
    """Row i of (I + λL) x. Differences first: they keep the accuracy where neighbors are much alike."""
    here = x[i]
    total = wp.vec3(0.0, 0.0, 0.0)
    for k in range(row_starts[i], row_starts[i + 1]):
        total += here - x[neighbors[k]]
    return here + strength * total


@wp.kernel
@no_type_check
def _multiply(
    begin: wp.int32,
    strength: wp.float32,
    row_starts: wp.array(dtype=wp.int32),
    neighbors: wp.array(dtype=wp.int32),
    x: wp.array(dtype=wp.vec3),
    result: wp.array(dtype=wp.vec3),
):
    i = begin + wp.tid()
    result[i] = _row(i, strength, row_starts, neighbors, x)


@wp.kernel
@no_type_check
def _iterate(
    begin: wp.int32,
    strength: wp.float32,
    momentum: wp.float32,
    step: wp.float32,
    row_starts: wp.array(dtype=wp.int32),
    neighbors: wp.array(dtype=wp.int32),
    right: wp.array(dtype=wp.vec3),
    present: wp.array(dtype=wp.vec3),
    other: wp.array(dtype=wp.vec3),
):
    """`other` is x_(k-1) before and x_(k+1) after; the first iteration, without momentum, does not read it."""
    i = begin + wp.tid()
    here = present[i]
    residual = right[i] - _row(i, strength, row_starts, neighbors, present)
    diagonal = 1.0 + strength * wp.float32(row_starts[i + 1] - row_starts[i])
    following = here + (step / diagonal) * residual
    if momentum != 0.0:
        following += momentum * (here - other[i])
    other[i] = following
