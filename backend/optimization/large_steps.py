# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertices that move in large smooth steps (Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering", 2021).

The parameter is u = (I + λL) v with the combinatorial Laplacian L of the mesh; v = (I + λL)⁻¹ u spreads every gradient
over a neighborhood. On the CPU the matrix is factorised once; a GPU iterates without waiting for anything, so that a
step can be recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from ..kernels.laplacian_solve import LaplacianMatrix

REDUCTION = 1e-3  # of the error, in each solution by iteration


class LargeSteps:
    """The map between vertices v [V, 3] and their preconditioned coordinates u [V, 3] on one topology."""

    def __init__(self, vertices: Tensor, triangles: Tensor, strength: float) -> None:
        self._matrix = LaplacianMatrix.of(triangles, len(vertices), strength)
        factorised = vertices.device.type == "cpu"
        self._system = _Factors(self._matrix) if factorised else ChebyshevSystem(self._matrix, vertices)

    def to_parameters(self, vertices: Tensor) -> Tensor:
        """u for given vertices."""
        return self._matrix @ vertices

    def to_vertices(self, parameters: Tensor) -> Tensor:
        """v for given u; differentiable."""
        result: Tensor = _Solve.apply(parameters, self._system)
        return result


class _Factors:
    """Solves by a sparse factorisation."""

    def __init__(self, matrix: LaplacianMatrix) -> None:
        starts, neighbors = matrix.row_starts.numpy(), matrix.neighbors.numpy()
        count = len(starts) - 1
        links = sparse.csr_matrix((np.ones(len(neighbors)), neighbors, starts), shape=(count, count))
        laplacian = sparse.diags(np.diff(starts).astype(np.float64)) - links
        self._factors = splu(
            (sparse.eye(count) + matrix.strength * laplacian).tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            options={"SymmetricMode": True},
            diag_pivot_thresh=0.0,
        )

    def forward(self, right: Tensor) -> Tensor:
        """(I + λL)⁻¹ right [V, 3]."""
        return torch.from_numpy(self._factors.solve(right.double().numpy())).float()

    backward = forward


class ChebyshevSystem:
    """Solves by iteration, in a fixed number of launches on any device.

    `forward` starts from its last solution, which it keeps in the same memory when a recorded step is repeated.
    `backward` starts from zero: gradients of different views have little in common.
    """

    def __init__(self, matrix: LaplacianMatrix, vertices: Tensor) -> None:
        self._matrix = matrix
        self._iterations = matrix.iterations(REDUCTION)
        self._solution = vertices.detach().clone(memory_format=torch.contiguous_format)
        self._scratch = torch.empty_like(self._solution)

    def forward(self, right: Tensor) -> Tensor:
        """(I + λL)⁻¹ right [V, 3], from a solution of a similar system."""
        self._matrix.solve(right.contiguous(), self._solution, self._scratch, self._iterations)
        return self._solution.clone()

    def backward(self, right: Tensor) -> Tensor:
        """(I + λL)⁻¹ right [V, 3]."""
        solution = torch.zeros_like(self._solution)
        self._matrix.solve(right.contiguous(), solution, self._scratch, self._iterations)
        return solution


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameters: Tensor, system: _Factors | ChebyshevSystem) -> Tensor:
        ctx.system = system
        return system.forward(parameters.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.system.backward(gradient), None
