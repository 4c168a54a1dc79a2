# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of parity: Blender's own importer and a plain Environment Texture see the asset as we meant it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from backend.export.asset import Asset
from backend.export.result import write_result
from backend.export.textures import linear_from_srgb, quantize, srgb_from_linear

from .shapes import FACES, TILT, cube

pytestmark = pytest.mark.skipif(
    not os.environ.get("UNRENDER_BLENDER_PYTHON"),
    reason="UNRENDER_BLENDER_PYTHON, a Python with bpy, is not set",
)

DISTANCE, ANGLE, SIZE = 4.0, 1.2, 48
"""Of the six cameras that look at the cube's faces: the face spans the middle, the environment the rim."""

SCRIPT = '''
import json, math, os, sys
import bpy, mathutils, numpy as np
result, out, poses = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
size, angle = int(sys.argv[4]), float(sys.argv[5])
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.import_scene.gltf(filepath=os.path.join(result, "asset.glb"))
scene = bpy.context.scene
(thing,) = [o for o in scene.objects if o.type == "MESH"]
mesh = thing.data
mesh.calc_loop_triangles()
world = np.array(thing.matrix_world)

def floats(items, name, width):
    values = np.empty(len(items) * width, np.float32)
    items.foreach_get(name, values)
    return values.reshape(-1, width)

corners = np.empty(len(mesh.loop_triangles) * 3, np.int32)
mesh.loop_triangles.foreach_get("loops", corners)
vertex = np.empty(len(mesh.loops), np.int32)
mesh.loops.foreach_get("vertex_index", vertex)
(material,) = mesh.materials
tree = material.node_tree
(shader,) = [n for n in tree.nodes if n.type == "BSDF_PRINCIPLED"]

def source(socket):
    """Node type, output and image behind a socket, through Separate Color and Normal Map."""
    (link,) = socket.links
    node, path = link.from_node, [link.from_socket.name]
    while node.type != "TEX_IMAGE":
        path.append(node.type)
        (link,) = next(i for i in node.inputs if i.links).links
        node = link.from_node
    return path + [node.image.name, node.image.colorspace_settings.name, node.extension, node.interpolation]

facts = {
    "names": [thing.name, mesh.name, material.name],
    "matrix": world.tolist(),
    "culling": material.use_backface_culling,
    "uv_layers": len(mesh.uv_layers),
    "sources": {name: source(shader.inputs[name]) for name in ("Base Color", "Roughness", "Metallic", "Normal")},
    "values": {name: shader.inputs[name].default_value for name in ("IOR", "Alpha", "Transmission Weight")},
    "mapping_nodes": [n.name for n in tree.nodes if n.type == "MAPPING"],
}
base = next(i for i in bpy.data.images if "BaseColor" in i.name)
pixels = np.empty(base.size[0] * base.size[1] * base.channels, np.float32)
base.pixels.foreach_get(pixels)
np.savez(
    os.path.join(out, "mesh.npz"),
    positions=(floats(mesh.vertices, "co", 3) @ world[:3, :3].T + world[:3, 3])[vertex][corners],
    uvs=floats(mesh.uv_layers[0].data, "uv", 2)[corners],
    normals=floats(mesh.corner_normals, "vector", 3)[corners],
    base=pixels.reshape(base.size[1], base.size[0], -1),
)
json.dump(facts, open(os.path.join(out, "facts.json"), "w"))

layer = scene.view_layers[0]
for name, socket, kind in (("base_color", "Base Color", "COLOR"), ("roughness", "Roughness", "VALUE"),
                           ("metallic", "Metallic", "VALUE")):
    aov = layer.aovs.add()
    aov.name, aov.type = name, kind
    node = tree.nodes.new("ShaderNodeOutputAOV")
    node.aov_name = name
    tree.links.new(shader.inputs[socket].links[0].from_socket, node.inputs["Color" if kind == "COLOR" else "Value"])
layer.use_pass_normal = True
sky = bpy.data.worlds.new("sky")
scene.world = sky
if not sky.node_tree:
    sky.use_nodes = True
environment = sky.node_tree.nodes.new("ShaderNodeTexEnvironment")
environment.image = bpy.data.images.load(os.path.join(result, "environment.exr"))
background = next(n for n in sky.node_tree.nodes if n.type == "BACKGROUND")
sky.node_tree.links.new(environment.outputs["Color"], background.inputs["Color"])
sky.cycles.sampling_method, sky.cycles.sample_map_resolution = "MANUAL", 64
camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
scene.collection.objects.link(camera)
scene.camera = camera
camera.data.angle = angle
render = scene.render
render.engine, scene.cycles.device, scene.cycles.samples = "CYCLES", "CPU", 8
scene.cycles.use_denoising = False
render.resolution_x = render.resolution_y = size
if hasattr(render.image_settings, "media_type"):
    render.image_settings.media_type = "MULTI_LAYER_IMAGE"
render.image_settings.file_format, render.image_settings.color_depth = "OPEN_EXR_MULTILAYER", "32"
for index, pose in enumerate(poses):
    camera.matrix_world = mathutils.Matrix(pose)
    bpy.context.view_layer.update()
    render.filepath = os.path.join(out, f"face_{index}.exr")
    bpy.ops.render.render(write_still=True)
'''


@dataclass
class Seen:
    """What Blender made of the asset."""

    asset: Asset
    facts: dict[str, Any]
    mesh: dict[str, np.ndarray]
    views: list[dict[str, np.ndarray]]
    poses: list[np.ndarray]


def poses() -> list[np.ndarray]:
    """Cameras straight before each face of the cube, +u to the right and +v up."""
    center = np.array([0.3, -0.2, 0.5])
    found = []
    for face in FACES:
        n, u, v = (np.array(axis, float) for axis in face)
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = u, v, n, center + DISTANCE * n
        found.append(pose)
    return found


def read_layers(path: Path) -> dict[str, np.ndarray]:
    """Passes by their short name, whatever parts and channels this Blender split them into."""
    found: dict[str, np.ndarray] = {}
    with OpenEXR.File(str(path), separate_channels=True) as file:
        flat = {name: channel.pixels for part in file.parts for name, channel in part.channels.items()}
    for name in {key.rsplit(".", 1)[0] for key in flat}:
        axes = [axis for axis in "RGBXYZ" if f"{name}.{axis}" in flat] or ["V"]
        found[name.split(".")[-1]] = np.stack([flat[f"{name}.{axis}"] for axis in axes], axis=-1)
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("blender")
    asset = cube()
    result = write_result(folder / "result", asset, [], {})
    script = folder / "script.py"
    script.write_text(SCRIPT)
    settings = [str(result), str(folder), json.dumps([pose.tolist() for pose in poses()]), str(SIZE), str(ANGLE)]
    blender = os.environ["UNRENDER_BLENDER_PYTHON"]
    environment = os.environ | {"BLENDER_USER_RESOURCES": str(folder / "user")}
    done = subprocess.run(
        [blender, str(script), *settings], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    facts = json.loads((folder / "facts.json").read_text())
    mesh = dict(np.load(folder / "mesh.npz"))
    return Seen(asset, facts, mesh, [read_layers(folder / f"face_{i}.exr") for i in range(6)], poses())


def test_the_mesh_stands_where_it_stood(seen: Seen):
    asset = seen.asset
    assert seen.facts["matrix"] == np.eye(4).tolist()
    assert np.abs(seen.mesh["positions"].reshape(-1, 3, 3) - asset.vertices[asset.triangles]).max() < 1e-5
    assert np.abs(seen.mesh["uvs"].reshape(-1, 3, 2) - asset.uvs).max() < 1e-5
    # Blender stores custom normals with 16 bits per angle
    assert np.abs(seen.mesh["normals"].reshape(-1, 3, 3) - asset.normals[asset.triangles]).max() < 1e-3


def test_the_material_is_wired(seen: Seen):
    facts = seen.facts
    assert facts["names"] == ["Cube"] * 3 and facts["uv_layers"] == 1 and facts["mapping_nodes"] == []
    assert facts["culling"] is True
    sources = facts["sources"]
    assert sources["Base Color"] == ["Color", "Cube_BaseColor", "sRGB", "EXTEND", "Linear"]
    assert sources["Roughness"][0] == "Green" and sources["Metallic"][0] == "Blue"
    for name in ("Roughness", "Metallic"):
        assert sources[name][1:] == ["SEPARATE_COLOR", "Cube_ORM", "Non-Color", "EXTEND", "Linear"]
    assert sources["Normal"] == ["Normal", "NORMAL_MAP", "Cube_Normal", "Non-Color", "EXTEND", "Linear"]
    assert facts["values"] == pytest.approx({"IOR": 1.5, "Alpha": 1, "Transmission Weight": 0})


def test_the_base_color_texture_arrives(seen: Seen):
    stored = quantize(srgb_from_linear(seen.asset.base_color))  # row 0 at the top, Blender's at the bottom
    assert (np.round(seen.mesh["base"][::-1, :, :3] * 255) == stored).all()


def texels(asset: Asset, texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear lookup, v up."""
    height, width = texture.shape[:2]
    x, y = uv[..., 0] * width - 0.5, (1 - uv[..., 1]) * height - 0.5
    return bilinear(texture, x, y, wrap=False)


def bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray, wrap: bool) -> np.ndarray:
    image = image.reshape(*image.shape[:2], -1)
    height, width = image.shape[:2]
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    total = np.zeros((*x.shape, image.shape[-1]))
    for i in (0, 1):
        for j in (0, 1):
            weight = (1 - np.abs(x - left - j)) * (1 - np.abs(y - top - i))
            column = (left + j) % width if wrap else np.clip(left + j, 0, width - 1)
            total += weight[..., None] * image[np.clip(top + i, 0, height - 1), column]
    return total


def rays(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(World directions [SIZE, SIZE, 3], positions [SIZE, SIZE, 2] on the plane of the face, which spans −1..1)."""
    focal = SIZE / 2 / np.tan(ANGLE / 2)
    row, column = np.mgrid[:SIZE, :SIZE] + 0.5
    local = np.stack([(column - SIZE / 2) / focal, (SIZE / 2 - row) / focal, -np.ones_like(row)], axis=-1)
    return local @ pose[:3, :3].T, local[..., :2] * (DISTANCE - 1)


def test_each_face_shows_its_tile(seen: Seen):
    """Cameras, winding, texture coordinates, normal map and all material channels, as Cycles sees them."""
    for face, (view, pose) in enumerate(zip(seen.views, seen.poses)):
        _, on_face = rays(pose)
        inside = np.abs(on_face).max(axis=-1) < 0.8
        corner = np.array([face % 3 / 3 + 0.02, face // 3 / 2 + 0.02])
        uv = corner + (on_face * 0.5 + 0.5) * [0.28, 0.44]
        asset = seen.asset
        for name, texture in (("roughness", asset.roughness), ("metallic", asset.metallic)):
            expected = texels(asset, np.round(texture * 255) / 255, uv)[..., 0]
            assert np.abs(view[name][..., 0] - expected)[inside].mean() < 0.01, (face, name)
        stored = linear_from_srgb(quantize(srgb_from_linear(asset.base_color)).astype(np.float32) / np.float32(255))
        error = np.abs(view["base_color"] - texels(asset, stored, uv))[inside]
        assert error[:, :2].mean() < 0.01 and error[:, 2].mean() < 0.1, face  # blue alternates: its edges blur
        n, u, v = (np.array(axis) for axis in FACES[face])
        tilted = TILT[0] * u + TILT[1] * v + TILT[2] * n
        assert np.abs(view["Normal"] - tilted)[inside].max() < 0.02, face  # Cycles bends what would reflect downwards
        assert (view["Combined"][inside] > 0).all()


def test_the_environment_surrounds_it_as_written(seen: Seen):
    light = seen.asset.environment
    height, width = light.shape[:2]
    for face, (view, pose) in enumerate(zip(seen.views, seen.poses)):
        directions, on_face = rays(pose)
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        u = 0.5 - np.arctan2(directions[..., 1], directions[..., 0]) / (2 * np.pi)
        v = 0.5 + np.arcsin(np.clip(directions[..., 2], -1, 1)) / np.pi
        expected = bilinear(light, u * width - 0.5, (1 - v) * height - 0.5, wrap=True)
        outside = np.abs(on_face).max(axis=-1) > 1.6
        assert outside.sum() > 200
        assert np.abs(view["Combined"][..., :3] - expected)[outside].max() < 0.02, face
