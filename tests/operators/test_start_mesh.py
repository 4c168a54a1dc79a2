# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of the scene's goes to the backend as the place to start from."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.operators import follow, queue_jobs, start_mesh

from tests.operators.test_reconstruct import play, pump, settings

__all__ = ["settings"]

Settings = bpy.types.PropertyGroup


def wedge(name: str = "Sculpt") -> bpy.types.Object:
    """Two triangles and a quad, mirrored, turned and moved, with a modifier."""
    mesh = bpy.data.meshes.new(name)
    points = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 0.5, 1)]
    mesh.from_pydata(points, [], [(3, 2, 1, 0), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)])
    item = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(item)
    item.location, item.scale, item.rotation_euler = (1.0, 2.0, 3.0), (-1.0, 2.0, 0.5), (0.0, 0.0, 0.5)
    item.modifiers.new("Triangles", "TRIANGULATE")
    bpy.context.view_layer.update()
    return item


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    words = header.decode().split()
    count, faces = (int(words[i + 2]) for i, word in enumerate(words) if word == "element")
    vertices = np.frombuffer(body, "<f4", 3 * count).reshape(-1, 3)
    rows = np.frombuffer(body, [("count", "u1"), ("corners", "<i4", 3)], faces, 12 * count)
    assert len(body) == 12 * count + 13 * faces and (rows["count"] == 3).all()
    return vertices, rows["corners"]


def arguments(watch: follow.JobWatch) -> list[str]:
    assert watch.process is not None
    return [str(word) for word in watch.process.args]


def test_the_file_is_the_mesh_as_it_stands(tmp_path: Path) -> None:
    item = wedge()
    path = start_mesh.write_start_mesh(bpy.context.scene, item, tmp_path / "job")
    vertices, triangles = read_ply(path)
    expected = [tuple(item.matrix_world @ vertex.co) for vertex in item.data.vertices]
    np.testing.assert_allclose(vertices, expected, atol=1e-6)
    assert len(triangles) == 6  # the modifier's
    a, b, c = (vertices[triangles[:, k]] - vertices.mean(0) for k in range(3))
    assert (np.einsum("ij,ij->i", a, np.cross(b, c)) > 0).all()  # outward although the object is mirrored
    assert [other.name for other in path.parent.iterdir()] == ["start_mesh.ply"]


def test_reconstruct_starts_from_it_and_continue_does_not(settings: Settings) -> None:
    settings.start_mesh = wedge()
    watch = play(settings, "obey")
    said = arguments(watch)
    path = Path(said[said.index("--start-mesh") + 1])
    assert path == watch.folder / "start_mesh.ply" and len(read_ply(path)[0]) == 5
    bpy.ops.unrender.control(request="stop")
    pump(lambda: watch.settled)
    bpy.data.objects.remove(settings.start_mesh)
    (watch.folder / "checkpoint").mkdir(exist_ok=True)
    assert bpy.ops.unrender.reconstruct(resume=True) == {"FINISHED"}
    again = follow.job_of(bpy.context.scene)
    assert again is not None and "--start-mesh" not in arguments(again) and "--resume" in arguments(again)
    bpy.ops.unrender.control(request="stop")
    pump(lambda: again.settled)


def test_what_waits_takes_its_mesh_back(settings: Settings) -> None:
    settings.start_mesh = wedge()
    watch = play(settings, "obey")
    assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
    (entry,) = queue_jobs.WAITING
    assert (Path(entry.folder) / "start_mesh.ply").is_file()
    bpy.ops.unrender.queue_entry(action="remove", entry=entry.name)
    assert not Path(entry.folder).exists()
    bpy.ops.unrender.control(request="stop")
    pump(lambda: watch.settled)


def test_what_cannot_be_started_from_is_named(settings: Settings, tmp_path: Path) -> None:
    scene = bpy.context.scene
    settings.start_mesh = item = wedge()
    item.data.clear_geometry()
    with pytest.raises(RuntimeError, match=r"Sculpt.*no faces.*Start From"):
        bpy.ops.unrender.reconstruct()
    settings.start_mesh = far = wedge("Far")
    region = bpy.data.objects.new("Region", None)
    scene.collection.objects.link(region)
    region.location.x = 50.0
    settings.collect.region = region
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="Far.*outside the region"):
        bpy.ops.unrender.reconstruct()
    assert not (tmp_path / "jobs").exists()
    bpy.data.objects.remove(far)  # the property still holds it; it counts no more
    assert start_mesh.start_mesh_of(scene) is None


def test_only_meshes_of_this_scene_are_offered() -> None:
    bpy.context.scene.unrender.start_mesh = None
    item, light = wedge(), bpy.data.objects.new("Light", bpy.data.lights.new("Light", "POINT"))
    bpy.context.scene.collection.objects.link(light)
    elsewhere = bpy.data.objects.new("Elsewhere", item.data)
    from bl_ext.dev.unrender.panels.properties import is_mesh_of_scene

    offered = [other.name for other in (item, light, elsewhere) if is_mesh_of_scene(bpy.context.scene.unrender, other)]
    assert offered == ["Sculpt"]
