# SPDX-License-Identifier: GPL-3.0-or-later
"""The atlas beside the surface stage: the one that would have been made alone, and called off with the job."""

import time

import numpy as np
import pytest
import torch

from backend.geometry.atlas import make_atlas, rasterize_atlas
from backend.optimization.atlas_task import PADDING, AtlasTask


def sphere(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """An open sphere."""
    polar, around = np.meshgrid(
        np.linspace(0.1, 3.0, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1)
    row, column = (index.ravel() for index in np.mgrid[: rows - 1, :columns])
    after = (column + 1) % columns
    a, b = row * columns + column, row * columns + after
    triangles = np.concatenate([np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)])
    return torch.from_numpy(points.reshape(-1, 3).astype(np.float32)), torch.from_numpy(triangles)


def test_it_is_the_atlas_of_the_mesh_as_it_was() -> None:
    vertices, triangles = sphere(20, 24)
    alone = make_atlas(vertices.numpy().copy(), triangles.numpy(), 128, PADDING)
    shares: list[float] = []
    with AtlasTask(vertices, triangles, 128) as task:
        vertices[:, 2] *= 3.0  # what the surface stage does meanwhile
        atlas, texels = task.result(vertices, shares.append)
    np.testing.assert_array_equal(atlas.uvs, alone.uvs)
    assert atlas.chart_count == alone.chart_count
    assert atlas.stretch[0] > alone.stretch[0]  # of the mesh as it is
    np.testing.assert_array_equal(texels.triangle_ids, rasterize_atlas(alone.uvs, 128).triangle_ids)
    assert shares


def test_a_job_that_stops_calls_it_off() -> None:
    class Stop(Exception):
        pass

    def stop(share: float) -> None:
        raise Stop

    vertices, triangles = sphere(300, 300)
    began = time.monotonic()
    with pytest.raises(Stop), AtlasTask(vertices, triangles, 512) as task:
        task.result(vertices, stop)
    assert task._made.done() and task._made.exception() is not None
    assert time.monotonic() - began < 60


def test_its_errors_are_the_jobs() -> None:
    vertices, triangles = sphere(4, 4)
    with pytest.raises(IndexError), AtlasTask(vertices, triangles + 100, 64) as task:
        task.result(vertices, lambda share: None)
