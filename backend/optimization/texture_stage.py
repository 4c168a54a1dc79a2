# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture stage: the finished mesh stays, its textures and the light are fitted at full photo resolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MIN_ROUGHNESS
from ..appearance.shading import shade
from ..appearance.textured_mesh import CHANNELS, SurfacePoints, TexturedMesh, sample_values
from ..appearance.transport import Transport
from ..geometry.texels import TexelMap
from ..kernels.primitives import RASTERIZERS, Primitives
from ..kernels.texel_prior import TexelPrior, link_texels
from .bake import bake_attributes
from .losses import image_loss, squared_error
from .metal_evidence import EVIDENCE_SIZE, find_metal
from .progress import StageProgress
from .rates import Decay, adam
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight, light_prior
from .step_graph import StepGraph
from .views import Batch, Draws, TrainingViews, covered_capacity

MAX_TILT = 0.5  # of the normal map's x and y: what is steeper belongs to the mesh
CACHE_BYTES = 1 << 30  # of frames kept, where the device is the CPU
BYTES_PER_PIXEL = 200  # of a frame, about
LIGHT_RATE = 5e-3


@dataclass
class TextureState:
    """What the texture stage learns: the texels and the light.

    Attributes:
        textures: [H, W, 7] float32, base color, roughness, metallic in 0..1 and normal x, y.
        vertex_color: [V, 3] float32, base color for bounced light.
    """

    mesh: TexturedMesh
    textures: Tensor
    light: EnvironmentLight
    vertex_color: Tensor


class Frames:
    """What the cameras see of a mesh that does not move; kept from one time to the next where memory allows."""

    def __init__(
        self, mesh: TexturedMesh, views: TrainingViews, batch: int, primitives: Primitives, recorded: bool
    ) -> None:
        self._mesh = mesh
        self._views = views
        self._primitives = primitives
        self._capacity = covered_capacity(mesh.vertices, mesh.triangles, views, batch) if recorded else None
        pixels = len(views) * views.resolution[0] * views.resolution[1]
        # A GPU rasterises faster than it could fetch; batches of several views never repeat.
        cpu = mesh.vertices.device.type == "cpu"
        self._keeps = cpu and batch == 1 and pixels * BYTES_PER_PIXEL < CACHE_BYTES
        self._kept: dict[int, tuple[Fragments, SurfacePoints]] = {}

    @torch.no_grad()
    def of(self, batch: Batch) -> tuple[Fragments, SurfacePoints]:
        """Covered pixels and their frames in the views of `batch`."""
        key = int(batch.indices[0]) if self._keeps else -1
        if key in self._kept:
            return self._kept[key]
        fragments = Fragments.of(
            self._mesh.vertices,
            self._mesh.triangles,
            batch.clip_transforms,
            batch.camera_centers,
            self._views.resolution,
            self._primitives,
            self._capacity,
        )
        frame = fragments, SurfacePoints.of(self._mesh, fragments)
        if self._keeps:
            self._kept[key] = frame
        return frame


def run_texture_stage(
    state: TextureState, scene: Scene, settings: Settings, progress: StageProgress, texels: TexelMap
) -> None:
    """Fit `state` to the photographs in place.

    Args:
        texels: where the texels of `state` lie on its mesh.

    Raises:
        Stopped: the user stopped the job.
    """
    assert state.textures.shape[-1] == CHANNELS
    device, mesh = scene.device, state.mesh
    views = TrainingViews(scene.photos, settings.texture_stage_size, scene.near, device, settings.samples)
    draws = Draws(len(views), settings.batch, settings.texture_steps, settings.seed + 2, device)
    low = torch.tensor([0.0, 0.0, 0.0, MIN_ROUGHNESS, 0.0, -MAX_TILT, -MAX_TILT], device=device)
    high = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, MAX_TILT, MAX_TILT], device=device)
    inertia = torch.tensor(
        [settings.texture_inertia] * 3 + [settings.material_inertia] * 2 + [settings.texture_inertia] * 2, device=device
    )
    stiffness = torch.full((CHANNELS,), settings.texture_stiffness, device=device)
    light = StageLight(state.light, settings.light_interval)
    primitives = RASTERIZERS[settings.rasterizer]
    if settings.transport_size:
        transport = Transport.trace(
            mesh.vertices, mesh.normals, mesh.triangles, settings.transport_size, settings.bounce
        )
        light.cast_shadows(transport, state.vertex_color)
    start = state.textures
    if settings.metal_evidence:
        small = TrainingViews(scene.photos, min(EVIDENCE_SIZE, settings.texture_stage_size), scene.near, device)
        start = _told_apart(state, small, light, primitives, texels, progress.heed)
    textures = start.clone().requires_grad_()
    optimizer = adam(
        [([textures], settings.texture_rate), (state.light.parameters(), LIGHT_RATE * light.interval)], device
    )
    decay = Decay(optimizer)
    prior = TexelPrior(start, torch.from_numpy(link_texels(texels.nearest)).to(device), inertia, stiffness)
    recorded = settings.rasterizer == "warp"
    frames = Frames(mesh, views, settings.batch, primitives, recorded)
    error = torch.zeros((), device=device)

    def learn() -> None:
        batch = views.drawn(draws)
        fragments, points = frames.of(batch)
        light_learns = light.update(step)
        material, normal_xy = sample_values(textures, points)
        normals = points.perturbed(normal_xy)
        shaded = shade(material, normals, points.view, light.at(fragments), encoded=views.encoded)
        rendered = views.pixels(fragments.antialiased(functional.pad(shaded, (0, 1), value=1.0), mesh.neighbors))
        loss = image_loss(rendered, batch.photo, draws.background, batch.valid)
        if light_learns:
            loss = loss + light_prior(state.light, settings)
        optimizer.zero_grad()
        loss.backward()
        # Held to the field's values, which were smooth over many views; only what the photographs insist on changes.
        prior.add_gradient(textures)
        optimizer.step()
        with torch.no_grad():
            textures.copy_(torch.maximum(torch.minimum(textures, high), low))
        error.copy_(squared_error(rendered, batch.photo))

    graph = StepGraph(learn, device, recorded, progress.warning)
    for step in progress.steps(settings.texture_steps):
        decay.to(0.05 ** (step / settings.texture_steps))
        views.turn(draws, step)
        graph.run()
        progress.observe_error(error)
    state.textures = textures.detach()


@torch.no_grad()
def _told_apart(
    state: TextureState,
    views: TrainingViews,
    light: StageLight,
    primitives: Primitives,
    texels: TexelMap,
    heed: Callable[[], None],
) -> Tensor:
    """The textures [H, W, 7], with the best metal where the photographs speak for it and none where they speak against
    it."""
    mesh = state.mesh
    light.update(0)
    evidence = find_metal(mesh.vertices, mesh.normals, mesh.triangles, views, light, primitives, heed)
    attributes = torch.cat((evidence.material, evidence.metal, evidence.dielectric), dim=1)
    found = bake_attributes(attributes, mesh.triangles, texels)
    metal, dielectric = found[..., 5:6], found[..., 6:]
    textures = state.textures.clone()
    # What is metal already has the color of many more steps.
    turned = metal * (1 - textures[..., 4:5])
    textures[..., :5] = torch.lerp(textures[..., :5], found[..., :5], turned)
    textures[..., 4:5] *= 1 - dielectric
    return textures
