# SPDX-License-Identifier: GPL-3.0-or-later
"""The light of a stage: filtered now and then, always up to date, with gradients in the steps that filter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from backend.appearance.environment import EnvironmentLight
from backend.appearance.fragments import Fragments
from backend.appearance.local_light import LocalLight
from backend.appearance.projection import world_to_clip
from backend.appearance.transport import Transport
from backend.optimization.settings import Settings
from backend.optimization.stage_light import StageLight, light_prior
from tests.appearance.scenes import studio
from tests.capture.builders import orbit_pose
from tests.kernels.scenes import sphere

NORMALS = F.normalize(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
ROUGHNESS = torch.linspace(0.1, 1.0, 9)[:, None]


def environment() -> EnvironmentLight:
    light = EnvironmentLight(8)
    light.from_latlong(studio(16))
    return light


def scene() -> tuple[Fragments, Transport, torch.Tensor]:
    """A large sphere and a small one in its shadow, as a camera sees them."""
    large, triangles = sphere(10, 14)
    small = 0.4 * large + torch.tensor([0.0, 0.0, 1.5])
    vertices, faces = torch.cat((large, small)), torch.cat((triangles, triangles + len(large)))
    normals = F.normalize(large, dim=-1).repeat(2, 1)
    pose = torch.from_numpy(orbit_pose(0.5, 5.0, 2.0)).float()[None]
    matrices = world_to_clip(pose, torch.tensor([[30.0, 30.0, 12.0, 12.0]]), (24, 24), 0.01)
    fragments = Fragments.of(vertices, faces, matrices, pose[:, :3, 3], (24, 24))
    color = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))
    return fragments, Transport.trace(vertices, normals, faces, 4, bounce=True), color


def test_without_shadows_it_is_the_filtered_environment() -> None:
    light, (fragments, _, _) = environment(), scene()
    stage = StageLight(light, 1)
    stage.update(0)
    found, expected = stage.at(fragments), light.prefilter()
    torch.testing.assert_close(found.irradiance(NORMALS), expected.irradiance(NORMALS))
    torch.testing.assert_close(found.radiance(NORMALS, ROUGHNESS), expected.radiance(NORMALS, ROUGHNESS))


def test_with_shadows_it_is_what_direct_filtering_and_transport_give() -> None:
    light, (fragments, transport, color) = environment(), scene()
    stage = StageLight(light, 3)
    stage.update(0)
    stage.cast_shadows(transport, color)
    filtered = light.prefilter()
    sunlit = transport.toward(light.base())
    arriving = sunlit.light_vertices(filtered, light.base(), color)
    expected = LocalLight.at(fragments, sunlit, filtered, arriving)
    count = len(fragments.pixels)
    directions, roughness = NORMALS[torch.arange(count) % 9], ROUGHNESS[torch.arange(count) % 9]
    for step in (1, 2, 3, 4):
        stage.update(step)
        found = stage.at(fragments)
        torch.testing.assert_close(found.irradiance(directions), expected.irradiance(directions))
        torch.testing.assert_close(found.radiance(directions, roughness), expected.radiance(directions, roughness))
    bare = filtered.irradiance(directions)
    assert (
        float((expected.irradiance(directions) - bare).detach().abs().max()) > 0.05
    )  # or shadows would be nothing to test


def test_new_shadows_fall_at_once() -> None:
    light, (fragments, transport, color) = environment(), scene()
    stage = StageLight(light, 8)
    for step in (0, 1, 2):
        stage.update(step)
    stage.cast_shadows(transport, color)
    stage.update(3)
    filtered = light.prefilter()
    sunlit = transport.toward(light.base())
    expected = LocalLight.at(fragments, sunlit, filtered, sunlit.light_vertices(filtered, light.base(), color))
    directions = NORMALS[torch.arange(len(fragments.pixels)) % 9]
    torch.testing.assert_close(stage.at(fragments).irradiance(directions), expected.irradiance(directions))
    stage.update(4)
    stage.cast_shadows(transport, 0 * color)
    stage.update(5)
    darker = stage.at(fragments).irradiance(directions)
    assert float((expected.irradiance(directions) - darker).detach().min()) > -1e-4
    assert float((expected.irradiance(directions) - darker).detach().max()) > 1e-3


@pytest.mark.parametrize("interval", [1, 3, 4])
@pytest.mark.parametrize("shadows", [False, True])
def test_only_steps_that_filter_have_a_gradient(interval: int, shadows: bool) -> None:
    light, (fragments, transport, color) = environment(), scene()
    stage = StageLight(light, interval)
    if shadows:
        stage.cast_shadows(transport, color)
    directions = NORMALS[torch.arange(len(fragments.pixels)) % 9]
    for step in range(2 * interval + 1):
        learns = stage.update(step)
        assert learns == (step % interval == 0)
        result = stage.at(fragments).irradiance(directions).sum()
        assert result.requires_grad == learns
        if learns:
            expected = light.prefilter()
            (gradient,) = torch.autograd.grad(result, light.log_radiance)
            assert float(gradient.abs().sum()) > 0
            if not shadows:
                (wanted,) = torch.autograd.grad(expected.irradiance(directions).sum(), light.log_radiance)
                torch.testing.assert_close(gradient, wanted)


def test_a_step_that_learnt_is_seen_by_the_next() -> None:
    light, (fragments, _, _) = environment(), scene()
    stage = StageLight(light, 4)
    stage.update(0)
    with torch.no_grad():
        light.log_radiance += 0.5
    stage.update(1)
    expected = light.prefilter().irradiance(NORMALS)
    torch.testing.assert_close(stage.at(fragments).irradiance(NORMALS), expected)
    # Between filterings nothing learns, so that nothing need be filtered.
    calls: list[int] = []
    plain = light.prefilter
    light.prefilter = lambda: calls.append(1) or plain()  # type: ignore[method-assign,func-returns-value]
    for step in (2, 3):
        stage.update(step)
    assert not calls
    stage.update(4)
    assert len(calls) == 1


def test_a_stage_that_begins_between_two_filterings_has_light() -> None:
    light, (fragments, _, _) = environment(), scene()
    stage = StageLight(light, 4)
    assert not stage.update(2)
    torch.testing.assert_close(
        stage.at(fragments).irradiance(NORMALS).detach(), light.prefilter().irradiance(NORMALS).detach()
    )


def test_the_prior_is_the_weighted_sum_of_its_terms_and_none_without_weights() -> None:
    light = environment()
    settings = Settings(light_neutrality=0.5, light_tint=0.0, light_smoothness=2.0)
    expected = 0.5 * light.neutrality_loss() + 2.0 * light.smoothness_loss()
    torch.testing.assert_close(light_prior(light, settings), expected)
    assert light_prior(light, Settings(light_neutrality=0.0, light_tint=0.0, light_smoothness=0.0)) == 0
