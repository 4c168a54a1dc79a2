# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that free vertices leave are found, and gone after the repair, which leaves the rest alone."""

from __future__ import annotations

import torch
import trimesh

from backend.geometry.unfold import find_faults, unfold
from tests.geometry.scan_reference import fold_degrees


def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces, dtype=torch.int32)


def test_a_sound_mesh_stays_as_it_is() -> None:
    vertices, triangles = sphere()
    assert not bool(find_faults(vertices, triangles).any())
    assert torch.equal(unfold(vertices, triangles), vertices)


def test_a_fold_is_found_and_taken_out_without_touching_the_rest() -> None:
    vertices, triangles = sphere()
    folded = vertices.clone()
    neighbor = triangles[(triangles == 7).any(1)][0]
    other = int(neighbor[neighbor != 7][0])
    folded[7] = vertices[7] + 2.2 * (vertices[other] - vertices[7])  # past its neighbor, over the next triangles
    assert bool(find_faults(folded, triangles).any())
    repaired = unfold(folded, triangles)
    assert not bool(find_faults(repaired, triangles).any())
    far = (vertices - vertices[7]).norm(dim=1) > 1.0
    assert torch.equal(repaired[far], vertices[far])
    assert float((repaired.norm(dim=1) - 1).abs().max()) < 0.1


def test_slivers_are_opened() -> None:
    vertices, triangles = sphere()
    a, b = (int(v) for v in triangles[0, :2])
    vertices[a] = vertices[b] + 1e-4 * (vertices[a] - vertices[b])
    assert bool(find_faults(vertices, triangles).any())
    assert not bool(find_faults(unfold(vertices, triangles), triangles).any())


def test_an_empty_mesh_passes() -> None:
    assert unfold(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int32)).shape == (0, 3)


def test_much_noise_leaves_no_fold() -> None:
    torch.manual_seed(0)
    mesh = trimesh.creation.icosphere(subdivisions=4)
    vertices, triangles = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    noisy = vertices + 0.02 * torch.randn_like(vertices)
    assert fold_degrees(noisy.numpy(), triangles.numpy()) > 175
    repaired = unfold(noisy, triangles)
    assert not bool(find_faults(repaired, triangles).any())
    assert fold_degrees(repaired.numpy(), triangles.numpy()) <= 150.1
    assert float((repaired != noisy).any(1).float().mean()) < 0.5


def test_a_sheet_thinner_than_its_triangles_is_opened_at_its_rim() -> None:
    vertices, triangles = sphere()
    vertices = vertices * torch.tensor([1.0, 1.0, 1e-4])
    assert fold_degrees(vertices.numpy(), triangles.numpy()) > 175
    opened = unfold(vertices, triangles)
    assert fold_degrees(opened.numpy(), triangles.numpy()) <= 150.1
    assert float((opened - vertices).norm(dim=1).max()) < 0.2
