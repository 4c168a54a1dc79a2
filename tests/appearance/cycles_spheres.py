# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a grid of spheres with the Principled BSDF in Cycles. Run by a Python with bpy, as a program of its own.

    python cycles_spheres.py SCENE.npz OUT.npy

SCENE.npz: materials [N, 5] (linear base color, roughness, metallic), environment [h, w, 3] lat-long with row 0 at the
top, columns, pixels (side of one sphere's square), samples. OUT.npy: linear radiance [rows·pixels, columns·pixels, 3],
row 0 at the top. Sphere k stands at row k // columns, column k % columns, its diameter the square's side; the camera is
orthographic and looks along +y, with +z up and +x to the right.
"""

import os
import sys
import tempfile

import numpy as np

os.environ.setdefault("BLENDER_USER_RESOURCES", tempfile.mkdtemp())
import bpy


def main(scene_path: str, out_path: str) -> None:
    data = np.load(scene_path)
    materials, environment = data["materials"], data["environment"]
    columns, pixels, samples = int(data["columns"]), int(data["pixels"]), int(data["samples"])
    rows = -(-len(materials) // columns)

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.view_settings.view_transform = "Standard"
    add_world(scene, environment)

    bpy.ops.mesh.primitive_ico_sphere_add(subdivisions=6, radius=1.0)
    template = bpy.context.object
    mesh = template.data
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), dtype=bool))
    mesh.materials.append(None)
    scene.collection.objects.unlink(template)
    for k, (red, green, blue, roughness, metallic) in enumerate(materials.tolist()):
        material = bpy.data.materials.new(f"m{k}")
        if bpy.app.version < (5, 0, 0):
            material.use_nodes = True
        principled = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        assert principled.distribution == "MULTI_GGX"
        principled.inputs["Base Color"].default_value = (red, green, blue, 1.0)
        principled.inputs["Roughness"].default_value = roughness
        principled.inputs["Metallic"].default_value = metallic
        principled.inputs["IOR"].default_value = 1.5
        sphere = bpy.data.objects.new(f"s{k}", mesh)
        scene.collection.objects.link(sphere)
        sphere.material_slots[0].link = "OBJECT"
        sphere.material_slots[0].material = material
        sphere.location = (2 * (k % columns), 0, -2 * (k // columns))
        # Each sphere is alone under the sky: no shadows or reflections from its neighbors.
        for ray in ("diffuse", "glossy", "transmission", "volume_scatter", "shadow"):
            setattr(sphere, f"visible_{ray}", False)

    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    camera.data.type = "ORTHO"
    camera.data.ortho_scale = 2 * max(columns, rows)
    camera.location = (columns - 1, -10, -(rows - 1))
    camera.rotation_euler = (np.pi / 2, 0, 0)
    scene.camera = camera

    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.pixel_filter_type = "BLACKMAN_HARRIS"
    cycles.filter_width = 0.01  # samples at pixel centers, where the test evaluates
    cycles.max_bounces = 2
    cycles.sample_clamp_direct = 0
    cycles.sample_clamp_indirect = 0
    cycles.blur_glossy = 0
    cycles.seed = 1
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 2
    scene.render.resolution_x = columns * pixels
    scene.render.resolution_y = rows * pixels
    scene.render.resolution_percentage = 100
    settings = scene.render.image_settings
    settings.file_format = "OPEN_EXR"
    settings.color_mode = "RGB"
    settings.color_depth = "32"
    exr = os.path.join(tempfile.mkdtemp(), "out.exr")
    scene.render.filepath = exr
    bpy.ops.render.render(write_still=True)

    image = bpy.data.images.load(exr)
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    values = np.empty(width * height * image.channels, dtype=np.float32)
    image.pixels.foreach_get(values)
    np.save(out_path, values.reshape(height, width, image.channels)[::-1, :, :3])


def add_world(scene: "bpy.types.Scene", environment: np.ndarray) -> None:
    height, width = environment.shape[:2]
    image = bpy.data.images.new("environment", width, height, float_buffer=True, is_data=True)
    rgba = np.ones((height, width, 4), dtype=np.float32)
    rgba[..., :3] = environment[::-1]
    image.pixels.foreach_set(rgba.ravel())
    # Packed as EXR: Cycles reads images back, and unsaved pixels are not promised to survive.
    image.file_format = "OPEN_EXR"
    image.pack()
    world = bpy.data.worlds.new("world")
    scene.world = world
    if bpy.app.version < (5, 0, 0):  # later versions always use nodes
        world.use_nodes = True
    nodes = world.node_tree.nodes
    background = next(node for node in nodes if node.type == "BACKGROUND")
    texture = nodes.new("ShaderNodeTexEnvironment")
    texture.image = image
    world.node_tree.links.new(texture.outputs["Color"], background.inputs["Color"])
    world.cycles.sampling_method = "MANUAL"
    world.cycles.sample_map_resolution = 256


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
