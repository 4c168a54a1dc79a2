# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the photographs speak for metal: a dielectric and a metal are fitted to every vertex, which fits is believed.

A gradient does not get from one to the other: on the way the surface is both half gray and half a mirror, which fits
worse than either. But under a known light the radiance of a surface is linear in its base color, L = b + c (w − b) with
b and w what a black and a white one of the same roughness and kind would show, so that the best base color c and its
squared error follow from three sums over all the photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.color import luminance, srgb_to_linear
from ..appearance.fragments import Fragments
from ..appearance.shading import shade
from ..geometry.mesh import unique_edges
from ..kernels.primitives import Primitives
from .stage_light import StageLight
from .views import VIEWS_AT_ONCE, TrainingViews

EVIDENCE_SIZE = 256  # longer side of the images, pixels
ROUGHNESSES = (0.2, 0.4, 0.6, 0.85)
FITS = 1.1  # most of the dielectric's squared error that the metal's may be
BRIGHT = 0.3  # least luminance of a metal's base color: there are no dark ones, but dark dielectrics fit both ways
FEWEST = 20.0  # pixels that must show a vertex and those around it
ENOUGH = 16  # pixels to a vertex on average, beyond which they are thinned out
GRAZING = 0.15  # cosine below which normals are too uncertain
OPAQUE, CLIPPED = 0.99, 0.98  # coverage from which on, and encoded color up to which, a pixel counts
DARK = 0.01  # linear color below which no pixel weighs more
ROUNDS = 2  # of smoothing over neighbors


@dataclass(frozen=True)
class MetalEvidence:
    """What the photographs say of the vertices. Where neither share is one they do not tell.

    Attributes:
        metal: [V, 1] float32, whether a vertex is metal, 0 or 1 with soft borders.
        dielectric: [V, 1] float32, whether it is not.
        material: [V, 5] float32, base color, roughness, and a metallic of one: what the metal would be.
    """

    metal: Tensor
    dielectric: Tensor
    material: Tensor


@torch.no_grad()
def find_metal(
    vertices: Tensor,
    normals: Tensor,
    triangles: Tensor,
    views: TrainingViews,
    light: StageLight,
    primitives: Primitives,
    heed: Callable[[], None],
) -> MetalEvidence:
    """Fit both kinds to all photographs.

    Args:
        vertices, normals: [V, 3] float32, world.
        triangles: [T, 3] int32.
        views: of one sample a pixel.
        light: at this mesh.
        heed: called every few views; may raise.
    """
    sums = _Sums(len(vertices), vertices.device)
    attributes = torch.cat((vertices, normals), dim=1)
    for indices in torch.arange(len(views), device=vertices.device).split(VIEWS_AT_ONCE):
        heed()
        batch = views.batch(indices)
        fragments = Fragments.of(
            vertices, triangles, batch.clip_transforms, batch.camera_centers, views.resolution, primitives
        )
        fragments = _thinned(fragments, ENOUGH * len(vertices) * len(indices) // len(views))
        if not len(fragments.pixels):
            continue
        rows = fragments.interpolate(attributes)
        normal = functional.normalize(rows[:, 3:], dim=-1)
        view = fragments.directions_to_camera(rows[:, :3])
        photo = batch.photo.reshape(-1, 4)[fragments.pixels]
        counts = (photo[:, 3:] > OPAQUE) & ((normal * view).sum(-1, keepdim=True) > GRAZING)
        if batch.valid is not None:
            counts &= batch.valid.reshape(-1, 1)[fragments.pixels] > OPAQUE
        sums.add(fragments, normal, view, photo[:, :3], counts, light)
    return sums.evidence(triangles)


def _thinned(fragments: Fragments, most: int) -> Fragments:
    """Every n-th covered pixel, about `most` of them."""
    n = max(1, len(fragments.pixels) // max(most, 1))
    return replace(
        fragments,
        pixels=fragments.pixels[::n].contiguous(),
        triangle_ids=fragments.triangle_ids[::n].contiguous(),
        barycentrics=fragments.barycentrics[::n].contiguous(),
        derivatives=fragments.derivatives[::n].contiguous(),
    )


class _Sums:
    """Over all pixels that show a vertex, for both kinds and each roughness: xx, xy and yy of y = x · base color."""

    def __init__(self, vertex_count: int, device: torch.device) -> None:
        self.values = torch.zeros(2, len(ROUGHNESSES), vertex_count, 3, 3, device=device)  # …, xx xy yy, rgb
        self.pixels = torch.zeros(vertex_count, device=device)

    def add(
        self, fragments: Fragments, normal: Tensor, view: Tensor, color: Tensor, counts: Tensor, light: StageLight
    ) -> None:
        """Those pixels [P, 3] of sRGB-encoded `color` that `counts` [P, 1], each to the vertex nearest to it."""
        nearest = torch.cat((fragments.barycentrics, 1 - fragments.barycentrics.sum(1, keepdim=True)), dim=1).argmax(1)
        corners = fragments.triangles[fragments.triangle_ids.long()].long()
        vertex = corners.gather(1, nearest[:, None])[:, 0]
        linear = srgb_to_linear(color)
        # Squared errors of encoded color: of linear color, those of the bright would count alone.
        weight = linear.clamp(min=DARK).pow(1 / 2.4 - 1) * counts * (color < CLIPPED)
        self.pixels.index_add_(0, vertex, counts[:, 0].float())
        here = light.at(fragments)
        for metallic in (0, 1):
            for level, roughness in enumerate(ROUGHNESSES):
                black, white = (
                    shade(_uniform(len(linear), base, roughness, metallic, linear.device), normal, view, here)
                    for base in (0.0, 1.0)
                )
                x, y = (white - black) * weight, (linear - black) * weight
                self.values[metallic, level].index_add_(0, vertex, torch.stack((x * x, x * y, y * y), dim=1))

    def evidence(self, triangles: Tensor) -> MetalEvidence:
        """From all that was added."""
        ends = unique_edges(triangles).vertices.long()
        xx, xy, yy = self.values.unbind(-2)  # [2, R, V, 3]
        base_color = (xy / xx.clamp(min=1e-9)).clamp(0, 1)
        errors = (yy - 2 * base_color * xy + base_color.square() * xx).sum(-1)  # [2, R, V]
        pixels = _spread(self.pixels[:, None], ends)[:, 0]
        errors = _spread(errors.flatten(0, 1).T, ends).T.unflatten(0, errors.shape[:2])
        (dielectric, metal), (_, rough) = errors.min(dim=1)
        of_metal = base_color[1].gather(0, rough[None, :, None].expand(1, -1, 3))[0]
        seen = pixels >= FEWEST
        is_dielectric = seen & (metal > FITS * dielectric)
        is_metal = seen & ~is_dielectric & (luminance(of_metal)[:, 0] > BRIGHT)
        shares = _spread(torch.stack((is_metal, is_dielectric, torch.ones_like(seen)), dim=1).float(), ends)
        shares = shares[:, :2] / shares[:, 2:]
        roughness = torch.tensor(ROUGHNESSES, device=rough.device)[rough][:, None]
        material = torch.cat((of_metal, roughness, torch.ones_like(roughness)), dim=1)
        return MetalEvidence(shares[:, :1], shares[:, 1:], material)


def _uniform(count: int, base: float, roughness: float, metallic: float, device: torch.device) -> Tensor:
    return torch.tensor([base, base, base, roughness, metallic], device=device).expand(count, 5).contiguous()


def _spread(values: Tensor, ends: Tensor) -> Tensor:
    """`values` [V, C] added up over the vertices within `ROUNDS` edges [E, 2], the nearer the more often."""
    for _ in range(ROUNDS):
        total = values.clone()
        total.index_add_(0, ends[:, 0], values[ends[:, 1]])
        total.index_add_(0, ends[:, 1], values[ends[:, 0]])
        values = total
    return values
