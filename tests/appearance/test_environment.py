# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest
import torch
import torch.nn.functional as F

from backend.appearance.cube_map import cube_directions, cube_solid_angles, cube_symmetries, downsample
from backend.appearance.environment import (
    EnvironmentLight,
    cube_to_latlong,
    latlong_directions,
    latlong_to_cube,
    prefilter,
    sample_latlong,
)
from backend.appearance.prefilter import cosine_lobe, ggx_lobe
from backend.kernels.texture import sample_cube
from tests.appearance.scenes import studio


def random_directions(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)


def convolve(base: torch.Tensor, lobe, axes: torch.Tensor, subdivisions: int) -> torch.Tensor:
    """The lobe's mean of the bilinear base around axes [P, 3], by brute force."""
    size = base.shape[1]
    directions = cube_directions(size, subdivisions).reshape(-1, 3)
    weights = lobe((axes @ directions.t()).clamp(-1, 1)) * cube_solid_angles(size, subdivisions).reshape(-1)
    return weights @ sample_cube(base, directions) / weights.sum(-1, keepdim=True)


def test_solid_angles_sum_to_the_sphere() -> None:
    assert abs(float(cube_solid_angles(16).double().sum()) - 4 * math.pi) < 1e-5
    torch.testing.assert_close(cube_solid_angles(8, 3).sum(-1), cube_solid_angles(8))


def test_conventions_of_latlong() -> None:
    """+x in the middle, +y a quarter from the left, +z at the top; the same in the lookup."""
    directions = latlong_directions(64)
    torch.testing.assert_close(directions[32, 64], torch.tensor([1.0, 0.0, 0.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(directions[32, 32], torch.tensor([0.0, 1.0, 0.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(directions[0, 0], torch.tensor([0.0, 0.0, 1.0]), atol=0.05, rtol=0)
    image = studio()
    back = sample_latlong(image, latlong_directions(64).reshape(-1, 3)).reshape(image.shape)
    torch.testing.assert_close(back, image, atol=1e-4, rtol=1e-4)


def test_latlong_round_trip_keeps_light() -> None:
    image = studio(64)
    environment = EnvironmentLight(32)
    environment.from_latlong(image)
    back = environment.to_latlong(64)
    assert back.shape == (64, 128, 3)
    assert (back - image).abs().mean() / image.mean() < 0.01
    area = latlong_directions(64)[..., :2].norm(dim=-1, keepdim=True)
    torch.testing.assert_close((back * area).sum((0, 1)), (image * area).sum((0, 1)), rtol=5e-3, atol=0)


def test_a_tiny_sun_survives_every_resampling() -> None:
    """Flux, not peak, is what resampling must keep, also into images coarser and finer than the cube."""
    sun = torch.full((128, 256, 3), 0.1)
    sun[40, 77] = 5000.0
    area = latlong_directions(128)[..., :2].norm(dim=-1, keepdim=True)
    flux = (sun * area).sum((0, 1)) / area.sum()
    for size in (8, 16, 64):
        cube = latlong_to_cube(sun, size)
        mean = (cube.reshape(-1, 3) * cube_solid_angles(size)[:, None]).sum(0) / (4 * math.pi)
        torch.testing.assert_close(mean, flux, rtol=0.03, atol=0)
        for height in (16, 128):
            image = cube_to_latlong(cube, height)
            area = latlong_directions(height)[..., :2].norm(dim=-1, keepdim=True)
            torch.testing.assert_close((image * area).sum((0, 1)) / area.sum(), mean, rtol=0.05, atol=0)


def test_downsample_keeps_flux() -> None:
    cube = torch.rand(6, 16, 16, 3)
    small = downsample(cube, 4)
    total = (cube.reshape(-1, 3) * cube_solid_angles(16)[:, None]).sum(0)
    torch.testing.assert_close((small.reshape(-1, 3) * cube_solid_angles(4)[:, None]).sum(0), total)


def test_symmetries_move_texels_to_the_wedge() -> None:
    permutations, symmetry, representative = cube_symmetries(8)
    assert permutations.shape == (48, 384) and len(permutations.unique(dim=0)) == 48
    centers = cube_directions(8)
    torch.testing.assert_close(centers[representative], centers.abs().sort(-1, descending=True).values)
    # angles between texels are kept
    move = permutations[37]
    torch.testing.assert_close(centers[move] @ centers[move].t(), centers @ centers.t())


@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_prefilter_matches_brute_force(resolution: int) -> None:
    environment = EnvironmentLight(resolution)
    environment.from_latlong(studio())
    base = environment.base().detach()
    light = environment.prefilter()
    axes = random_directions(60)
    for roughness in (0.2, 0.35, 0.6, 1.0):
        exact = convolve(base, ggx_lobe(roughness), axes, 96 // resolution)
        ours = light.radiance(axes, torch.full((60, 1), roughness))
        assert (ours - exact).abs().mean() / exact.mean() < 0.015, roughness
    exact = convolve(base, cosine_lobe, axes, 4)
    assert (light.irradiance(axes) / math.pi - exact).abs().mean() / exact.mean() < 0.003


def test_scale_split_operator_matches_brute_force_under_a_sun() -> None:
    """One bright texel: what cutting off the lobe's tail, or a cap too coarse, would show first."""
    base = torch.full((6, 32, 32, 3), 0.01)
    base[2, 5, 21] = 100.0
    filters = prefilter(base).ladder
    for k, operator in enumerate(filters.operators[:3]):
        assert operator.sparse is not None
        level = prefilter(base).levels[k + 1][..., 0].reshape(-1)
        fine = cube_directions(32, 4)
        weights = ggx_lobe(filters.roughnesses[k + 1])(
            (cube_directions(operator.target)[::41] @ fine.reshape(-1, 3).t()).clamp(-1, 1)
        )
        weights = (weights * cube_solid_angles(32, 4).reshape(-1)).reshape(len(weights), 6 * 32 * 32, 16).sum(-1)
        exact = weights @ base[..., 0].reshape(-1) / weights.sum(-1)
        assert (level[::41] - exact).abs().sum() < 0.08 * exact.sum()  # 5 %: the sun sits anywhere in a coarse texel


def test_an_even_light_stays_even_at_every_level() -> None:
    light = EnvironmentLight(32, 0.4).prefilter()
    for level in [*light.levels, light.irradiance_cube]:
        torch.testing.assert_close(level, torch.full_like(level, 0.4), atol=1e-4, rtol=0)


def test_levels_are_continuous_in_roughness() -> None:
    environment = EnvironmentLight(16)
    environment.from_latlong(studio())
    light = environment.prefilter()
    roughness = torch.linspace(0, 1, 2001)[:, None]
    values = light.radiance(torch.tensor([[0.4, -0.7, 0.5]]).expand(2001, 3).contiguous(), roughness)
    assert (values[1:] - values[:-1]).abs().max() < 0.02 * values.max()


def test_gradient_of_prefilter() -> None:
    """The filter is linear: its gradient is exact, through dense and sparse parts."""
    generator = torch.Generator().manual_seed(1)
    for resolution in (8, 32):
        base = torch.rand(6, resolution, resolution, 3, generator=generator, requires_grad=True)
        weights = [torch.rand(level.shape, generator=generator) for level in prefilter(base).levels]

        def total(x: torch.Tensor, weights: list[torch.Tensor] = weights) -> torch.Tensor:
            return sum(((w * level).sum() for w, level in zip(weights, prefilter(x).levels)), torch.zeros(()))

        (gradient,) = torch.autograd.grad(total(base), base)
        direction = torch.rand(base.shape, generator=generator)
        with torch.no_grad():
            change = total(direction)
        torch.testing.assert_close((gradient * direction).sum(), change, rtol=1e-4, atol=0)


def test_resize_keeps_the_light() -> None:
    environment = EnvironmentLight(16)
    environment.from_latlong(studio())
    axes = random_directions(100)
    before = environment.prefilter().irradiance(axes)
    environment.resize(32)
    assert environment.resolution == 32 and isinstance(environment.log_radiance, torch.nn.Parameter)
    torch.testing.assert_close(environment.prefilter().irradiance(axes), before, rtol=0.01, atol=0)
    environment.resize(8)
    torch.testing.assert_close(environment.prefilter().irradiance(axes), before, rtol=0.03, atol=0)


def test_regularizers() -> None:
    gray = EnvironmentLight(8, 2.0)
    assert gray.neutrality_loss() < 1e-6 and gray.smoothness_loss() == 0.0 and gray.tint_loss() < 1e-12
    gray.from_latlong(studio())
    first = gray.neutrality_loss().item()
    assert first > 0.01
    with torch.no_grad():
        gray.log_radiance += math.log(3.0)
    assert abs(gray.neutrality_loss().item() - first) < 1e-5  # does not favor a dark light


def test_smoothness_counts_every_border_between_texels_once_on_either_side() -> None:
    light = EnvironmentLight(8)
    assert light.smoothness_loss() == 0
    with torch.no_grad():
        light.log_radiance[0] += 1.0
    # The first and the last of the 9 borders that a row or a column of a face crosses lead to other faces: the 32 along
    # the edge of the one that differs are met from both sides.
    torch.testing.assert_close(light.smoothness_loss().detach(), torch.tensor(2 * 32 / (6 * 8 * 9)))


def test_an_even_light_is_what_smoothness_asks_for() -> None:
    light = EnvironmentLight(8)
    light.from_latlong(studio())
    spread = light.log_radiance.detach().std()
    optimizer = torch.optim.Adam(light.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        light.smoothness_loss().backward()
        optimizer.step()
    assert light.log_radiance.detach().std() < 0.5 * spread


def test_colors_that_make_gray_together_are_no_tint() -> None:
    light = EnvironmentLight(8, 2.0)
    with torch.no_grad():
        light.log_radiance[:3] += torch.tensor([0.3, 0.0, -0.3])
        light.log_radiance[3:] += torch.tensor([-0.3, 0.0, 0.3])
    assert light.neutrality_loss() > 0.1 and light.tint_loss() < 1e-3
    with torch.no_grad():
        light.log_radiance[:] = torch.tensor([1.2, 1.0, 0.8]).log()
    torch.testing.assert_close(light.tint_loss().detach(), torch.tensor((0.04 + 0.04) / 3))


def test_the_tint_moves_the_whole_light() -> None:
    light = EnvironmentLight(8)
    light.from_latlong(studio())
    before = light.base().detach()
    optimizer = torch.optim.SGD(light.parameters(), lr=1.0)
    light.tint_loss().backward()
    assert light.log_radiance.grad is None
    optimizer.step()
    ratio = light.base().detach() / before  # [6, R, R, 3]
    torch.testing.assert_close(ratio, ratio[0, 0, 0].expand_as(ratio))
    assert float((ratio[0, 0, 0] - 1).abs().max()) > 1e-3
    light.from_latlong(studio())
    torch.testing.assert_close(light.base(), before)  # a new value is that value


@pytest.mark.cuda
def test_prefilter_on_cuda_equals_cpu() -> None:
    base = latlong_to_cube(studio(), 32)
    for ours, theirs in zip(prefilter(base.cuda()).levels, prefilter(base).levels):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)
