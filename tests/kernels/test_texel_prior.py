# SPDX-License-Identifier: GPL-3.0-or-later
"""The prior on texels: its gradient beside the reference's, and which texels it holds together."""

import numpy as np
import torch

from backend.geometry.texels import gutter_source
from backend.kernels.reference import texel_prior as reference
from backend.kernels.texel_prior import BELOW, RIGHT, TexelPrior, link_texels


def test_gradient(device: str) -> None:
    made = torch.Generator().manual_seed(3)
    start, values = (torch.randn(190, 150, 7, generator=made) for _ in range(2))  # enough for several CPU cores
    links = torch.randint(0, 4, (190, 150), generator=made, dtype=torch.uint8)
    links[:, -1] &= ~int(RIGHT)
    links[-1] &= ~int(BELOW)
    inertia, stiffness = torch.rand(7, generator=made), torch.rand(7, generator=made)
    exact = values.double().requires_grad_()
    reference.penalty(exact, start.double(), links, inertia.double(), stiffness.double()).backward()
    textures = values.to(device).requires_grad_()
    before = 1e-5 * torch.randn(values.shape, generator=made)
    for _ in range(2):
        textures.grad = before.to(device, copy=True)
        TexelPrior(*(x.to(device) for x in (start, links, inertia, stiffness))).add_gradient(textures)
    found = textures.grad.cpu().double() - before.double()
    torch.testing.assert_close(found, exact.grad, rtol=0, atol=1e-10)


def test_charts_are_not_linked_across_their_gutter() -> None:
    covered = np.zeros((12, 20), bool)
    covered[2:10, 1:8] = covered[2:10, 12:19] = True  # two charts, four texels apart
    links = link_texels(gutter_source(covered))
    right = (links & int(RIGHT)) > 0
    assert right[2:10, 1:7].all() and right[2:10, 12:18].all()
    assert right[5, 7] and right[5, 11], "texels of the gutter that filters read belong to the chart beside them"
    assert not right[5, 9]
    below = (links & int(BELOW)) > 0
    assert below[2:9, 1:8].all() and not below[-1].any() and not right[:, -1].any()
