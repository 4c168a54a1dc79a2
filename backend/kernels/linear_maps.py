# SPDX-License-Identifier: GPL-3.0-or-later
"""Products with constant matrices whose gradients cost no more than the products themselves."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import warp as wp
from torch import Tensor

from . import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)


class _DenseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.matrix = matrix
        return (x.t().contiguous() @ matrix.t()).t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient.t().contiguous() @ ctx.matrix).t(), None


def dense_product(matrix: Tensor, x: Tensor) -> Tensor:
    """W x [M, C] for a constant W [M, N] and x [N, C] with few channels; differentiable in x.

    Both products run with contiguous channels first: on the CPU six times as fast as a tall matrix of three columns.
    """
    result: Tensor = _DenseProduct.apply(x, matrix)
    return result


class SparseMap:
    """A constant sparse matrix [M, N] with its transpose at hand for gradients."""

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], learns: bool = True
    ) -> None:
        """Entries `values` [K] float32 at `rows`, `columns` [K] int64; entries at one place add up.

        Without `learns` no transpose is kept, and products have no gradient.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")  # torch calls its CSR tensors beta
            indices = torch.stack((rows, columns))
            matrix = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False).coalesce()
            self.matrix = matrix.to_sparse_csr()
            self.transposed = matrix.t().coalesce().to_sparse_csr() if learns else None

    def __call__(self, x: Tensor) -> Tensor:
        """The product [M, C] with x [N, C]; differentiable in x if the map learns."""
        if self.transposed is None:
            return _product(self.matrix, x.detach())
        result: Tensor = _SparseProduct.apply(x, self)
        return result


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: SparseMap) -> Tensor:
        ctx.transposed = operator.transposed
        return _product(operator.matrix, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _product(ctx.transposed, gradient), None


@wp.kernel
def _multiply_rows(
    starts: wp.array(dtype=wp.int64),
    columns: wp.array(dtype=wp.int64),
    values: wp.array(dtype=float),
    x: wp.array2d(dtype=float),
    result: wp.array2d(dtype=float),
) -> None:
    row, channel = wp.tid()
    total = wp.float32(0.0)
    for k in range(wp.int32(starts[row]), wp.int32(starts[row + 1])):
        total += values[k] * x[wp.int32(columns[k]), channel]
    result[row, channel] = total


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """CSR `matrix` [M, N] times x [N, C]."""
    if x.device.type != "cuda":
        return matrix @ x.contiguous()
    # cuSPARSE makes descriptors in every call and fails to start beside some other CUDA libraries.
    result = torch.empty((matrix.shape[0], x.shape[1]), device=x.device)
    arrays = [(matrix.crow_indices(), wp.int64), (matrix.col_indices(), wp.int64), (matrix.values(), wp.float32)]
    inputs = [bridge.as_warp(part, kind) for part, kind in arrays]
    rows, outcome = bridge.as_warp(x, wp.float32), bridge.as_warp(result, wp.float32)
    bridge.launch(_multiply_rows, tuple(result.shape), [*inputs, rows], [outcome], device=x.device)
    return result
