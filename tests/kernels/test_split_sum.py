# SPDX-License-Identifier: GPL-3.0-or-later
"""The shading kernels by themselves: what is linear, padding, gradients that nobody asked for, cores, CUDA graphs.

Values and gradients are compared with the slow reference in tests/appearance/test_shading.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.kernels.bridge import SPLIT_FROM
from backend.kernels.shadows import Shadows
from backend.kernels.split_sum import Levels, shade_split_sum
from backend.kernels.timing import recorded

LEVELS = Levels((8, 8, 4, 2, 4), 0.3)
VERTICES, TRIANGLES = 40, 60


class Scene:
    """`count` random pixels under random light; the differentiable inputs are leaves."""

    def __init__(self, count: int, device: str, shadowed: bool = True, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def random(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator)

        normal = F.normalize(2 * random(count, 3) - 1, dim=-1)
        view = F.normalize(normal + 1.2 * random(count, 3), dim=-1)
        texels = 2 * random(sum(6 * side * side for side in LEVELS.sides), 3)
        self.inputs = [x.to(device).requires_grad_() for x in (random(count, 5), normal, view, texels)]
        self.table = (0.1 + 0.8 * random(5, 6, 9)).to(device)
        self.shadows = None
        if shadowed:
            self.inputs.append((2 * random(count, 3)).to(device).requires_grad_())
            visibility = (random(VERTICES, 6 * (16 + 4 + 1)) * 255).to(torch.uint8)
            triangles = torch.randint(VERTICES, (TRIANGLES, 3), generator=generator, dtype=torch.int32)
            ids = torch.randint(TRIANGLES, (count,), generator=generator, dtype=torch.int32)
            places = (ids, random(count, 2) / 2, triangles, visibility)
            self.shadows = Shadows(*(x.to(device) for x in places), (4, 2, 1), (2 * random(VERTICES, 24, 3)).to(device))

    def shade(self, *inputs: torch.Tensor, encoded: bool = False) -> torch.Tensor:
        material, normal, view, texels, *arriving = inputs or self.inputs
        return shade_split_sum(
            material, normal, view, texels, LEVELS, self.table, *(arriving or [None]), self.shadows, encoded
        )

    def gradients(self, encoded: bool = False) -> list[torch.Tensor]:
        color = self.shade(encoded=encoded)
        weights = torch.rand(color.shape, generator=torch.Generator().manual_seed(9)).to(color) - 0.3
        return list(torch.autograd.grad((color * weights).sum(), self.inputs))


@pytest.mark.parametrize("shadowed", [False, True])
@pytest.mark.parametrize("count", [500, SPLIT_FROM + 77])
def test_radiance_is_linear_in_light_and_glow(device: str, count: int, shadowed: bool) -> None:
    scene = Scene(count, device, shadowed)
    scene.shade()  # the first launch of a kernel is not divided among cores
    material, normal, view, texels, *arriving = scene.inputs
    color = scene.shade().double().sum()
    (gradient,) = torch.autograd.grad(color, texels)
    predicted = float((gradient.double() * texels.detach()).sum())
    if scene.shadows is not None:
        glowing = []
        for factor in (1, 2):
            scene.shadows = replace(scene.shadows, glow=factor * scene.shadows.glow)
            dark = scene.shade(material, normal, view, 0 * texels, *arriving)
            glowing.append(float(dark.detach().double().sum()))
        assert glowing[1] == pytest.approx(2 * glowing[0], rel=1e-5) and glowing[0] > 0.01 * float(color.detach())
        predicted += glowing[0]
    assert predicted == pytest.approx(float(color.detach()), rel=1e-5)


def test_a_large_launch_is_many_small_ones(device: str) -> None:
    """On the CPU it runs on all cores, each with its copy of the light's gradient."""
    count = SPLIT_FROM + 1001
    scene = Scene(count, device)
    scene.gradients()
    whole, weights = scene.shade(), torch.rand(count, 3, device=device)
    light = torch.autograd.grad(whole, scene.inputs[3], weights)[0]
    full, texels = scene.shadows, scene.inputs[3]
    assert full is not None
    colors, sums = [], torch.zeros_like(light)
    for rows in torch.arange(count, device=device).split(5000):
        ids, places = full.triangle_ids[rows], full.barycentrics[rows]
        scene.shadows = replace(full, triangle_ids=ids, barycentrics=places)
        colors.append(scene.shade(*(x if x is texels else x[rows] for x in scene.inputs)))
        sums += torch.autograd.grad(colors[-1], texels, weights[rows])[0]
    torch.testing.assert_close(torch.cat(colors), whole)
    torch.testing.assert_close(sums, light, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("encoded", [False, True])
def test_padding_is_black_and_passes_no_gradient(device: str, encoded: bool) -> None:
    count = 300
    scene = Scene(count, device)
    before, color = scene.gradients(encoded), scene.shade(encoded=encoded)
    empty, hidden = torch.arange(count) % 3 == 0, torch.arange(count) % 7 == 1
    with torch.no_grad():
        for k in (1, 2):
            scene.inputs[k][empty] = 0.0
        scene.inputs[0][hidden] = float("nan")
        scene.inputs[4][hidden] = float("nan")
    assert scene.shadows is not None
    ids = scene.shadows.triangle_ids.clone()
    ids[hidden] = -1
    scene.shadows = replace(scene.shadows, triangle_ids=ids)
    after, padded = scene.gradients(encoded), scene.shade(encoded=encoded)
    black = empty | hidden
    assert not padded[black].any()
    torch.testing.assert_close(padded[~black], color[~black])
    for k in (0, 1, 2, 4):
        assert not after[k][black].any()
        torch.testing.assert_close(after[k][~black], before[k][~black])
    assert after[3].isfinite().all()
    # whatever arrives at a black pixel from above stays there
    above = torch.ones_like(padded)
    above[black] = float("nan")
    for gradient in torch.autograd.grad(scene.shade(encoded=encoded), scene.inputs, above):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("shadowed", [False, True])
def test_no_pixels(device: str, shadowed: bool) -> None:
    scene = Scene(0, device, shadowed)
    assert scene.shade().shape == (0, 3)
    gradients = scene.gradients()
    assert [g.shape for g in gradients] == [x.shape for x in scene.inputs]
    assert not gradients[3].any()


def test_only_wanted_gradients_are_computed_and_none_depends_on_another(device: str) -> None:
    scene = Scene(400, device)
    expected = scene.gradients(encoded=True)
    for k in range(5):
        inputs = [x if j == k else x.detach() for j, x in enumerate(scene.inputs)]
        color = scene.shade(*inputs, encoded=True)
        weights = torch.rand(color.shape, generator=torch.Generator().manual_seed(9)).to(color) - 0.3
        (gradient,) = torch.autograd.grad((color * weights).sum(), [inputs[k]])
        torch.testing.assert_close(gradient, expected[k], rtol=1e-4, atol=1e-4)


def test_inputs_need_not_be_contiguous(device: str) -> None:
    scene = Scene(200, device)
    spread = [torch.stack((x.detach(), x.detach()), dim=-1)[..., 0] for x in scene.inputs]
    assert not spread[0].is_contiguous()
    torch.testing.assert_close(scene.shade(*spread), scene.shade())


@pytest.mark.cuda
@pytest.mark.parametrize("shadowed", [False, True])
def test_can_be_recorded_in_a_graph(shadowed: bool) -> None:
    scene = Scene(5000, "cuda", shadowed)
    weights = torch.rand(5000, 3, device="cuda")

    def step() -> tuple[Tensor, tuple[Tensor, ...]]:
        color = scene.shade(encoded=True)
        return color, torch.autograd.grad(color, scene.inputs, weights)

    repeat = recorded(step)
    with torch.no_grad():
        scene.inputs[0].mul_(0.7)
        scene.inputs[3].mul_(0.5)
        if scene.shadows is not None:
            scene.shadows.glow.mul_(3.0)
    color, gradients = repeat()
    expected = scene.shade(encoded=True)
    torch.testing.assert_close(color, expected)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, scene.inputs, weights)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
