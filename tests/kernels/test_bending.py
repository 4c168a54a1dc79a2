# SPDX-License-Identifier: GPL-3.0-or-later
"""The bending of a mesh against its definition in torch."""

from __future__ import annotations

import torch

from backend.kernels.bending import bending


def reference(normals: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    corners = normals[triangles[triangles[:, 0] != triangles[:, 1]].long()]  # [T, 3, 3]
    return (1 - (corners * corners.roll(-1, 1)).sum(-1)).mean()


def test_value_and_gradient(device: str) -> None:
    torch.manual_seed(3)
    found = []
    normals = torch.nn.functional.normalize(torch.randn(40, 3, device=device), dim=-1)
    triangles = torch.stack([torch.randperm(40, device=device)[:3] for _ in range(60)]).int()
    padded = torch.cat((triangles, torch.zeros(500, 3, dtype=torch.int32, device=device)))
    for of in (bending, reference):
        leaf = normals.clone().requires_grad_()
        value = of(leaf, padded)
        (2 * value).backward()
        assert leaf.grad is not None
        found.append((value.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1])


def test_a_flat_mesh_and_an_empty_one_do_not_bend(device: str) -> None:
    up = torch.tensor([[0.0, 0.0, 1.0]], device=device).expand(5, 3)
    triangles = torch.tensor([[0, 1, 2], [2, 3, 4]], dtype=torch.int32, device=device)
    assert float(bending(up, triangles)) == 0
    assert float(bending(up, triangles[:0])) == 0
