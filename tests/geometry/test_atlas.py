# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
import trimesh
from scipy.ndimage import distance_transform_edt, label
from scipy.spatial import Delaunay

from backend.geometry import packing
from backend.geometry.atlas import Atlas, cell_layout, dilate, make_atlas, rasterize_atlas
from backend.geometry.charts import describe, segment
from backend.geometry.flattening import flat_areas, flatten, project
from backend.geometry.overlaps import overlapping_pairs
from backend.geometry.texels import collisions, gutter_source
from tests.geometry.scan_reference import covered_texels, drop


def bumpy(subdivisions: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = np.asarray(sphere.vertices)
    radius = 1 + 0.15 * np.sin(points @ [6.0, 2, 1]) + 0.1 * np.sin(points @ [-3.0, 7, 5])
    random = np.random.default_rng(0).normal(size=points.shape)
    return points * radius[:, None] + noise * random, np.asarray(sphere.faces)


SHAPES = {
    "sphere": lambda: (lambda m: (m.vertices, m.faces))(trimesh.creation.icosphere(subdivisions=3)),
    "torus": lambda: (lambda m: (m.vertices, m.faces))(trimesh.creation.torus(1.0, 0.3)),
    "cube": lambda: (lambda m: (m.vertices, m.faces))(trimesh.creation.box().subdivide().subdivide()),
    "bumpy": lambda: bumpy(4),
    "noisy": lambda: bumpy(4, 0.02),
    "open": lambda: (lambda m: (m.vertices, m.faces[: len(m.faces) // 2]))(trimesh.creation.icosphere(subdivisions=3)),
    "one triangle": lambda: (np.eye(3), np.array([[0, 1, 2]])),
}


def check(atlas: Atlas, count: int, size: int) -> None:
    assert atlas.uvs.shape == (count, 3, 2) and atlas.uvs.dtype == np.float32
    assert atlas.uvs.min() >= 0 and atlas.uvs.max() <= 1
    assert atlas.chart_ids.shape == (count,)
    assert rasterize_atlas(atlas.uvs, size).overlaps == 0


def distance_between_charts(atlas: Atlas, size: int) -> float:
    """Smallest distance in texels between the centers of covered texels of different charts."""
    ids = rasterize_atlas(atlas.uvs, size).triangle_ids
    charts = np.where(ids >= 0, atlas.chart_ids[ids], -1)
    best = np.inf
    for chart in np.unique(charts[charts >= 0])[:40]:
        distance = distance_transform_edt(charts != chart)
        best = min(best, float(distance[(charts >= 0) & (charts != chart)].min(initial=np.inf)))
    return best


@pytest.mark.parametrize("name", SHAPES)
def test_atlas_is_valid(name: str):
    vertices, triangles = SHAPES[name]()
    atlas = make_atlas(vertices, triangles, 512, padding=4)
    check(atlas, len(triangles), 512)
    assert atlas.method == "projected charts"
    assert distance_between_charts(atlas, 512) >= 3
    assert atlas.utilization > 0.3
    assert (flat_areas(atlas.uvs.astype(np.float64)) > 0).all()  # not mirrored


@pytest.mark.parametrize(
    ("name", "charts", "mean"), [("sphere", 20, 1.2), ("torus", 32, 1.1), ("cube", 6, 1.001), ("bumpy", 60, 1.2)]
)
def test_few_charts_and_even_density(name: str, charts: int, mean: float):
    vertices, triangles = SHAPES[name]()
    atlas = make_atlas(vertices, triangles, 512)
    assert atlas.chart_count <= charts
    assert atlas.stretch[0] < mean and atlas.stretch[1] < 2.0


def test_charts_are_connected_and_their_corners_agree():
    vertices, triangles = SHAPES["bumpy"]()
    atlas = make_atlas(vertices, triangles, 256)
    surface = describe(vertices, triangles)
    one, corner = np.nonzero(atlas.chart_ids[surface.neighbors] == atlas.chart_ids[:, None])
    two = surface.neighbors[one, corner]
    start = np.argmax(triangles[two] == triangles[one, corner][:, None], axis=1)
    assert np.array_equal(atlas.uvs[one, corner], atlas.uvs[two, start])


def test_thin_sheets_leave_no_mirrored_triangle():
    # Noise much larger than the triangles: no projection keeps them all upright.
    vertices, triangles = bumpy(4, 0.06)
    atlas = make_atlas(vertices, triangles, 1024)
    check(atlas, len(triangles), 1024)
    assert (flat_areas(atlas.uvs.astype(np.float64)) > 0).all()
    assert atlas.method == "projected charts"


def test_overlap_is_found_and_repaired():
    # A screw of one and a half turns: all normals up, yet it covers itself.
    turn = np.linspace(0, 3 * np.pi, 120)
    inner = np.stack([0.5 * np.cos(turn), 0.5 * np.sin(turn), 0.05 * turn], 1)
    vertices = np.concatenate([inner, inner * [2, 2, 1]])
    k = np.arange(119)
    triangles = np.concatenate([np.stack([k, k + 120, k + 121], 1), np.stack([k, k + 121, k + 1], 1)])
    surface = describe(vertices, triangles)
    assert len(overlapping_pairs(project(surface, np.zeros(len(triangles), np.int64)), 100.0)[0])
    atlas = make_atlas(vertices, triangles, 256)
    check(atlas, len(triangles), 256)
    assert 2 <= atlas.chart_count <= 8


def test_time_limit_and_tiny_texture_fall_back_to_cells():
    vertices, triangles = SHAPES["bumpy"]()
    for size, limit in ((512, 0.0), (64, 60.0)):
        atlas = make_atlas(vertices, triangles, size, time_limit_s=limit)
        check(atlas, len(triangles), size)
    assert make_atlas(vertices, triangles, 512, time_limit_s=0.0).method == "cells"


@pytest.mark.parametrize("count", [1, 2, 3, 1001])
def test_cell_layout(count: int):
    uvs = cell_layout(count, 512, 2.0)
    check(Atlas(uvs, np.arange(count, dtype=np.int32), 0.0, "cells", (1.0, 1.0)), count, 512)
    if count == 1001:
        assert distance_between_charts(Atlas(uvs, np.arange(count), 0, "", (1, 1)), 512) >= 1.9


def test_empty_mesh_and_progress():
    assert make_atlas(np.zeros((0, 3)), np.zeros((0, 3), np.int64)).chart_count == 0
    shares: list[float] = []
    make_atlas(*SHAPES["sphere"](), 128, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_segment_gives_connected_charts_in_a_cone():
    surface = describe(*SHAPES["bumpy"]())
    charts = segment(surface)
    assert np.array_equal(np.unique(charts), np.arange(charts.max() + 1))
    axes = np.stack([np.bincount(charts, surface.normals[:, k] * surface.areas) for k in range(3)], 1)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    assert (surface.normals * axes[charts]).sum(1).min() > np.cos(np.radians(85))


def triangulated_square() -> np.ndarray:
    """Triangles [T, 3, 2] that fill a square of side 40."""
    random = np.random.default_rng(0)
    inner = random.random((300, 2)) * 40
    points = np.concatenate([inner, [[0, 0], [40, 0], [40, 40], [0, 40]], np.round(random.random((100, 2)) * 80) / 2])
    points = np.unique(points, axis=0)
    return points[Delaunay(points).simplices]


def test_scan_conversion_partitions_a_triangulated_square():
    corners = triangulated_square()
    _, row, column = np.array(covered_texels(corners)).T
    assert np.array_equal(np.sort(row * 40 + column), np.arange(1600))
    texels = rasterize_atlas(corners / 40 * [1, -1] + [0, 1], 40)
    assert texels.overlaps == 0 and (texels.triangle_ids >= 0).all()


def test_rasterization_equals_its_reference():
    triangles = np.random.default_rng(0).random((60, 3, 2))
    texels = rasterize_atlas(triangles, (48, 64))
    expected = np.full((48, 64), -1)
    covered = covered_texels(triangles * [64, -48] + [0, 48])
    for triangle, row, column in covered:
        expected[row, column] = triangle
    assert np.array_equal(texels.triangle_ids, expected)
    assert texels.overlaps == len(covered) - np.count_nonzero(expected >= 0)


def test_collisions_equal_their_reference():
    corners = np.random.default_rng(1).random((30, 3, 2)) * 20
    raster = np.arange(30) % 2 * 400  # two rasters, of every other triangle
    owner: dict[tuple[int, int, int], int] = {}
    expected = set()
    for triangle, row, column in covered_texels(corners):
        cell = (int(raster[triangle]), row, column)
        if cell in owner:
            expected.add((owner[cell], triangle))
        owner[cell] = triangle
    one, two = collisions(corners, raster, np.full(30, 20), 800)
    assert expected and set(zip(one.tolist(), two.tolist(), strict=True)) == expected


def test_packing_equals_its_reference():
    random = np.random.default_rng(0)
    centers = np.arange(12)[:, None, None] * [100.0, 0.0]
    shapes = (random.random((12, 3, 2)) * random.integers(4, 20, (12, 1, 1)) + centers).reshape(-1, 2)
    charts = np.repeat(np.arange(12), 3)
    edges = np.stack([np.arange(36), np.arange(36) // 3 * 3 + (np.arange(36) + 1) % 3], 1)
    outline = packing.Outline(shapes, charts, edges, charts, 12)
    low, high = packing.extents(shapes, charts, 12)
    points, cell, margin, grid = shapes - low[charts], 0.5, 1.0, 72
    turns, positions, height = packing.drop(outline, points, high - low, grid, cell, margin)
    cells, spans, begins = packing.profiles(outline, points, high - low, cell, margin)
    profiles = [
        [[tuple(spans[begins[c, k] + j].tolist()) for j in range(cells[c, k])] for k in (0, 1)] for c in range(12)
    ]
    order = np.lexsort((-cells.min(1), -cells.max(1))).tolist()
    placed = drop(profiles, [tuple(c) for c in cells.tolist()], order, grid)
    assert height == max(p[2] + cells[c, 1 - p[0]] for c, p in enumerate(placed))
    assert np.array_equal(turns, [p[0] for p in placed])
    assert np.array_equal(positions, np.array([p[1:] for p in placed]) * cell)


def test_flattening_turns_no_triangle_over():
    vertices, triangles = bumpy(5, 0.02)
    surface = describe(vertices, triangles)
    charts = segment(surface)
    before, after = project(surface, charts), flatten(surface, charts)
    shares = [flat_areas(x.points[x.corners]) / surface.areas for x in (before, after)]
    assert (shares[0] < 0.1).sum() > 50 and (shares[1] < 0.1).sum() <= 2
    assert (shares[1] > 0.3).mean() > 0.999


def test_rasterized_barycentrics_reproduce_uv():
    atlas = make_atlas(*SHAPES["torus"](), 128)
    texels = rasterize_atlas(atlas.uvs, (128, 128))
    row, column = np.nonzero(texels.triangle_ids >= 0)
    weights = texels.barycentrics[row, column].astype(np.float64)
    weights = np.concatenate([weights, 1 - weights.sum(1, keepdims=True)], 1)
    uv = (atlas.uvs[texels.triangle_ids[row, column]] * weights[..., None]).sum(1)
    assert np.abs(uv - np.stack([(column + 0.5) / 128, 1 - (row + 0.5) / 128], 1)).max() < 1e-4


def test_dilation_fills_with_the_nearest_texel():
    covered = np.zeros((8, 8), dtype=bool)
    covered[2, 2] = covered[6, 6] = True
    texture = np.zeros((8, 8, 3), dtype=np.float32)
    texture[2, 2], texture[6, 6] = 1.0, 2.0
    filled = dilate(texture, covered)
    assert (filled > 0).all() and (filled[0, 0] == 1).all() and (filled[7, 7] == 2).all()
    near = dilate(texture, covered, 1)
    assert np.count_nonzero(near[..., 0]) == 10
    assert np.array_equal(gutter_source(np.zeros((4, 4), bool)), np.arange(16).reshape(4, 4))
    assert label(covered)[1] == 2
