# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertices that move in large smooth steps (Nicolet, Jacobson, Jakob, "Large Steps in Inverse Rendering", 2021).

The parameter is u = (I + λL) v with the combinatorial Laplacian L of the mesh; v = (I + λL)⁻¹ u spreads every gradient
over a neighborhood. On the CPU the matrix is factorised once, on a GPU the system is solved by conjugate gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

CG_ITERATIONS = 25  # residual below 1e-4 for λ up to 30, started from the previous solution


class LargeSteps:
    """The map between vertices v [V, 3] and their preconditioned coordinates u [V, 3] on one topology."""

    def __init__(self, vertices: Tensor, triangles: Tensor, strength: float) -> None:
        count = len(vertices)
        faces = triangles.long().cpu().numpy()
        a = np.concatenate((faces[:, 0], faces[:, 1], faces[:, 2]))
        b = np.concatenate((faces[:, 1], faces[:, 2], faces[:, 0]))
        links = sparse.coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(count, count)).tocsr()
        links.data[:] = 1.0
        degree = np.asarray(links.sum(1)).ravel()
        matrix = (sparse.eye(count) + strength * (sparse.diags(degree) - links)).tocsc()
        self._device = vertices.device
        self._solve: Callable[[Tensor], Tensor]
        coo = matrix.tocoo()
        indices = torch.from_numpy(np.stack((coo.row, coo.col))).long()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")  # torch calls its CSR tensors beta
            self._matrix = torch.sparse_coo_tensor(indices, torch.from_numpy(coo.data).float(), coo.shape)
            self._matrix = self._matrix.to(self._device).to_sparse_csr()
        if self._device.type == "cpu":
            factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
            self._solve = lambda right: torch.from_numpy(factors.solve(right.double().numpy())).float()
        else:
            self._inverse_diagonal = torch.from_numpy(1 / (1 + strength * degree)).float().to(self._device)[:, None]
            self._last: dict[str, Tensor] = {}
        self._initial = vertices.detach().clone()

    def to_parameters(self, vertices: Tensor) -> Tensor:
        """u for given vertices."""
        return self._matrix @ vertices

    def to_vertices(self, parameters: Tensor) -> Tensor:
        """v for given u; differentiable."""
        result: Tensor = _Solve.apply(parameters, self)
        return result

    def solve(self, right: Tensor, which: str) -> Tensor:
        """(I + λL)⁻¹ right [V, 3]; `which` names the series of systems whose last solution starts this one."""
        if self._device.type == "cpu":
            return self._solve(right)
        start = self._last.get(which)
        if start is None:
            start = self._initial.clone() if which == "forward" else torch.zeros_like(right)
        self._last[which] = solution = self._conjugate_gradients(right, start)
        return solution

    def _conjugate_gradients(self, right: Tensor, solution: Tensor) -> Tensor:
        residual = right - self._matrix @ solution
        z = self._inverse_diagonal * residual
        direction, rho = z, (residual * z).sum(0)
        for _ in range(CG_ITERATIONS):
            image = self._matrix @ direction
            step = rho / (direction * image).sum(0).clamp(min=1e-30)
            solution = solution + step * direction
            residual = residual - step * image
            z = self._inverse_diagonal * residual
            rho, previous = (residual * z).sum(0), rho
            direction = z + rho / previous.clamp(min=1e-30) * direction
        return solution


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameters: Tensor, system: LargeSteps) -> Tensor:
        ctx.system = system
        return system.solve(parameters.detach(), "forward")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.system.solve(gradient, "backward"), None
