# SPDX-License-Identifier: GPL-3.0-or-later
"""Membranes: flat over a flat rim, the mean of their neighbors elsewhere, and nowhere but where they are asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from backend.geometry.membrane import patches, spanned
from backend.geometry.rings import grown
from tests.kernels.scenes import sphere


def bulge() -> tuple[Tensor, Tensor, Tensor]:
    """A sphere, and its vertices below z = −0.3."""
    vertices, triangles = sphere(24, 32)
    return vertices, triangles, vertices[:, 2] < -0.3


def test_a_bulge_over_a_flat_rim_becomes_flat() -> None:
    vertices, triangles, free = bulge()
    moved = spanned(vertices, triangles, free)
    torch.testing.assert_close(moved[~free], vertices[~free])
    rim = ~free & grown(free, triangles, 1)
    height = vertices[rim, 2]
    assert float(moved[free, 2].min()) >= float(height.min()) - 1e-5
    assert float(moved[free, 2].max()) <= float(height.max()) + 1e-5
    assert float(vertices[free, 2].min()) < -0.99


def test_free_vertices_are_the_mean_of_their_neighbors() -> None:
    vertices, triangles, free = bulge()
    moved = spanned(vertices, triangles, free).double()
    corners = triangles.long()
    links = torch.zeros(len(vertices), len(vertices), dtype=torch.float64)
    for k in range(3):
        links[corners[:, k], corners[:, (k + 1) % 3]] = 1
        links[corners[:, (k + 1) % 3], corners[:, k]] = 1
    mean = (links @ moved) / links.sum(1, keepdim=True)
    torch.testing.assert_close(mean[free], moved[free], rtol=0, atol=1e-5)


def test_a_part_without_a_rim_stays() -> None:
    vertices, triangles, _ = bulge()
    everything = torch.ones(len(vertices), dtype=torch.bool)
    torch.testing.assert_close(spanned(vertices, triangles, everything), vertices)
    nothing = ~everything
    torch.testing.assert_close(spanned(vertices, triangles, nothing), vertices)


def test_patches_are_told_apart() -> None:
    vertices, triangles, _ = bulge()
    caps = vertices[:, 2].abs() > 0.6
    count, part = patches(caps, triangles)
    assert count == 2 and set(part[caps.numpy()]) == {0, 1} and set(part[~caps.numpy()]) == {-1}
    assert len({part[i] for i in torch.nonzero(vertices[:, 2] > 0.6).flatten().tolist()}) == 1


def test_growing_takes_one_ring_at_a_time() -> None:
    vertices, triangles, _ = bulge()
    pole = vertices[:, 2] == vertices[:, 2].max()
    sizes = [int(grown(pole, triangles, rings).sum()) for rings in range(4)]
    assert sizes[0] == int(pole.sum()) and sizes == sorted(set(sizes))
