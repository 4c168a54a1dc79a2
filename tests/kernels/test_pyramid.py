# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import torch

from backend.kernels.pyramid import build_mip_pyramid, cube_mips, make_pyramid, pack


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 4, 2), (7, 5, 2), (9, 2, 1), (6, 8, 8, 3), (6, 5, 5, 2)])
def test_pyramid(device: str, shape: tuple[int, ...]) -> None:
    base = torch.rand(*shape, generator=_generator(6)).to(device).requires_grad_()
    levels = build_mip_pyramid(base) if len(shape) == 3 else cube_mips(base)
    assert levels[-1].shape[-3:-1] == (1, 1) and torch.equal(levels[0], base)
    for fine, coarse in zip(levels, levels[1:]):
        assert coarse.shape[-3:-1] == tuple(max(1, size // 2) for size in fine.shape[-3:-1])
        torch.testing.assert_close(coarse.mean((-3, -2)), fine.mean((-3, -2)))
        if fine.shape[-3] % 2 == 0 and fine.shape[-2] % 2 == 0:
            planes = torch.nn.functional.avg_pool2d(fine.movedim(-1, -3), 2)
            torch.testing.assert_close(coarse, planes.movedim(-3, -1))
    # the filter is linear: the directional derivative along d is the pyramid of d
    weights = [torch.randn(level.shape, generator=_generator(7)).to(device) for level in levels]
    sum((level * weight).sum() for level, weight in zip(levels, weights)).backward()
    change = torch.randn(shape, generator=_generator(8)).to(device)
    moved = build_mip_pyramid(change) if len(shape) == 3 else cube_mips(change)
    expected = sum(float((level * weight).sum()) for level, weight in zip(moved, weights))
    assert float((base.grad * change).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_pyramid_odd_weights() -> None:
    texture = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).view(1, 5, 1)
    coarse = build_mip_pyramid(texture)[1].flatten()
    torch.testing.assert_close(coarse, torch.tensor([(1 + 2 + 4 / 2) / 2.5, (4 / 2 + 8 + 16) / 2.5]))


def test_pyramid_level_limit() -> None:
    assert len(build_mip_pyramid(torch.rand(64, 64, 1), 3)) == 3
    assert make_pyramid(torch.rand(6, 4, 4, 1), 1).shapes == ((4, 4),)


def test_pack_keeps_levels(device: str) -> None:
    levels = [
        torch.rand(6, side, side, 2, generator=_generator(side)).to(device).requires_grad_() for side in (5, 2, 3)
    ]
    packed = pack(levels)
    assert packed.shapes == ((5, 5), (2, 2), (3, 3)) and packed.faces == 6
    for level, again in zip(levels, packed.levels()):
        assert torch.equal(level, again)
    packed.levels()[1].sum().backward()
    assert bool((levels[1].grad == 1).all()) and not levels[0].grad.any()
