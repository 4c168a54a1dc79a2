# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangles that face out of what they enclose, whatever they faced before."""

from __future__ import annotations

import torch
from torch import Tensor

from backend.geometry.mesh import face_normals
from backend.geometry.orientation import facing_outward
from tests.geometry.test_solid import torus
from tests.kernels.scenes import sphere

Mesh = tuple[Tensor, Tensor]


def joined(*meshes: Mesh) -> Mesh:
    """As one mesh."""
    vertices, triangles, count = [], [], 0
    for some, corners in meshes:
        vertices.append(some)
        triangles.append(corners.long() + count)
        count += len(some)
    return torch.cat(vertices), torch.cat(triangles)


def flipped(triangles: Tensor, share: float) -> Tensor:
    """Some of the triangles turned over."""
    turned = torch.rand(len(triangles), generator=torch.Generator().manual_seed(3)) < share
    return torch.where(turned[:, None], triangles.flip(1), triangles)


def outward(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Of a convex mesh around the origin, which triangles [T] face away from it."""
    return (face_normals(vertices, triangles) * vertices[triangles.long()].mean(1)).sum(1) > 0


def sound(vertices: Tensor, triangles: Tensor) -> Mesh:
    """Without the triangles that have no area (a sphere's at its poles)."""
    return vertices, triangles[face_normals(vertices, triangles).norm(dim=1) > 1e-9]


def test_what_faces_outward_stays() -> None:
    for vertices, triangles in (sound(*sphere(12, 16)), torus()):
        assert torch.equal(facing_outward(vertices, triangles), triangles)


def test_each_closed_part_by_itself() -> None:
    ball, ring = sound(*sphere(12, 16)), torus()
    vertices, triangles = joined(ball, (ring[0] + 5.0, ring[1]))
    mixed = torch.cat((triangles[: len(ball[1])], triangles[len(ball[1]) :].flip(1)))
    assert torch.equal(facing_outward(vertices, mixed).sort(1).values, triangles.sort(1).values)
    volumes = face_normals(vertices, facing_outward(vertices, mixed)) * (vertices[triangles].mean(1) - 5.0)
    assert volumes[len(ball[1]) :].sum() > 0


def test_triangles_that_disagree() -> None:
    vertices, triangles = sound(*sphere(12, 16))
    for share in (0.3, 0.7):
        assert outward(vertices, facing_outward(vertices, flipped(triangles, share))).all()
    loose = vertices[triangles.long()].reshape(-1, 3)  # every triangle with vertices of its own
    own = flipped(torch.arange(len(loose)).view(-1, 3), 0.3)
    assert outward(loose, facing_outward(loose, own)).all()


def test_an_open_part_keeps_its_larger_side() -> None:
    """The inner wall of a cup made of two sheets faces its axis: alone it encloses less than nothing."""
    vertices, triangles = sound(*sphere(12, 16))
    open_ball = triangles[vertices[triangles.long()].mean(1)[:, 2] < 0.5]
    outer = flipped(open_ball, 0.2)
    inner = flipped(open_ball.flip(1), 0.2)
    cup, parts = joined((vertices, outer), (0.8 * vertices, inner))
    for given in (parts, parts.flip(1)):
        turned = outward(cup, facing_outward(cup, given))
        assert turned[: len(outer)].all() and not turned[len(outer) :].any()


def test_a_strip_with_one_side_stays() -> None:
    angle = torch.arange(24) * (2 * torch.pi / 24)
    lift = torch.stack((angle.cos() * (angle / 2).cos(), angle.sin() * (angle / 2).cos(), (angle / 2).sin()), 1)
    middle = torch.stack((angle.cos(), angle.sin(), torch.zeros(24)), 1)
    vertices = torch.cat((middle + 0.3 * lift, middle - 0.3 * lift))
    i = torch.arange(23)
    a, b, c, d = i, i + 1, i + 25, i + 24
    last = torch.tensor([[23, 24, 0], [23, 0, 47]])  # around, the sides have changed places
    triangles = torch.cat((torch.stack((a, b, c), 1), torch.stack((a, c, d), 1), last))
    found = facing_outward(vertices, triangles)
    assert torch.equal(found, triangles) or torch.equal(found, triangles.flip(1))
