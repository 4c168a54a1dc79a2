# SPDX-License-Identifier: GPL-3.0-or-later
import os
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from backend.geometry.atlas import make_atlas
from backend.geometry.mesh import vertex_normals
from backend.geometry.tangents import tangent_frames


def bumpy_sphere(subdivisions: int = 3) -> tuple[np.ndarray, np.ndarray]:
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    points = np.asarray(sphere.vertices)
    radius = 1.0 + 0.1 * np.sin(points @ [5.0, 2.0, 1.0]) + 0.07 * np.sin(points @ [-3.0, 4.0, 6.0])
    return (points * radius[:, None]).astype(np.float32), np.asarray(sphere.faces, dtype=np.int64)


def normals_of(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    return vertex_normals(torch.from_numpy(vertices), torch.from_numpy(triangles)).numpy()


def test_plane_has_the_u_axis_as_tangent():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    normals = np.tile(np.array([[0, 0, 1]], dtype=np.float32), (4, 1))
    tangents = tangent_frames(vertices, triangles, normals, vertices[triangles][..., :2])
    np.testing.assert_allclose(tangents, np.tile([1, 0, 0, 1], (2, 3, 1)), atol=1e-6)
    mirrored = vertices[triangles][..., :2] * [-1, 1]
    tangents = tangent_frames(vertices, triangles, normals, mirrored)
    np.testing.assert_allclose(tangents, np.tile([-1, 0, 0, -1], (2, 3, 1)), atol=1e-6)


def test_frames_are_orthonormal_and_shared_inside_charts():
    vertices, triangles = bumpy_sphere()
    normals = normals_of(vertices, triangles)
    atlas = make_atlas(vertices, triangles, 256, 2)
    tangents = tangent_frames(vertices, triangles, normals, atlas.uvs)
    assert np.abs(np.linalg.norm(tangents[..., :3], axis=-1) - 1).max() < 1e-5
    assert np.abs((tangents[..., :3] * normals[triangles]).sum(-1)).max() < 1e-5
    keys = np.unique(np.stack([np.repeat(atlas.chart_ids, 3), triangles.reshape(-1)], 1), axis=0, return_inverse=True)[
        1
    ]
    first = np.zeros((keys.max() + 1, 4))
    first[keys] = tangents.reshape(-1, 4)
    assert np.abs(first[keys] - tangents.reshape(-1, 4)).max() < 1e-6


def test_triangles_without_uv_area_get_a_finite_frame():
    vertices, triangles = bumpy_sphere(1)
    uvs = np.zeros((len(triangles), 3, 2), dtype=np.float32)
    normals = normals_of(vertices, triangles)
    tangents = tangent_frames(vertices, triangles, normals, uvs)
    assert np.isfinite(tangents).all()
    assert np.abs(np.linalg.norm(tangents[..., :3], axis=-1) - 1).max() < 1e-5


BLENDER_SCRIPT = textwrap.dedent("""
    import sys
    import bpy
    import numpy as np
    folder = sys.argv[1]
    data = np.load(folder + "/mesh.npz")
    vertices, triangles, uvs, normals = data["vertices"], data["triangles"], data["uvs"], data["normals"]
    mesh = bpy.data.meshes.new("m")
    mesh.from_pydata(vertices.tolist(), [], triangles.tolist(), shade_flat=False)  # else each corner has its own normal
    layer = mesh.uv_layers.new(name="uv")
    layer.data.foreach_set("uv", uvs.astype(np.float32).ravel())
    mesh.normals_split_custom_set_from_vertices(normals.tolist())
    mesh.calc_tangents(uvmap="uv")
    count = len(mesh.loops)
    tangents, signs, used = (np.empty(count * k, np.float32) for k in (3, 1, 3))
    mesh.loops.foreach_get("tangent", tangents)
    mesh.loops.foreach_get("bitangent_sign", signs)
    mesh.loops.foreach_get("normal", used)
    np.savez(folder + "/tangents.npz", tangents=tangents.reshape(-1, 3), signs=signs, normals=used.reshape(-1, 3))
""")


@pytest.mark.skipif(not os.environ.get("UNRENDER_BLENDER_PYTHON"), reason="UNRENDER_BLENDER_PYTHON is not set")
def test_equal_to_blender(tmp_path: Path):
    vertices, triangles = bumpy_sphere()
    normals = normals_of(vertices, triangles)
    uvs = make_atlas(vertices, triangles, 512, 2).uvs.copy()
    mirrored = triangles[:, 0] % 7 == 0  # orientation groups: some triangles mirrored in place
    uvs[mirrored, :, 0] = 1.0 - uvs[mirrored, :, 0]
    np.savez(tmp_path / "mesh.npz", vertices=vertices, triangles=triangles, uvs=uvs, normals=normals)
    (tmp_path / "script.py").write_text(BLENDER_SCRIPT)
    python = os.environ["UNRENDER_BLENDER_PYTHON"]
    subprocess.run([python, str(tmp_path / "script.py"), str(tmp_path)], check=True, capture_output=True, timeout=120)
    found = np.load(tmp_path / "tangents.npz")
    # Blender stores custom normals in 16 bits per angle; ours are computed with what it came to.
    corner_normals = found["normals"].reshape(-1, 3, 3)
    ours = tangent_frames(vertices, triangles, normals, uvs).reshape(-1, 4)
    exact = tangent_frames(vertices, triangles, corner_normals, uvs).reshape(-1, 4)
    assert (ours[:, 3] == found["signs"]).all()
    for tangents, limit in ((ours, 0.02), (exact, 0.001)):
        sine = np.linalg.norm(np.cross(tangents[:, :3].astype(np.float64), found["tangents"]), axis=-1)
        assert np.degrees(np.arcsin(np.minimum(sine, 1.0))).mean() < limit
        assert ((tangents[:, :3] * found["tangents"]).sum(-1) > 0).all()
