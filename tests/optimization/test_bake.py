# SPDX-License-Identifier: GPL-3.0-or-later
"""From the field to texels and from texels to the asset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.appearance.material import MIN_ROUGHNESS, Material
from backend.appearance.textured_mesh import CHANNELS, TexturedMesh
from backend.geometry.texels import rasterize_atlas
from backend.optimization import bake as module
from backend.optimization.bake import bake, bake_attributes, make_asset

SIZE = 32
# Two triangles of a slanted square, apart in the atlas.
VERTICES = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0], [2.0, 2.0, 1.0], [0.0, 2.0, 0.0]])
TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
UVS = np.array([[[0.05, 0.05], [0.45, 0.05], [0.45, 0.45]], [[0.55, 0.55], [0.95, 0.95], [0.55, 0.95]]], np.float32)


def ramp(positions: Tensor) -> Material:
    """A field whose value says where it was asked."""
    return Material(positions / 4 + 0.1, positions[:, :1] / 4 + 0.2, positions[:, 1:2] / 4)


def baked() -> Tensor:
    field: Any = ramp
    return bake(field, VERTICES, TRIANGLES, rasterize_atlas(UVS, SIZE))


def place(triangle: int, row: int, column: int) -> np.ndarray:
    """World position of a texel's center, by solving for the weights in the atlas."""
    point = np.array([(column + 0.5) / SIZE, 1 - (row + 0.5) / SIZE, 1.0])
    weights = np.linalg.solve(np.c_[UVS[triangle], np.ones(3)].T, point)
    return weights @ VERTICES.numpy()[TRIANGLES.numpy()[triangle]]


def test_each_texel_is_the_field_where_it_lies_on_the_surface() -> None:
    textures, texels = baked(), rasterize_atlas(UVS, SIZE)
    assert textures.shape == (SIZE, SIZE, CHANNELS)
    rows, columns = np.nonzero(texels.triangle_ids >= 0)
    assert len(rows) > 100 and set(texels.triangle_ids[rows, columns]) == {0, 1}
    for row, column in zip(rows[::7], columns[::7]):
        where = place(int(texels.triangle_ids[row, column]), int(row), int(column))
        expected = [*(where / 4 + 0.1), where[0] / 4 + 0.2, where[1] / 4, 0, 0]
        assert textures[row, column].tolist() == pytest.approx(expected, abs=1e-4)


def test_vertex_attributes_are_interpolated_as_the_field_is_read() -> None:
    """The ramp is linear in the position, so that both ways to the texels agree."""
    material = torch.cat(ramp(VERTICES), dim=1)
    found = bake_attributes(material, TRIANGLES, rasterize_atlas(UVS, SIZE))
    torch.testing.assert_close(found, baked()[..., : material.shape[1]])


def test_gutters_repeat_their_nearest_texel(monkeypatch: pytest.MonkeyPatch) -> None:
    textures, covered = baked(), rasterize_atlas(UVS, SIZE).triangle_ids >= 0
    rows, columns = np.nonzero(covered)
    for row, column in ((31, 31), (0, 0), (20, 2), (5, 28)):
        assert not covered[row, column]
        distance = (rows - row) ** 2 + (columns - column) ** 2
        candidates = [textures[r, c] for r, c, d in zip(rows, columns, distance) if d == distance.min()]
        assert any(torch.equal(textures[row, column], candidate) for candidate in candidates)
    monkeypatch.setattr(module, "POINTS_AT_ONCE", 7)  # in many pieces it is the same
    torch.testing.assert_close(baked(), textures)


def test_the_asset_is_what_was_optimised_within_its_ranges() -> None:
    normals = torch.nn.functional.normalize(torch.tensor([[-1.0, 0.0, 2.0]]), dim=-1).repeat(4, 1)
    mesh = TexturedMesh.of(VERTICES, TRIANGLES, normals, UVS)
    textures = baked().requires_grad_()
    with torch.no_grad():
        textures[..., 0] += 0.9  # beyond white
        textures[..., 3] -= 0.5  # below what a mirror is
        textures[..., 5], textures[..., 6] = 0.3, -0.4
        textures[0, 0] = 123.0  # in a gutter: no one has seen it
    light = torch.rand(8, 16, 3) - 0.1
    asset = make_asset(mesh, UVS, textures, light, rasterize_atlas(UVS, SIZE), "Thing")
    assert asset.name == "Thing"
    np.testing.assert_array_equal(asset.vertices, VERTICES.numpy())
    np.testing.assert_array_equal(asset.triangles, TRIANGLES.numpy())
    np.testing.assert_array_equal(asset.uvs, UVS)
    covered = rasterize_atlas(UVS, SIZE).triangle_ids >= 0
    values = textures.detach().numpy()
    np.testing.assert_allclose(asset.base_color[covered], values[covered][:, :3].clip(0, 1))
    np.testing.assert_allclose(asset.roughness[covered], values[covered][:, 3].clip(MIN_ROUGHNESS, 1))
    np.testing.assert_allclose(asset.metallic[covered], values[covered][:, 4].clip(0, 1))
    np.testing.assert_allclose(asset.normal_map, np.broadcast_to([0.3, -0.4, 0.75**0.5], (SIZE, SIZE, 3)), atol=1e-6)
    assert asset.base_color.max() <= 1 and asset.roughness.min() >= MIN_ROUGHNESS and asset.environment.min() == 0
    np.testing.assert_allclose(asset.environment, light.clamp(min=0).numpy())
