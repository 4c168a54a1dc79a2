# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface stage: the vertices of one even mesh, material field and light, now with shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.bsdf import PrefilteredLight, split_sum
from ..appearance.color import linear_to_srgb
from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MaterialField, decode_material
from ..appearance.transport import Transport
from ..geometry.mesh import unique_edges, vertex_normals
from ..kernels.antialias import build_neighbors
from ..kernels.primitives import RASTERIZERS
from .large_steps import LargeSteps
from .losses import image_loss
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight
from .uniform_adam import UniformAdam
from .views import TrainingViews, ViewOrder

TRACES = 3  # times that shadows are traced anew while the surface moves
LARGE_STEPS_STRENGTH = 10.0


@dataclass
class SurfaceState:
    """What the surface stage learns: `vertices` [V, 3] world, on fixed `triangles` [T, 3]; field and light."""

    vertices: Tensor
    triangles: Tensor
    material: MaterialField
    light: EnvironmentLight


def run_surface_stage(state: SurfaceState, scene: Scene, settings: Settings, progress: StageProgress) -> None:
    """Fit `state` to the photographs in place.

    Raises:
        Stopped: the user stopped the job.
    """
    views = TrainingViews(scene.photos, settings.surface_size, scene.near, scene.device)
    generator = torch.Generator().manual_seed(settings.seed + 1)
    order = ViewOrder(len(views), settings.batch, generator)
    system = LargeSteps(state.vertices, state.triangles, LARGE_STEPS_STRENGTH)
    parameters = system.to_parameters(state.vertices).requires_grad_()
    neighbors = build_neighbors(state.triangles)
    edge = float(mean_edge(state.vertices, state.triangles))
    shape_optimizer = UniformAdam([parameters], lr=settings.vertex_rate * edge)
    optimizer = torch.optim.Adam(
        [
            {"params": [state.material.table], "lr": 6e-3},
            {"params": state.material.mlp.parameters(), "lr": 2e-3},
            {"params": state.light.parameters(), "lr": 1e-2 * settings.light_interval},
        ],
        betas=(0.9, 0.99),
        eps=1e-15,
        fused=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    stage_light = StageLight(state.light, settings.light_interval)
    steps = settings.surface_steps
    for step in progress.steps(steps):
        decay = 0.1 ** (step / steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * decay
        shape_optimizer.param_groups[0]["lr"] = settings.vertex_rate * edge * decay
        vertices = system.to_vertices(parameters)
        state.vertices = vertices.detach()  # for whoever keeps the state of a stage that is cut short
        normals = vertex_normals(vertices, state.triangles)
        if settings.transport_size and (step == progress.first or step % -(-steps // TRACES) == 0):
            transport = Transport.trace(vertices, normals, state.triangles, settings.transport_size, settings.bounce)
            with torch.no_grad():
                stage_light.cast_shadows(transport, state.material(vertices).base_color)
        batch = views.batch(order.next())
        background = torch.rand(len(batch.photo), 1, 1, 3, generator=generator).to(scene.device)
        fragments = Fragments.of(
            vertices,
            state.triangles,
            batch.clip_transforms,
            batch.camera_centers,
            views.resolution,
            RASTERIZERS[settings.rasterizer],
        )
        light_learns = stage_light.update(step)
        rendered, positions, raw = shade(
            state.material, fragments, vertices, normals, stage_light.at(fragments), neighbors
        )
        loss = image_loss(rendered, batch.photo, background, batch.valid)
        # A quarter of the pixels, drawn anew in each step, regularises as well as all of them.
        some = positions[int(torch.randint(4, (1,), generator=generator)) :: 4]
        offset = torch.randn(some.shape, generator=generator).to(some) * edge
        roughening = (state.material.raw(some + offset) - state.material.raw(some)).abs().mean()
        loss = loss + settings.material_smoothness * roughening
        loss = loss + settings.metallic_prior * decode_material(raw).metallic.mean()
        if light_learns:
            loss = loss + settings.light_neutrality * state.light.neutrality_loss()
        loss = loss + settings.smoothness * bending(normals, state.triangles, neighbors)
        optimizer.zero_grad(set_to_none=True)
        parameters.grad = None
        loss.backward()
        optimizer.step()
        shape_optimizer.step()
        progress.observe(rendered, batch.photo)
        progress.show(vertices, state.triangles, state.material)
    with torch.no_grad():
        state.vertices = system.to_vertices(parameters).detach().clone()


def shade(
    material_field: MaterialField,
    fragments: Fragments,
    vertices: Tensor,
    normals: Tensor,
    light: PrefilteredLight,
    neighbors: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied sRGB-encoded images [B, H, W, 4], positions [P, 3] and raw material values [P, 5]."""
    interpolated = fragments.interpolate(torch.cat((vertices, normals), dim=1))
    positions = interpolated[:, :3]
    normal = functional.normalize(interpolated[:, 3:], dim=-1)
    raw = material_field.raw(positions)
    color = split_sum(*decode_material(raw), normal, fragments.directions_to_camera(positions), light)
    encoded = linear_to_srgb(color.clamp(0, 1))
    image = fragments.antialiased(torch.cat((encoded, torch.ones_like(encoded[:, :1])), dim=-1), neighbors)
    return image, positions, raw


def bending(normals: Tensor, triangles: Tensor, neighbors: Tensor) -> Tensor:
    """Mean of 1 − n·n over the edges of the mesh, for unit vertex `normals` [V, 3]."""
    corners = normals[triangles.long()]  # [T, 3, 3]
    return (1 - (corners * corners.roll(-1, 1)).sum(-1)).mean()


def mean_edge(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mean edge length, world units."""
    ends = vertices[unique_edges(triangles).vertices]  # [E, 2, 3]
    return (ends[:, 0] - ends[:, 1]).norm(dim=-1).mean()
