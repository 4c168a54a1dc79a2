# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of the scene's goes to the backend as the place to start from."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from bl_ext.dev.unrender.backend.capture import read_capture
from bl_ext.dev.unrender.backend.errors import UserError
from bl_ext.dev.unrender.operators import follow, queue_jobs, start_mesh
from mathutils import Matrix

from tests.operators import extension
from tests.operators.scene_parts import colmap
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
    path = start_mesh.write_start_mesh(bpy.context.scene, item, tmp_path / "job", pytest.fail)
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


def test_it_is_written_in_the_frame_of_the_capture_that_is_reconstructed(settings: Settings, tmp_path: Path) -> None:
    """A COLMAP model that was turned upright, then turned a quarter further by the artist, about its region."""
    bpy.ops.unrender.open_capture(filepath=str(colmap(tmp_path)))
    bounds = settings.collect.region
    bounds.scale = (0.5, 0.5, 0.5)
    bounds.location = (0.0, 0.0, 0.0)
    bpy.context.view_layer.update()
    settings.start_mesh = item = wedge()
    item.location = (0.2, 0.1, -0.1)
    for quarter in (False, True):
        if quarter:
            root = bounds.parent
            root.matrix_world = Matrix.Rotation(0.5 * np.pi, 4, "X") @ root.matrix_world
        bpy.context.view_layer.update()
        capture, path = given()
        vertices, _ = read_ply(path)
        shown = {camera["unrender_view"]: camera for camera in bpy.context.scene.objects if camera.type == "CAMERA"}
        for view in read_capture(capture).views:
            eye = np.array(shown[view.name].matrix_world.normalized().inverted(), np.float64)
            seen = np.array([tuple(item.matrix_world @ vertex.co) for vertex in item.data.vertices]) @ eye[:3, :3].T
            there = (vertices - view.center) @ view.cam_to_world[:3, :3]
            np.testing.assert_allclose(there, seen + eye[:3, 3], atol=1e-4)


def given() -> tuple[Path, Path]:
    """The capture and the mesh that Reconstruct hands to the backend."""
    assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
    watch = list(follow.WATCHES.values())[-1]
    said = arguments(watch)
    watch.process.kill()
    watch.process.wait()
    pump(lambda: watch.settled)
    return Path(said[said.index("reconstruct") + 1]), Path(said[said.index("--start-mesh") + 1])


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
    scene.collection.objects.unlink(far)  # as Delete does; the property still holds it
    with pytest.raises(RuntimeError, match="Far.*not in this scene.*deleted.*clear it"):
        bpy.ops.unrender.reconstruct()
    settings.start_mesh = bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT"))  # by a script
    with pytest.raises(RuntimeError, match="Lamp.*expected a mesh.*light"):
        bpy.ops.unrender.reconstruct()
    assert not (tmp_path / "jobs").exists()
    settings.start_mesh = None
    assert start_mesh.start_mesh_of(scene) is None


def test_nothing_is_left_of_a_job_that_cannot_be_started(settings: Settings, tmp_path: Path) -> None:
    settings.start_mesh = wedge()
    bpy.context.preferences.addons[extension.MODULE].preferences.python = "/nowhere/python"
    with pytest.raises(RuntimeError, match="Backend Python"):
        bpy.ops.unrender.reconstruct()
    assert not list(tmp_path.glob("jobs/*"))
    (tmp_path / "file").write_text("")
    settings.output = str(tmp_path / "file")
    with pytest.raises(RuntimeError, match="cannot write the mesh to start from.*Choose another output"):
        bpy.ops.unrender.reconstruct()
    settings.output = str(tmp_path / "full")
    (tmp_path / "full" / "start_mesh.ply").mkdir(parents=True)  # cannot be replaced
    with pytest.raises(RuntimeError, match="cannot write the mesh to start from"):
        bpy.ops.unrender.reconstruct()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["start_mesh.ply"]


def test_the_choice_stays_with_the_file_and_through_undo(tmp_path: Path) -> None:
    scene = bpy.context.scene
    scene.unrender.start_mesh = item = wedge()
    bpy.ops.ed.undo_push(message="chosen")
    for other in bpy.context.view_layer.objects:
        other.select_set(other == item)
    bpy.ops.object.delete()
    bpy.ops.ed.undo_push(message="deleted")
    with pytest.raises(UserError, match="not in this scene"):
        start_mesh.start_mesh_of(bpy.context.scene)
    bpy.ops.ed.undo()
    chosen = start_mesh.start_mesh_of(bpy.context.scene)
    assert chosen is not None and len(start_mesh.world_triangles(chosen)[1]) == 6
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "file.blend"))
    again = start_mesh.start_mesh_of(bpy.context.scene)
    assert again is not None and again.name == "Sculpt"


@pytest.mark.parametrize("how", ["object", "collection", "excluded"])
def test_one_that_blender_does_not_evaluate_is_refused(settings: Settings, how: str) -> None:
    """It would go without its modifiers, and from where it stood at last."""
    collection = bpy.data.collections.new("Sketches")
    bpy.context.scene.collection.children.link(collection)
    settings.start_mesh = item = wedge()
    bpy.context.scene.collection.objects.unlink(item)
    collection.objects.link(item)
    layer = bpy.context.view_layer.layer_collection.children["Sketches"]
    layer.hide_viewport = True  # the eye
    assert len(start_mesh.world_triangles(item)[1]) == 6
    if how == "excluded":
        layer.exclude = True
    else:
        (item if how == "object" else collection).hide_viewport = True
    with pytest.raises(RuntimeError, match=r"Sculpt.*disabled in the viewport.*Enable it"):
        bpy.ops.unrender.reconstruct()


def test_one_that_is_hidden_or_edited_is_written_as_it_stands(tmp_path: Path) -> None:
    item = wedge()
    bpy.context.view_layer.objects.active = item
    item.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(0.0, 0.0, 4.0))
    edited = start_mesh.world_triangles(item)[0]
    bpy.ops.object.mode_set(mode="OBJECT")
    item.hide_set(True)
    hidden, triangles = start_mesh.world_triangles(item)
    np.testing.assert_allclose(hidden, edited, atol=1e-6)
    assert len(triangles) == 6 and hidden[:, 2].min() == pytest.approx(7.0)


def test_a_size_that_is_far_from_the_regions_is_mentioned(tmp_path: Path) -> None:
    scene = bpy.context.scene
    item = wedge()
    item.matrix_world = Matrix()
    region = bpy.data.objects.new("Region", None)
    scene.collection.objects.link(region)
    scene.unrender.collect.region = region
    said: list[str] = []
    for scale, expected in ((1.0, None), (0.02, "0.01 times"), (40.0, "20 times")):
        item.scale = (scale, scale, scale)
        bpy.context.view_layer.update()
        start_mesh.write_start_mesh(scene, item, tmp_path, said.append)
        assert (expected is None and not said) or expected in said[-1], said


def test_only_meshes_of_this_scene_are_offered() -> None:
    bpy.context.scene.unrender.start_mesh = None
    item, light = wedge(), bpy.data.objects.new("Light", bpy.data.lights.new("Light", "POINT"))
    bpy.context.scene.collection.objects.link(light)
    elsewhere = bpy.data.objects.new("Elsewhere", item.data)
    from bl_ext.dev.unrender.panels.properties import is_mesh_of_scene

    offered = [other.name for other in (item, light, elsewhere) if is_mesh_of_scene(bpy.context.scene.unrender, other)]
    assert offered == ["Sculpt"]
