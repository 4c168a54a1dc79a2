# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed distance to a mesh that need not be closed: its sign is that of the generalized winding number.

Jacobson et al. 2013, "Robust Inside-Outside Segmentation using Generalized Winding Numbers": one inside and zero
outside a closed mesh, something between near a hole, and continuous everywhere but on the mesh.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import warp as wp
from torch import Tensor

from backend.kernels import bridge

from .orientation import facing_outward

wp.set_module_options(bridge.MODULE_OPTIONS)

ACCURACY = 2.0  # of the winding number: far triangles are taken together beyond so many of their radii
INSIDE = 0.5  # winding number from which on a point is inside
AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 22}  # points between two calls of `tell`


@wp.kernel
def _signed_distance(
    first: int,
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    accuracy: float,
    inside: float,
    distance: wp.array(dtype=float),
) -> None:
    i = first + wp.tid()
    query = wp.mesh_query_point_sign_winding_number(mesh, points[i], 1.0e30, accuracy, inside)
    distance[i] = 1.0e30
    if query.result:
        nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
        distance[i] = query.sign * wp.length(points[i] - nearest)


def signed_distance(
    vertices: Tensor, triangles: Tensor, points: Tensor, tell: Callable[[float], None] = lambda share: None
) -> Tensor:
    """Distance [P] of `points` [P, 3] to a mesh, negative inside.

    Args:
        vertices: [V, 3] float32.
        triangles: [T, 3], any integer type; T > 0. They may face inward, or each as it likes.
        tell: hears the share that is done, and may end it by an exception.
    """
    device = points.device
    triangles = facing_outward(vertices.cpu(), triangles.cpu())
    points = points.detach().float().contiguous()
    positions = bridge.as_array(vertices.float().contiguous().to(device), wp.vec3)
    indices = bridge.as_array(triangles.to(device, torch.int32).reshape(-1).contiguous(), wp.int32)
    _wait(device)  # the tree is built on Warp's stream
    mesh = wp.Mesh(positions, indices, support_winding_number=True)
    _wait(device)
    distance = torch.empty(len(points), device=device)
    size, done = AT_ONCE[device.type], 0
    for some, found in zip(points.split(size), distance.split(size), strict=True):
        inputs = [mesh.id, bridge.as_warp(some, wp.vec3), ACCURACY, INSIDE]
        bridge.launch_range(_signed_distance, len(some), inputs, [bridge.as_warp(found, wp.float32)], device)
        _wait(device)  # before the mesh goes
        done += len(some)
        tell(done / max(1, len(points)))
    return distance


def _wait(device: torch.device) -> None:
    """Until Torch's and Warp's streams are empty."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        wp.synchronize_device(bridge.warp_device(device))


def signed_distance_reference(vertices: Tensor, triangles: Tensor, points: Tensor) -> Tensor:
    """As `signed_distance`, from the exact winding number and all triangles, slowly, for a mesh that faces outward."""
    a, b, c = (vertices[triangles[:, k].long()].double() for k in range(3))  # [T, 3]
    p = points.double()[:, None]  # [P, 1, 3]
    # Van Oosterom & Strackee 1983: the solid angle of a triangle.
    u, v, w = a - p, b - p, c - p
    lu, lv, lw = u.norm(dim=-1), v.norm(dim=-1), w.norm(dim=-1)
    numerator = (u * torch.linalg.cross(v, w)).sum(-1)
    denominator = lu * lv * lw + (u * v).sum(-1) * lw + (v * w).sum(-1) * lu + (w * u).sum(-1) * lv
    winding = torch.atan2(numerator, denominator).sum(1) / (2 * torch.pi)  # [P]
    distance = _distance_to_triangles(a, b, c, p).amin(1)
    return torch.where(winding > INSIDE, -distance, distance).float()


def _distance_to_triangles(a: Tensor, b: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """Distance [P, T] of points [P, 1, 3] to triangles with corners [T, 3]: to their plane or their nearest edge."""
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    height = ((p - a) * normal).sum(-1)
    above = torch.ones_like(height, dtype=torch.bool)
    nearest = torch.full_like(height, torch.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge = end - start
        share = (((p - start) * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
        nearest = torch.minimum(nearest, (p - start - share[..., None] * edge).norm(dim=-1))
        above &= ((p - start) * torch.linalg.cross(normal, edge)).sum(-1) >= 0
    return torch.where(above, height.abs(), nearest)
