# SPDX-License-Identifier: GPL-3.0-or-later
"""The fused shading against `split_sum`, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.appearance.bsdf import split_sum
from backend.appearance.color import linear_to_srgb
from backend.appearance.environment import EnvironmentLight, Prefiltered, latlong_to_cube, prefilter
from backend.appearance.fragments import Fragments
from backend.appearance.glow import BOXES
from backend.appearance.local_light import LocalLight
from backend.appearance.projection import world_to_clip
from backend.appearance.shading import shade
from backend.appearance.transport import Transport
from tests.appearance.scenes import random_points, studio
from tests.kernels.scenes import sphere

SIZE = 40  # pixels


def two_spheres(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, normals and triangles of two spheres that shadow each other."""
    one, faces = sphere(12, 16)
    vertices = torch.cat((one, 0.7 * one + torch.tensor([0.9, 0.9, 1.2])))
    triangles = torch.cat((faces, faces + len(one)))
    return vertices.to(device), torch.cat((one, one)).to(device), triangles.to(device)


def seen(vertices: Tensor, triangles: Tensor) -> Fragments:
    """Two views of it."""
    turn = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # looks along +y
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, :3, :3] = turn
    poses[0, :3, 3] = torch.tensor([0.5, -5.0, 0.5])
    poses[1, :3, :3] = torch.eye(3)
    poses[1, :3, 3] = torch.tensor([0.5, 0.5, 5.0])
    poses = poses.to(vertices)
    intrinsics = torch.tensor([[50.0, 50.0, SIZE / 2, SIZE / 2]]).repeat(2, 1).to(vertices)
    matrices = world_to_clip(poses, intrinsics, (SIZE, SIZE), 0.01)
    return Fragments.of(vertices, triangles, matrices, poses[:, :3, 3], (SIZE, SIZE))


class Case:
    """Inputs of both, as leaves: material, normal, view, base of the light, and for a local light the share."""

    def __init__(self, device: str, local: bool, count: int = 3000, light_learns: bool = True, size: int = 16) -> None:
        self.local = local
        if local:
            vertices, normals, triangles = two_spheres(device)
            self.transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
            self.fragments = seen(vertices, triangles)
            count = len(self.fragments.triangle_ids)
            assert count > 900
        base_color, roughness, metallic, normal, view = random_points(count, grazing=0.0)
        # The ends of the ranges. No lobe of exactly full width, which some metals have: there `sample_cube` slopes
        # toward the level after the last, and that is the irradiance.
        k = torch.arange(count)
        roughness[k % 11 == 0] = 0.0
        roughness[k % 11 == 1] = 0.02
        roughness[k % 11 == 2] = 1.0
        metallic[k % 5 == 0] = 0.0
        metallic[(k % 5 == 1) & (roughness[:, 0] < 0.8)] = 1.0
        base_color[k % 7 == 0] = 0.0
        base_color[k % 7 == 1] = 1.0
        view[k % 101 == 3] = -view[k % 101 == 3]  # seen from behind
        base = latlong_to_cube(studio(64), size)
        inputs = [torch.cat((base_color, roughness, metallic), 1), normal, view, base]
        if local:
            generator = torch.Generator().manual_seed(3)
            inputs.append(torch.rand(count, 3, generator=generator) * 1.5)
            self.glow = (torch.rand(len(vertices), BOXES, 3, generator=generator) * 1.5).to(device)
        self.inputs = [x.to(device).requires_grad_() for x in inputs]
        self.inputs[3].requires_grad_(light_learns)

    def light(self) -> Prefiltered | LocalLight:
        environment = prefilter(self.inputs[3])
        if not self.local:
            return environment
        return LocalLight(environment, self.transport, self.fragments, self.inputs[4], self.glow)

    def fast(self, encoded: bool = False) -> Tensor:
        return shade(*self.inputs[:3], self.light(), encoded=encoded)

    def slow(self, encoded: bool = False) -> Tensor:
        material, normal, view = self.inputs[:3]
        radiance = split_sum(material[:, :3], material[:, 3:4], material[:, 4:], normal, view, self.light())
        return linear_to_srgb(radiance.clamp(0, 1)) if encoded else radiance

    def gradients(self, color: Tensor) -> list[Tensor]:
        weights = torch.randn(color.shape, generator=torch.Generator().manual_seed(4)).to(color)
        return list(torch.autograd.grad(color, [x for x in self.inputs if x.requires_grad], weights))


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = 3e-4) -> None:
    """Equal to `tolerance` of the largest, and on average to a twentieth of that of the average.

    One in ten thousand may stand on an edge of a table or a texel, where the slope depends on the last bit.
    """
    assert ours.shape == theirs.shape
    difference, theirs = (ours - theirs).detach().abs(), theirs.detach().abs()
    assert int((difference > tolerance * theirs.max()).sum()) <= ours.numel() // 10_000
    assert float(difference.mean()) <= 0.05 * tolerance * float(theirs.mean())


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("light_learns", [True, False])
def test_values_and_gradients_are_those_of_the_split_sum(
    device: str, local: bool, light_learns: bool, encoded: bool
) -> None:
    case = Case(device, local, light_learns=light_learns)
    ours, theirs = case.fast(encoded), case.slow(encoded)
    assert_near(ours, theirs, 1e-5)
    assert not encoded or bool((theirs > 0.99999).any())  # some are clamped
    gradients = list(zip(case.gradients(ours), case.gradients(theirs)))
    assert len(gradients) == 3 + light_learns + local
    for fast, slow in gradients:
        assert slow.abs().max() > 0
        assert_near(fast, slow)
    for column in range(5):  # the inputs of the material differ much in size
        assert_near(gradients[0][0][:, column], gradients[0][1][:, column])


@pytest.mark.parametrize("size", [8, 32])
def test_light_of_any_size(device: str, size: int) -> None:
    case = Case(device, local=False, size=size)
    ours, theirs = case.fast(), case.slow()
    assert_near(ours, theirs, 1e-5)
    for fast, slow in zip(case.gradients(ours), case.gradients(theirs)):
        assert_near(fast, slow)


def test_on_all_cores(device: str) -> None:
    case = Case(device, local=False, count=40_000)
    for _ in range(2):  # the first launch of a kernel is not divided
        ours = case.fast(encoded=True)
        gradients = case.gradients(ours)
    theirs = case.slow(encoded=True)
    assert_near(ours, theirs, 1e-5)
    for fast, slow in zip(gradients, case.gradients(theirs)):
        assert_near(fast, slow)


def test_the_gradient_reaches_an_environment_and_what_arrives_at_vertices(device: str) -> None:
    case = Case(device, local=True)
    environment = EnvironmentLight(16, device=device)
    environment.set_base(case.inputs[3])
    vertices, _, _ = two_spheres(device)
    found = []
    for fused in (True, False):
        filtered = environment.prefilter()
        arriving = case.transport.light_vertices(filtered, environment.base(), torch.full_like(vertices, 0.5))
        light = LocalLight.at(case.fragments, case.transport, filtered, arriving)
        material, normal, view = (x.detach() for x in case.inputs[:3])
        if fused:
            color = shade(material, normal, view, light)
        else:
            color = split_sum(material[:, :3], material[:, 3:4], material[:, 4:], normal, view, light)
        found.append(torch.autograd.grad(color.square().sum(), list(environment.parameters()))[0])
    assert_near(*found)


def test_a_lobe_of_full_width_has_the_slope_of_the_one_before(device: str) -> None:
    case = Case(device, local=False, count=400)
    with torch.no_grad():
        case.inputs[0][:, 3] = 0.95
        case.inputs[0][:, 4] = 1.0
        case.inputs[2][:] = case.inputs[1]
        case.inputs[2][:, 0] += 0.4
        case.inputs[2][:] /= case.inputs[2].norm(dim=-1, keepdim=True)
    color = case.fast()
    step = 1e-2
    gradient = torch.autograd.grad(color.sum(), case.inputs[0])[0][:, 4]
    with torch.no_grad():
        case.inputs[0][:, 4] -= step
        slope = (color - case.fast()).sum(1) / step
    assert float((gradient - slope).norm() / slope.norm()) < 0.02


@pytest.mark.parametrize("local", [False, True])
def test_points_without_a_normal_are_padding(device: str, local: bool) -> None:
    case = Case(device, local)
    with torch.no_grad():
        for x in case.inputs[1:3]:
            x[::2] = 0.0
    color = case.fast()
    assert not color[::2].any() and (color[1::2] > 0).any()
    for k, gradient in enumerate(case.gradients(color)):
        assert gradient.isfinite().all()
        assert k == 3 or not gradient[::2].any()
