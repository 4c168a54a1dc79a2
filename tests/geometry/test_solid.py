# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed distance to meshes as artists have them: closed, turned inside out, open, torn into single triangles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.geometry.solid import AT_ONCE, signed_distance, signed_distance_reference
from tests.kernels.scenes import sphere

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def points(count: int, reach: float = 1.6) -> Tensor:
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1) * reach


def torus(rings: int = 24, segments: int = 16) -> tuple[Tensor, Tensor]:
    """Around z, radii 1 and 0.4, facing outward."""
    around, tube = torch.meshgrid(
        torch.arange(rings) * (2 * torch.pi / rings), torch.arange(segments) * (2 * torch.pi / segments), indexing="ij"
    )
    radius = 1 + 0.4 * tube.cos()
    vertices = torch.stack((radius * around.cos(), radius * around.sin(), 0.4 * tube.sin()), -1).reshape(-1, 3)
    i, j = (index.reshape(-1) for index in torch.meshgrid(torch.arange(rings), torch.arange(segments), indexing="ij"))
    a, b = i * segments + j, (i + 1) % rings * segments + j
    c, d = (i + 1) % rings * segments + (j + 1) % segments, i * segments + (j + 1) % segments
    return vertices, torch.cat((torch.stack((a, b, c), 1), torch.stack((a, c, d), 1)))


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_the_reference(device: str) -> None:
    vertices, triangles = torus()
    at = points(400)
    found = signed_distance(vertices, triangles, at.to(device)).cpu()
    torch.testing.assert_close(found, signed_distance_reference(vertices, triangles, at), atol=2e-5, rtol=1e-4)
    assert (found < 0).any() and (found > 0).any()
    inside = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # in the tube, in the hole
    assert (signed_distance(vertices, triangles, inside.to(device)).cpu() < 0).tolist() == [True, False]


def test_inside_out_is_turned() -> None:
    vertices, triangles = torus()
    at = points(200)
    there = vertices + 5.0  # far from the origin, where a volume must not depend on it
    torch.testing.assert_close(
        signed_distance(there, triangles.flip(1), at + 5.0), signed_distance(vertices, triangles, at), atol=1e-5, rtol=0
    )


def test_a_hole_closes_flatly() -> None:
    vertices, triangles = sphere(24, 32)
    top = vertices[triangles.long()].mean(1)[:, 2] > 0.8
    found = signed_distance(
        vertices, triangles[~top], torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.6], [0.0, 0.0, 1.2]])
    )
    assert (found < 0).tolist() == [True, True, False]


def test_loose_triangles_still_have_an_inside() -> None:
    vertices, triangles = sphere(24, 32)
    loose = vertices[triangles.long()].reshape(-1, 3)
    at = points(300)
    away = at[(at.norm(dim=1) - 1).abs() > 0.05]
    found = signed_distance(loose, torch.arange(len(loose)).view(-1, 3), away)
    assert torch.equal(found < 0, away.norm(dim=1) < 1)


def test_it_can_be_told_to_end() -> None:
    shares: list[float] = []

    def tell(share: float) -> None:
        shares.append(share)
        if share > 0.5:
            raise InterruptedError

    vertices, triangles = torus(6, 5)
    with pytest.raises(InterruptedError):
        signed_distance(vertices, triangles, points(3 * AT_ONCE["cpu"]), tell)
    assert shares == pytest.approx([1 / 3, 2 / 3])
