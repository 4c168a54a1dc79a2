# SPDX-License-Identifier: GPL-3.0-or-later
"""Silhouette antialiasing, one pair of pixels at a time. Very slow; any float type; differentiable."""

import torch

from backend.kernels.reference.rasterize import pixel_centers, weights_at

MAX_STEPS = 128


def build_neighbors(triangles: torch.Tensor) -> torch.Tensor:
    """As `backend.kernels.antialias.build_neighbors`."""
    users: dict[frozenset[int], list[tuple[int, int]]] = {}
    rows = triangles.tolist()
    for t, row in enumerate(rows):
        for e in range(3):
            users.setdefault(frozenset((row[e], row[(e + 1) % 3])), []).append((t, e))
    neighbors = torch.full((len(rows), 3), -1, dtype=torch.int32)
    for sides in users.values():
        if len(sides) == 2:
            (t, e), (u, f) = sides
            neighbors[t, e], neighbors[u, f] = u, t
    return neighbors.to(triangles.device)


def _cross(a: torch.Tensor, b: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Edge function of the clip positions a, b at a pixel: linear in the pixel, zero on the edge's line."""
    qa, qb = a[:2] - pixel * a[3], b[:2] - pixel * b[3]
    return qa[0] * qb[1] - qa[1] * qb[0]


def _faces_viewer(corners: torch.Tensor) -> bool:
    return bool(torch.linalg.det(corners[:, [0, 1, 3]]) > 0)


def _depth(corners: torch.Tensor, pixel: torch.Tensor) -> float:
    z, w = (weights_at(corners, pixel) @ corners[:, 2:]).tolist()
    return z / w


def _walk(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    neighbors: torch.Tensor | None,
    owner: int,
    other: int,
    start: torch.Tensor,
    end: torch.Tensor,
) -> tuple[int, int] | str:
    """Silhouette edge (its two vertices) on the way from `start` to `end`, "same" surface, or "hidden"."""
    current, facing = owner, _faces_viewer(clip[triangles[owner]])
    for _ in range(MAX_STEPS):
        exits = []
        for e in range(3):
            vertices = (int(triangles[current, e]), int(triangles[current, (e + 1) % 3]))
            before = float(_cross(clip[vertices[0]], clip[vertices[1]], start).detach()) * (1 if facing else -1)
            after = float(_cross(clip[vertices[0]], clip[vertices[1]], end).detach()) * (1 if facing else -1)
            if after < 0 and before > after:
                exits.append((before / (before - after), e, vertices))
        if not exits:
            return "hidden"
        _, edge, vertices = min(exits)
        following = -1 if neighbors is None else int(neighbors[current, edge])
        if following < 0 or _faces_viewer(clip[triangles[following]]) != facing:
            return vertices
        if following == other:
            return "same"
        current = following
    return "same"


def antialias(
    image: torch.Tensor,
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    neighbors: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `backend.kernels.antialias.antialias`."""
    triangles = triangles.long()
    views, height, width, _ = image.shape
    pixels = pixel_centers((height, width), clip.dtype, clip.device)
    half = clip.new_tensor([width / 2, height / 2])
    result = list(image.unbind(0))
    for view in range(views):
        points, change = clip[view], torch.zeros_like(image[view])
        for first in [(i, j) for i in range(height) for j in range(width)]:
            for axis, second in enumerate([(first[0], first[1] + 1), (first[0] + 1, first[1])]):
                if second[0] == height or second[1] == width:
                    continue
                ids = {p: int(triangle_ids[view, p[0], p[1]]) for p in (first, second)}
                if ids[first] == ids[second]:
                    continue
                seen = [p for p in (first, second) if ids[p] >= 0]
                # the nearer pixel is asked first
                seen.sort(key=lambda p: _depth(points[triangles[ids[p]]], pixels[p]))
                for owner in seen:
                    other = second if owner == first else first
                    found = _walk(points, triangles, neighbors, ids[owner], ids[other], pixels[owner], pixels[other])
                    if found != "hidden":
                        break
                if isinstance(found, str):
                    continue
                a, b = points[found[0]], points[found[1]]
                normal = torch.stack([a[1] * b[3] - a[3] * b[1], a[3] * b[0] - a[0] * b[3]]).abs() / half
                if normal[axis] < normal[1 - axis]:
                    continue
                e0, e1 = _cross(a, b, pixels[owner]), _cross(a, b, pixels[other])
                excess = (e0 / (e0 - e1)).clamp(0, 1) - 0.5
                target = other if excess > 0 else owner
                where = torch.zeros(height, width, 1, dtype=image.dtype, device=image.device)
                where[target] = 1
                change = change + where * excess * (image[view][owner] - image[view][other])
        result[view] = image[view] + change
    return torch.stack(result)
