# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from backend.kernels.hash_grid import HashGridConfig, hash_encode, make_table
from backend.kernels.reference import hash_grid as reference

CONFIG = HashGridConfig(levels=5, features=2, log2_table_size=11, base_resolution=4, finest_resolution=700)


def _positions(count: int = 300) -> torch.Tensor:
    """Random points, some outside the cube, and the places where cells meet."""
    generator = torch.Generator().manual_seed(7)
    inside = torch.rand(count, 3, generator=generator)
    outside = torch.rand(20, 3, generator=generator) * 3.0 - 1.0
    special = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.5], [0.5, 0.25, 0.75], [0.999999, 1.0, 0.0]])
    return torch.cat([inside, outside, special])


def _big_table(config: HashGridConfig) -> torch.Tensor:
    return make_table(config, generator=torch.Generator().manual_seed(1)) * 1e4


def test_config_levels() -> None:
    assert CONFIG.resolutions[0] == 4 and CONFIG.resolutions[-1] == 700
    assert list(CONFIG.resolutions) == sorted(CONFIG.resolutions)
    assert CONFIG.dense(0) and not CONFIG.dense(4)
    assert CONFIG.sizes[0] == 125 and CONFIG.sizes[4] == 2048
    assert CONFIG.entries == CONFIG.offsets[-1] + CONFIG.sizes[-1]
    assert HashGridConfig(1, 2, 15, 8, 8).resolutions == (8,)
    assert HashGridConfig(16, 2, 19, 16, 2048).resolutions[-1] == 2048


def test_make_table_range_and_seed() -> None:
    first = make_table(CONFIG, generator=torch.Generator().manual_seed(3))
    again = make_table(CONFIG, generator=torch.Generator().manual_seed(3))
    assert first.shape == (CONFIG.entries, 2) and torch.equal(first, again)
    assert 0.5e-4 < float(first.abs().max()) <= 1e-4


@pytest.mark.parametrize("features", [2, 4])
@pytest.mark.parametrize("active", [None, 0, 3])
def test_values_and_gradients(device: str, features: int, active: int | None) -> None:
    config = HashGridConfig(5, features, 11, 4, 700)
    positions, table = _positions(), _big_table(config)
    exact_positions, exact_table = positions.double().requires_grad_(), table.double().requires_grad_()
    expected = reference.hash_encode(exact_positions, exact_table, config, active)
    positions, table = positions.to(device).requires_grad_(), table.to(device).requires_grad_()
    encoding = hash_encode(positions, table, config, active)
    assert encoding.shape == (positions.shape[0], config.width)
    # float32 coordinates on a grid of 700 cells: weights are exact to 700 · 2^-24
    torch.testing.assert_close(encoding.cpu().double(), expected, rtol=0, atol=3e-4)
    if active == 0:
        assert not encoding.any()

    weights = torch.randn(encoding.shape, generator=torch.Generator().manual_seed(2))
    (encoding * weights.to(device)).sum().backward()
    if active != 0:
        (expected * weights).sum().backward()
        torch.testing.assert_close(table.grad.cpu().double(), exact_table.grad, rtol=0, atol=1e-3)
        # where a float32 product falls on the other side of a cell wall the slope is another one: leave walls out
        scaled = positions.detach().cpu().double()[:, None, :] * torch.tensor(config.resolutions).view(1, -1, 1)
        near = ((scaled - scaled.round()).abs() < 1e-3).flatten(1).any(1)
        error = (positions.grad.cpu().double() - exact_positions.grad)[~near].abs().max()
        assert float(error) < 1e-3 * float(exact_positions.grad.abs().max())
    else:
        assert not table.grad.any() and not positions.grad.any()


def test_locked_levels_match_masked_levels(device: str) -> None:
    positions, table = _positions().to(device), _big_table(CONFIG).to(device).requires_grad_()
    mask = (torch.arange(CONFIG.width, device=device) < 2 * CONFIG.features).float()
    (full,) = torch.autograd.grad((hash_encode(positions, table, CONFIG) * mask).sum(), table)
    locked = hash_encode(positions, table, CONFIG, 2)
    torch.testing.assert_close(locked, hash_encode(positions, table, CONFIG) * mask)
    (part,) = torch.autograd.grad(locked.sum(), table)
    torch.testing.assert_close(part, full)
    assert not part[CONFIG.offsets[2] :].any()


def test_outside_is_clamped_without_slope(device: str) -> None:
    table = _big_table(CONFIG).to(device)
    positions = torch.tensor([[-0.5, 0.3, 0.7], [0.3, 1.5, 0.7]], device=device, requires_grad=True)
    encoding = hash_encode(positions, table, CONFIG)
    torch.testing.assert_close(encoding, hash_encode(positions.detach().clamp(0, 1), table, CONFIG))
    encoding.square().sum().backward()
    assert positions.grad[0, 0] == 0 and positions.grad[1, 1] == 0
    assert bool((positions.grad[0, 1:] != 0).all())


def test_continuous_across_cells(device: str) -> None:
    table = _big_table(CONFIG).to(device)
    walls = torch.tensor(
        [[k / 700 + s * 1e-6, 0.31, 0.77] for k in range(1, 100, 7) for s in (-1.0, 1.0)], device=device
    )
    encoding = hash_encode(walls, table, CONFIG).view(-1, 2, CONFIG.width)
    assert float((encoding[:, 0] - encoding[:, 1]).abs().max()) < 0.01


def test_not_a_number_stays_inside_the_table(device: str) -> None:
    table = _big_table(CONFIG).to(device).requires_grad_()
    bad = torch.tensor([[float("nan"), 0.5, 0.5], [float("inf"), -float("inf"), 1e30], [0.5, 0.5, 0.5]], device=device)
    encoding = hash_encode(bad, table, CONFIG)
    encoding[2].sum().backward()
    assert bool(encoding[2].isfinite().all()) and bool(encoding[1].isfinite().all())


def test_no_points_and_strided_input(device: str) -> None:
    table = _big_table(CONFIG).to(device).requires_grad_()
    empty = hash_encode(torch.empty(0, 3, device=device), table, CONFIG)
    empty.sum().backward()
    assert empty.shape == (0, CONFIG.width) and not table.grad.any()
    positions = _positions().to(device)
    strided = positions.t().contiguous().t()
    assert not strided.is_contiguous()
    torch.testing.assert_close(hash_encode(strided, table, CONFIG), hash_encode(positions, table, CONFIG))


def test_only_wanted_gradients() -> None:
    positions, table = _positions().requires_grad_(), _big_table(CONFIG)
    hash_encode(positions, table, CONFIG).sum().backward()
    assert positions.grad is not None and table.grad is None
