# SPDX-License-Identifier: GPL-3.0-or-later
"""Products with constant matrices against dense autograd."""

from __future__ import annotations

import pytest
import torch

from backend.kernels.linear_maps import SparseMap, dense_product

ROWS = torch.tensor([0, 4, 2, 2, 2, 0])
COLUMNS = torch.tensor([3, 0, 1, 1, 2, 0])
VALUES = torch.tensor([0.5, -2.0, 1.0, 0.25, 3.0, 7.0])  # (2, 1) comes twice; rows 1 and 3 are empty


def dense_gradient(matrix: torch.Tensor, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(((matrix @ x) * weights).sum(), x)
    return gradient


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 1), (300, 24, 3)])
def test_dense_product_is_the_product(device: str, shape: tuple[int, int, int]) -> None:
    m, n, c = shape
    torch.manual_seed(1)
    matrix, x, weights = (torch.randn(s, device=device) for s in ((m, n), (n, c), (m, c)))
    x.requires_grad_()
    result = dense_product(matrix, x)
    assert result.shape == (m, c)
    torch.testing.assert_close(result, matrix @ x, atol=1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad((result * weights).sum(), x)
    torch.testing.assert_close(gradient, dense_gradient(matrix, x, weights), atol=1e-4, rtol=1e-4)


def test_the_matrix_of_a_dense_product_gets_no_gradient() -> None:
    matrix, x = torch.rand(3, 2, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    dense_product(matrix, x).sum().backward()
    assert matrix.grad is None and x.grad is not None


def test_sparse_map_is_the_product(device: str) -> None:
    dense = torch.zeros(5, 4)
    dense.index_put_((ROWS, COLUMNS), VALUES, accumulate=True)
    assert dense[2, 1] == 1.25  # or this test could not see entries that replace each other
    dense = dense.to(device)
    sparse = SparseMap(ROWS.to(device), COLUMNS.to(device), VALUES.to(device), (5, 4))
    torch.manual_seed(2)
    x, weights = torch.randn(4, 3, device=device, requires_grad=True), torch.randn(5, 3, device=device)
    result = sparse(x)
    torch.testing.assert_close(result, dense @ x)
    assert (result[[1, 3]] == 0).all()
    (gradient,) = torch.autograd.grad((result * weights).sum(), x)
    torch.testing.assert_close(gradient, dense_gradient(dense, x, weights))


def test_sparse_map_takes_gradients_and_inputs_of_any_layout() -> None:
    sparse = SparseMap(ROWS, COLUMNS, VALUES, (5, 4))
    x = torch.arange(12.0).view(3, 4)
    torch.testing.assert_close(sparse(x.T), sparse(x.T.contiguous()))
    x.requires_grad_()
    sparse(x.T).sum().backward()  # the gradient that arrives is an expanded scalar
    column_sums = torch.zeros(4).index_add_(0, COLUMNS, VALUES)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, column_sums.expand(3, 4))


def test_a_sparse_map_without_entries_is_zero() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    x = torch.rand(4, 3, requires_grad=True)
    result = SparseMap(none, none, torch.zeros(0), (5, 4))(x)
    assert result.shape == (5, 3) and not result.any()
    result.sum().backward()
    assert x.grad is not None and not x.grad.any()


def test_a_sparse_map_that_does_not_learn_has_no_gradient(device: str) -> None:
    rows, columns, values = (x.to(device) for x in (ROWS, COLUMNS, VALUES))
    x = torch.rand(4, 3, device=device, requires_grad=True)
    result = SparseMap(rows, columns, values, (5, 4), learns=False)(x)
    torch.testing.assert_close(result, SparseMap(rows, columns, values, (5, 4))(x.detach()))
    assert not result.requires_grad
