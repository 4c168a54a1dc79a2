# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras that fit the mesh better than those given: direct image alignment (Lucas & Kanade 1981) by Gauss-Newton.

Each photograph is compared with a render of the present mesh, material and light. Beside the six unknowns of its
camera's motion, each view has a gain per color channel, so that exposure, or light that is not yet found, does not pass
for motion. A motion that all cameras share is not theirs but the object's: it is taken out, or the mesh would leave the
artist's world, and held-out cameras would see it askew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.color import linear_to_srgb, srgb_to_linear
from ..appearance.fragments import Fragments
from ..appearance.pixel_filter import MIN_ALPHA
from ..appearance.projection import world_to_clip
from ..appearance.shading import shade_field
from ..appearance.transport import Transport
from ..kernels.antialias import build_neighbors
from ..kernels.primitives import RASTERIZERS
from ..kernels.vertex_normals import vertex_normals
from .camera_motion import common_motion, flow_of_twist, moved, shift_of, twist_between
from .losses import KNEE, huber
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight
from .surface_stage import SurfaceState
from .views import VIEWS_AT_ONCE, TrainingViews

SIZE = 400  # longer side of the images that are compared, pixels, where the photographs have as many
ROUNDS = 3  # of Gauss-Newton
DAMPING, MORE_DAMPING = 1e-3, 30.0  # Levenberg's, relative; what it is multiplied with where a step made things worse
# Shift of the images, root mean square over the views, pixels, below which the given cameras stay. With exact cameras
# the errors of a draft's mesh and material feign 0.09 (helmet, 200 pixels) to 0.12 (400 pixels).
LEAST_SHIFT = 0.2
FEW = 12  # views that are looked at first
UNKNOWNS = 9  # twist, log gains
REACH = 3  # pixels beyond the silhouette that count


@dataclass(frozen=True)
class Alignment:
    """Where the cameras stand.

    Attributes:
        given: [N, 4, 4] float32, `cam_to_world` as the capture has it, OpenGL axes.
        cam_to_world: [N, 4, 4] float32, refined.
        shift: [N] float32, root mean square shift of the object in each image by the refinement, pixels of the
            photographs as loaded.
    """

    given: Tensor
    cam_to_world: Tensor
    shift: Tensor

    @staticmethod
    def of(given: Tensor) -> Alignment:
        """Cameras where the capture has them."""
        return Alignment(given, given, torch.zeros(len(given), device=given.device))

    @property
    def moved(self) -> bool:
        """Whether any camera has moved."""
        return bool(self.shift.any())

    @property
    def shift_rms(self) -> float:
        """Of all images, pixels of the photographs as loaded."""
        return float(_rms(self.shift))


@dataclass(frozen=True)
class _Look:
    """Some views of the mesh.

    Attributes:
        image: [B, H, W, 4] float32, premultiplied, sRGB-encoded.
        depth: [B, H, W] float32, world units; around the silhouette that of the nearest surface.
        covered, near: [B, H, W] bool: whether the mesh is seen there, or at most `REACH` pixels away.
    """

    image: Tensor
    depth: Tensor
    covered: Tensor
    near: Tensor


@dataclass(frozen=True)
class _Systems:
    """Normal equations of views.

    Attributes:
        matrices: [B, 9, 9].
        sides: [B, 9].
        metrics: [B, 6, 6], mean squares of the flow on the object, pixels².
        errors: [B], robust.
    """

    matrices: Tensor
    sides: Tensor
    metrics: Tensor
    errors: Tensor

    def step(self, damping: Tensor) -> Tensor:
        """Twists and log gains [B, 9] that lower the errors, for `damping` [B]."""
        diagonal = self.matrices.diagonal(dim1=1, dim2=2)
        # What a view says nothing of stays.
        floor = 1e-6 * diagonal.amax(1, keepdim=True).clamp(min=1e-6)
        damped = self.matrices + torch.diag_embed(damping[:, None] * diagonal + floor)
        return torch.linalg.solve(damped, self.sides)

    def with_those(self, others: _Systems, which: Tensor) -> _Systems:
        """These, but those of `others` where `which` [B] bool says so."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return _Systems(*(torch.where(which.view(-1, *[1] * (a.dim() - 1)), b, a) for a, b in pairs))


class Aligner:
    """Compares the photographs with renders of one surface.

    Args:
        shadows: whether the surface was learned with them.
    """

    def __init__(self, surface: SurfaceState, scene: Scene, settings: Settings, shadows: bool) -> None:
        self.views = TrainingViews(scene.photos, min(SIZE, settings.surface_size), scene.near, scene.device)
        self.scale = max(scene.photos.resolution) / max(self.views.resolution)  # pixels of the photographs in one
        self._masked = scene.photos.masked.to(scene.device)
        self._surface = surface
        self._normals = vertex_normals(surface.vertices, surface.triangles)
        self._neighbors = build_neighbors(surface.triangles)
        self._primitives = RASTERIZERS[settings.rasterizer]
        self._light = StageLight(surface.light, interval=1)
        with torch.no_grad():
            if shadows and settings.transport_size:
                transport = Transport.trace(
                    surface.vertices, self._normals, surface.triangles, settings.transport_size, settings.bounce
                )
                self._light.cast_shadows(transport, surface.material(surface.vertices).base_color)
            self._light.update(0)

    @property
    def pivot(self) -> Tensor:
        """Middle of the surface, [3] world."""
        return self._surface.vertices.mean(0)

    @torch.no_grad()
    def look(self, cam_to_world: Tensor, intrinsics: Tensor) -> _Look:
        """What cameras [B, 4, 4] with `intrinsics` [B, 4] see of the surface."""
        vertices, triangles = self._surface.vertices, self._surface.triangles
        clip = world_to_clip(cam_to_world, intrinsics, self.views.resolution, self.views.near)
        centers = cam_to_world[:, :3, 3]
        fragments = Fragments.of(vertices, triangles, clip, centers, self.views.resolution, self._primitives)
        light, material = self._light.at(fragments), self._surface.material
        points = shade_field(fragments, vertices, self._normals, material, light, encoded=True)
        image = fragments.antialiased(functional.pad(points.color, (0, 1), value=1.0), self._neighbors)
        axes = cam_to_world[fragments.views, :3, 2]
        depth = ((centers[fragments.views] - points.positions) * axes).sum(-1, keepdim=True)
        seen = fragments.image(functional.pad(depth, (0, 1), value=1.0)).permute(0, 3, 1, 2)  # [B, 2, H, W]
        around = seen
        for window in ((2 * REACH + 1, 1), (1, 2 * REACH + 1)):
            around = functional.avg_pool2d(around, window, stride=1, padding=(window[0] // 2, window[1] // 2))
        covered, near = seen[:, 1] > 0, around[:, 1] > 0
        filled = around[:, 0] / around[:, 1].clamp(min=1e-6)
        return _Look(image, torch.where(covered, seen[:, 0], filled), covered, near)

    @torch.no_grad()
    def systems(self, cam_to_world: Tensor, log_gains: Tensor, indices: Tensor) -> _Systems:
        """Normal equations of the views with the numbers `indices` [B] at cameras [B, 4, 4] and log gains [B, 3]."""
        batch = self.views.batch(indices)
        intrinsics = self.views.intrinsics[indices]
        look = self.look(cam_to_world, intrinsics)
        rendered, photo = smoothed(with_gains(look.image, log_gains)), smoothed(batch.photo)
        # The mean slope of both images makes the step right to second order (Malis 2004).
        slopes = image_slopes((rendered + photo) / 2)  # [B, H, W, 4, 2]
        residual = photo - rendered
        counts = self._masked[indices].float()  # without a mask, what stands behind the object is no error
        valid = counts[:, None, None, None] if batch.valid is None else counts[:, None, None, None] * batch.valid
        weight = valid * KNEE / residual.abs().clamp(min=KNEE)
        errors = (valid * huber(residual, KNEE)).mean((1, 2, 3))
        found = [
            _normal_equations(rendered[b], slopes[b], residual[b], weight[b], look, b, intrinsics[b])
            for b in range(len(indices))
        ]
        matrices, sides, metrics = (torch.stack(parts) for parts in zip(*found, strict=True))
        return _Systems(matrices, sides, metrics * counts[:, None, None], errors)


def _normal_equations(
    rendered: Tensor, slopes: Tensor, residual: Tensor, weight: Tensor, look: _Look, b: int, intrinsics: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Matrix [9, 9], right side [9] and metric [6, 6] of view `b` of a look."""
    rows, columns = torch.nonzero(look.near[b], as_tuple=True)
    flow = flow_of_twist(columns + 0.5, rows + 0.5, look.depth[b, rows, columns], intrinsics)  # [P, 2, 6]
    image = rendered[rows, columns]  # [P, 4]
    jacobian = torch.cat((-slopes[rows, columns] @ flow, gain_slopes(image)), dim=-1)  # [P, 4, 9]
    weighted = (jacobian * weight[rows, columns][..., None]).view(-1, UNKNOWNS)
    matrix = weighted.T @ jacobian.view(-1, UNKNOWNS)
    side = weighted.T @ residual[rows, columns].reshape(-1)
    on_object = flow[look.covered[b, rows, columns]].flatten(0, 1)
    metric = 2 * on_object.T @ on_object / max(1, len(on_object))
    return matrix, side, metric


def with_gains(image: Tensor, log_gains: Tensor) -> Tensor:
    """`image` [B, H, W, 4], premultiplied, encoded, with its linear light times exp(`log_gains` [B, 3])."""
    alpha = image[..., 3:]
    straight = (image[..., :3] / alpha.clamp(min=MIN_ALPHA)).clamp(0, 1)
    linear = srgb_to_linear(straight) * log_gains.exp()[:, None, None]
    return torch.cat((linear_to_srgb(linear.clamp(0, 1)) * alpha, alpha), dim=-1)


def gain_slopes(image: Tensor) -> Tensor:
    """Derivative [P, 4, 3] of premultiplied encoded colors `image` [P, 4] in the logs of the gains.

    Of the encoding 1.055 L^(1/2.4) − 0.055; below its knee, where it is a line, the value itself.
    """
    color, alpha = image[:, :3], image[:, 3:]
    return functional.pad(torch.diag_embed(torch.minimum(color, (color + 0.055 * alpha) / 2.4)), (0, 0, 0, 1))


def smoothed(image: Tensor) -> Tensor:
    """`image` [B, H, W, C] under a binomial filter of three pixels, which makes its slopes hold a little farther."""
    channels = image.shape[-1]
    row = torch.tensor([0.25, 0.5, 0.25], device=image.device)
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    padded = functional.pad(image.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, kernel, groups=channels).permute(0, 2, 3, 1)


def image_slopes(image: Tensor) -> Tensor:
    """Central differences (along columns, along rows) [B, H, W, C, 2] of `image` [B, H, W, C], per pixel."""
    padded = functional.pad(image.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return torch.stack((across, down), dim=-1).permute(0, 2, 3, 1, 4)


def align_cameras(aligner: Aligner, start: Alignment, tell: Callable[[float], None], rounds: int = ROUNDS) -> Alignment:
    """The cameras of the photographs moved to where the surface looks most like them.

    Where the given cameras are right within `LEAST_SHIFT`, they stay exactly as they are: some views are looked at, and
    all only if those are off. A step that makes a view less like its photograph is not taken.

    Args:
        start: where the cameras stand.
        tell: hears the share that is done; may raise Stopped.
        rounds: of Gauss-Newton.
    """
    given, cameras = start.given, start.cam_to_world.clone()
    everything = torch.arange(len(given), device=given.device)
    gains = given.new_zeros(len(given), 3)
    if not start.moved:
        few = everything[:: max(1, len(given) // FEW)]
        systems = _all_systems(aligner, given[few], gains[few], few, lambda share: tell(share / (rounds + 2)))
        _, first = _own_shift(systems, systems.step(_damping(few))[:, :6], given[few], aligner.pivot)
        if float(_rms(first)) < LEAST_SHIFT:
            tell(1.0)
            return start

    def told(share: float, done: int = 1) -> None:
        tell((done + share) / (rounds + 2))

    damping = _damping(everything)
    kept = _all_systems(aligner, cameras, gains, everything, told)
    for turn in range(rounds):
        step = kept.step(damping)
        tried, tried_gains = moved(cameras, step[:, :6]), gains + step[:, 6:]
        found = _all_systems(aligner, tried, tried_gains, everything, partial(told, done=turn + 2))
        better = found.errors < kept.errors
        kept = kept.with_those(found, better)
        cameras = torch.where(better[:, None, None], tried, cameras)
        gains = torch.where(better[:, None], tried_gains, gains)
        damping = torch.where(better, damping, damping * MORE_DAMPING)
    own, shift = _own_shift(kept, twist_between(given, cameras), given, aligner.pivot)
    tell(1.0)
    if float(_rms(shift)) < LEAST_SHIFT:
        return Alignment.of(given)
    return Alignment(given, moved(given, own), aligner.scale * shift)


def _damping(views: Tensor) -> Tensor:
    return torch.full((len(views),), DAMPING, device=views.device)


def _own_shift(systems: _Systems, twist: Tensor, given: Tensor, pivot: Tensor) -> tuple[Tensor, Tensor]:
    """What of the twists [B, 6] is the cameras' own, and by how much it shifts each image [B], pixels."""
    compared = systems.metrics.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) > 0
    own = (twist - common_motion(twist, systems.metrics, given, pivot)) * compared
    return own, shift_of(own, systems.metrics)


def _rms(shift: Tensor) -> Tensor:
    return shift.square().mean().sqrt()


def _all_systems(
    aligner: Aligner, cam_to_world: Tensor, log_gains: Tensor, indices: Tensor, tell: Callable[[float], None]
) -> _Systems:
    """`Aligner.systems` of any number of views, some at a time."""
    parts: list[_Systems] = []
    for some in torch.arange(len(indices), device=indices.device).split(VIEWS_AT_ONCE):
        tell(len(parts) * VIEWS_AT_ONCE / len(indices))
        parts.append(aligner.systems(cam_to_world[some], log_gains[some], indices[some]))
    return _Systems(*(torch.cat(some) for some in zip(*(vars(part).values() for part in parts), strict=True)))
