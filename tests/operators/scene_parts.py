# SPDX-License-Identifier: GPL-3.0-or-later
"""What scenes and captures for tests are made of: photographs, masks, cameras, files of other programs.

Needs Blender, but not our extension: it also serves a Blender that has none yet.
"""

import json
import math
from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np

from tests.operators.sample_result import png

WIDTH, HEIGHT = 48, 32


def photograph(path: Path, value: float = 0.5, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """An opaque picture of a gradient whose blue channel is `value`."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.rint(np.linspace(0, 255, width)).astype(np.uint8)
    pixels[..., 1] = np.rint(np.linspace(0, 255, height)).astype(np.uint8)[:, None]
    pixels[..., 2] = round(255 * value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))
    return path


def mask(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """White in the middle third of the columns."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 3 : 2 * width // 3] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))
    return path


def sequence(folder: Path, numbers: range) -> Path:
    """An image sequence whose pictures say their number in blue; returns the first file."""
    for number in numbers:
        photograph(folder / f"shot_{number:04d}.png", number / 100)
    return folder / f"shot_{numbers[0]:04d}.png"


def orbit(angle: float, distance: float = 4.0, height: float = 1.5) -> mathutils.Matrix:
    """The matrix of a camera on a circle that looks at the origin."""
    place = mathutils.Vector((distance * math.cos(angle), distance * math.sin(angle), height))
    return mathutils.Matrix.Translation(place) @ place.to_track_quat("Z", "Y").to_matrix().to_4x4()


def add_camera(name: str, matrix: mathutils.Matrix | None = None, photo: Path | None = None) -> bpy.types.Object:
    """A camera of the open scene, with a photograph behind it."""
    camera: Any = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.data.lens, camera.data.shift_x, camera.data.shift_y = 40.0, 0.02, -0.03
    bpy.context.scene.collection.objects.link(camera)
    if matrix is not None:
        camera.matrix_world = matrix
    if photo is not None:
        background = camera.data.background_images.new()
        background.image = bpy.data.images.load(str(photo))
        camera.data.show_background_images = True
    bpy.context.view_layer.update()
    return camera


def ring(folder: Path, n: int = 4) -> list[bpy.types.Object]:
    """Cameras on a circle with photographs photo_0.png and so on behind them; the render size fits."""
    set_size()
    return [
        add_camera(f"Camera {i}", orbit(2 * math.pi * i / n), photograph(folder / f"photo_{i}.png", i / n))
        for i in range(n)
    ]


def set_size(width: int = WIDTH, height: int = HEIGHT) -> None:
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100


def animate(item: Any, frames: range) -> None:
    """Moves it on the circle, one key a frame."""
    for index, frame in enumerate(frames):
        item.matrix_world = orbit(2 * math.pi * index / len(frames))
        item.rotation_mode = "QUATERNION"
        item.rotation_quaternion = orbit(2 * math.pi * index / len(frames)).to_quaternion()
        item.keyframe_insert("location", frame=frame)
        item.keyframe_insert("rotation_quaternion", frame=frame)


def tracked_camera(frames: range, parent: bool = False) -> Any:
    """A camera that moves over the frames, by itself or on an animated empty."""
    scene = bpy.context.scene
    set_size()
    scene.frame_start, scene.frame_end = frames[0], frames[-1]
    camera = add_camera("Tracked")
    mover = camera
    if parent:
        mover = bpy.data.objects.new("Mover", None)
        scene.collection.objects.link(mover)
        camera.parent = mover
    animate(mover, frames)
    return camera


def lit_world() -> None:
    """An even gray light from everywhere."""
    world = bpy.data.worlds.new("world")
    world.color = (0.5, 0.5, 0.5)
    bpy.context.scene.world = world


def nerf(folder: Path) -> Path:
    """A capture with transforms.json."""
    frames = []
    for i in range(4):
        photograph(folder / f"{i}.png")
        frames.append({"file_path": f"{i}.png", "transform_matrix": [list(row) for row in orbit(i * 1.5)]})
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.8, "frames": frames}))
    return folder


def colmap(folder: Path) -> Path:
    """A model whose world is turned over, as COLMAP's are: z down."""
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    turn = mathutils.Matrix.Rotation(np.pi * 0.9, 4, "X")
    (model / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} 50 51 24.5 16.5\n")
    lines = []
    for i in range(4):
        photograph(folder / f"images/{i}.png")
        flip = mathutils.Matrix.Diagonal((1, -1, -1, 1))
        world_to_camera = (turn @ orbit(i * 1.5) @ flip).inverted()
        w, x, y, z = world_to_camera.to_quaternion()
        tx, ty, tz = world_to_camera.to_translation()
        lines += [f"{i + 1} {w!r} {x!r} {y!r} {z!r} {tx!r} {ty!r} {tz!r} 1 {i}.png", ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    points = (np.array(turn)[:3, :3] @ (np.random.default_rng(0).uniform(-0.5, 0.5, (3, 200)))).T
    (model / "points3D.txt").write_text("".join(f"{i} {x} {y} {z} 0 0 0 0\n" for i, (x, y, z) in enumerate(points)))
    return folder
