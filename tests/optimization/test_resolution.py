# SPDX-License-Identifier: GPL-3.0-or-later
"""Field, mesh and textures are as fine as the photographs deserve."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from backend.capture import read_capture
from backend.capture.loader import Photos, load_photos
from backend.optimization.resolution import field_cells, texture_side, triangle_count
from tests.kernels.scenes import sphere
from tests.optimization.synthetic import write_capture


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return load_photos(read_capture(write_capture(tmp_path_factory.mktemp("capture"), train=6, test=1)).split("train"))


def closer(photos: Photos, times: float) -> Photos:
    scale = torch.tensor([times, times, 1.0, 1.0])
    return replace(photos, intrinsics=photos.intrinsics * scale)


def test_it_grows_with_the_photographs_up_to_the_limit(photos: Photos) -> None:
    vertices, triangles = sphere(24, 12)
    sides = [texture_side(vertices, triangles, closer(photos, times), 4096) for times in (1, 16, 32, 64)]
    assert sides[0] == 256
    assert sides[2] == 2 * sides[1] and sides[3] == 4 * sides[1] <= 4096
    assert texture_side(vertices, triangles, closer(photos, 64), 300) == 300


def test_a_square_has_what_its_pixels_need(photos: Photos) -> None:
    """A square of one unit, ten units before a camera with a focal length of 8000 pixels, is 800 pixels wide."""
    vertices = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
    pose = torch.eye(4)
    pose[2, 3] = 10.0
    camera = torch.tensor([[8000.0, 8000.0, 400.0, 400.0]])
    one = replace(photos, intrinsics=camera, cam_to_world=pose[None])
    bounds = torch.tensor([[-0.5, -0.5, -0.25], [0.5, 0.5, 0.25]])
    assert field_cells(bounds, one, 1000) == 480 and field_cells(bounds, one, 160) == 160
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    assert texture_side(vertices, triangles, one, 8192) == 2048  # 800 √2 and up
    assert triangle_count(vertices, triangles, one, 10**6) == pytest.approx(0.6 * 800**2, rel=0.01)
    assert triangle_count(vertices, triangles, one, 1000) == 1000
    assert texture_side(vertices, triangles.flip(1), one, 8192) == 256  # seen by no camera
