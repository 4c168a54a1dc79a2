# SPDX-License-Identifier: GPL-3.0-or-later
"""Surface stage: the vertices of one even mesh, material field and light, now with shadows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MaterialField
from ..appearance.shading import shade_field
from ..appearance.transport import Transport
from ..geometry.mesh import unique_edges
from ..kernels.antialias import build_neighbors
from ..kernels.bending import bending
from ..kernels.primitives import RASTERIZERS
from ..kernels.vertex_normals import vertex_normals
from .large_steps import LargeSteps
from .losses import image_loss, squared_error
from .material_prior import MaterialPrior
from .progress import StageProgress
from .rates import Decay, adam, rate_of
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight, light_prior
from .step_graph import StepGraph
from .uniform_adam import UniformAdam
from .views import Draws, TrainingViews, covered_capacity

TRACES = 3  # times that shadows are traced anew while the surface moves
# A gradient that waves every four edges is worth a quarter of an even one; with the 19 as published, a 3700th.
LARGE_STEPS_STRENGTH = 0.3
FIELD_RATE, MLP_RATE, LIGHT_RATE = 6e-3, 2e-3, 1e-2


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
    device, triangles = scene.device, state.triangles
    primitives = RASTERIZERS[settings.rasterizer]
    views = TrainingViews(scene.photos, settings.surface_size, scene.near, device, settings.samples)
    steps = settings.surface_steps
    draws = Draws(len(views), settings.batch, steps, settings.seed + 1, device)
    system = LargeSteps(state.vertices, triangles, LARGE_STEPS_STRENGTH)
    parameters = system.to_parameters(state.vertices).requires_grad_()
    neighbors = build_neighbors(triangles)
    edge = float(mean_edge(state.vertices, triangles))
    shape_optimizer = UniformAdam([parameters], rate_of(settings.vertex_rate * edge, device))
    light = StageLight(state.light, settings.light_interval)
    optimizer = adam(
        [
            ([state.material.table], FIELD_RATE),
            (state.material.mlp.parameters(), MLP_RATE),
            (state.light.parameters(), LIGHT_RATE * light.interval),
        ],
        device,
    )
    decay = Decay(optimizer, shape_optimizer)
    prior = MaterialPrior.of(state.material, settings, reach=edge)
    recorded = settings.rasterizer == "warp"
    capacity = covered_capacity(state.vertices, triangles, views, settings.batch) if recorded else None
    error = torch.zeros((), device=device)

    def learn() -> None:
        vertices = system.to_vertices(parameters)
        state.vertices = vertices.detach()  # for whoever keeps the state of a stage that is cut short
        normals = vertex_normals(vertices, triangles)
        batch = views.drawn(draws)
        fragments = Fragments.of(
            vertices, triangles, batch.clip_transforms, batch.camera_centers, views.resolution, primitives, capacity
        )
        light_learns = light.update(step)
        points = shade_field(fragments, vertices, normals, state.material, light.at(fragments), views.encoded)
        rendered = views.pixels(fragments.antialiased(functional.pad(points.color, (0, 1), value=1.0), neighbors))
        loss = image_loss(rendered, batch.photo, draws.background, batch.valid)
        loss = loss + prior(fragments, points.positions, points.material, draws)
        if light_learns:
            loss = loss + light_prior(state.light, settings)
        loss = loss + settings.bending * bending(normals, triangles)
        optimizer.zero_grad()
        shape_optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shape_optimizer.step()
        error.copy_(squared_error(rendered, batch.photo))

    graph = StepGraph(learn, device, recorded, progress.warning)
    for step in progress.steps(steps):
        decay.to(0.1 ** (step / steps))
        views.turn(draws, step)
        if settings.transport_size and (step == progress.first or step % -(-steps // TRACES) == 0):
            normals = vertex_normals(state.vertices, triangles)
            transport = Transport.trace(state.vertices, normals, triangles, settings.transport_size, settings.bounce)
            with torch.no_grad():
                light.cast_shadows(transport, state.material(state.vertices).base_color)
            graph.renew()
        graph.run()
        progress.observe_error(error)
        progress.show(state.vertices, triangles, state.material)
    with torch.no_grad():
        state.vertices = system.to_vertices(parameters).detach().clone()


def mean_edge(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Mean edge length, world units."""
    ends = vertices[unique_edges(triangles).vertices]  # [E, 2, 3]
    return (ends[:, 0] - ends[:, 1]).norm(dim=-1).mean()
