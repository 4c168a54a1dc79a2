# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a Blender camera and the pinhole camera of a capture: `K` in pixels, `cam_to_world` in OpenGL axes.

Nothing here imports bpy: the functions take and give plain numbers, so the same code serves the collector, the importer
and tests without Blender. Pixels are measured from the image's top-left corner, pixel centers lie at +0.5.
"""

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..backend.errors import UserError

if TYPE_CHECKING:
    import bpy

SensorFit = Literal["AUTO", "HORIZONTAL", "VERTICAL"]
SENSOR_WIDTH = 36.0  # mm, Blender's own default: full frame
# Blender's lens slider refuses less than 1 mm; the sensor grows instead.
MIN_LENS = 1.0


class Intrinsics(NamedTuple):
    """A pinhole without distortion: size and `fx fy cx cy`, all in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


class Lens(NamedTuple):
    """What Blender keeps in the camera: millimeters, and shifts in units of the longer fitted side."""

    lens: float
    sensor_width: float
    sensor_height: float
    sensor_fit: SensorFit
    shift_x: float
    shift_y: float


class Frame(NamedTuple):
    """What Blender keeps in the render settings: size in pixels (percentage applied) and the shape of a pixel."""

    width: int
    height: int
    aspect_x: float = 1.0
    aspect_y: float = 1.0


def intrinsics_from_lens(lens: Lens, frame: Frame) -> Intrinsics:
    """The pinhole that Blender renders with.

    The fit decides which side the sensor measures; only an explicit VERTICAL fit reads `sensor_height`, while AUTO uses
    `sensor_width` for portrait pictures too.
    """
    ratio = frame.aspect_x / frame.aspect_y
    horizontal = lens.sensor_fit == "HORIZONTAL" or (lens.sensor_fit == "AUTO" and frame.width * ratio >= frame.height)
    view = float(frame.width) if horizontal else frame.height / ratio  # the fitted side, in units of a pixel's width
    sensor = lens.sensor_height if lens.sensor_fit == "VERTICAL" else lens.sensor_width
    fx = lens.lens * view / sensor
    return Intrinsics(
        width=frame.width,
        height=frame.height,
        fx=fx,
        fy=fx * ratio,
        cx=frame.width / 2 - lens.shift_x * view,
        cy=frame.height / 2 + lens.shift_y * view * ratio,
    )


def lens_from_intrinsics(pinhole: Intrinsics, sensor_width: float = SENSOR_WIDTH) -> tuple[Lens, Frame]:
    """The inverse of `intrinsics_from_lens`, with a HORIZONTAL fit so that a camera means the same whatever the scene's
    proportions are. `fx != fy` becomes the pixel aspect, which Blender wants to be at least 1 on both axes."""
    width, height, fx, fy, cx, cy = pinhole
    if not (width > 0 and height > 0 and fx > 0 and fy > 0 and all(map(math.isfinite, pinhole))):
        raise UserError(
            "a camera that cannot be", expected="positive, finite size and focal length", found=str(tuple(pinhole))
        )
    ratio = fy / fx
    aspect_x, aspect_y = (ratio, 1.0) if ratio >= 1 else (1.0, 1 / ratio)
    lens = fx * sensor_width / width
    if lens < MIN_LENS:
        lens, sensor_width = MIN_LENS, width * MIN_LENS / fx
    return (
        Lens(
            lens=lens,
            sensor_width=sensor_width,
            sensor_height=sensor_width * height / width / ratio,
            sensor_fit="HORIZONTAL",
            shift_x=(width / 2 - cx) / width,
            shift_y=(cy - height / 2) / (width * ratio),
        ),
        Frame(width, height, aspect_x, aspect_y),
    )


def rigid_pose(matrix_world: Any, name: str = "camera") -> np.ndarray:
    """`cam_to_world` [4, 4] float64 of an object's world matrix.

    Its scale is dropped, as Blender drops it when it looks through a camera. Raises UserError for shear, mirroring or a
    collapsed axis, which no photograph can have.
    """
    matrix = np.array(matrix_world, dtype=np.float64)
    axes = matrix[:3, :3]
    scale = np.linalg.norm(axes, axis=0)
    if not np.isfinite(matrix).all() or (scale < 1e-12).any():
        raise UserError(
            "the camera's transform is not invertible",
            where=name,
            expected="a rotation, a location and a scale",
            found=f"scale {scale}",
        )
    rotation = axes / scale
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3:
        raise UserError(
            "the camera is sheared",
            where=name,
            expected="axes at right angles",
            found="a parent with uneven scale",
            remedy="Apply the parent's scale, or clear the parent and keep the transform.",
        )
    if np.linalg.det(rotation) < 0:
        raise UserError(
            "the camera is mirrored",
            where=name,
            expected="positive scale",
            found="a negative scale",
            remedy="Apply the scale.",
        )
    u, _, vt = np.linalg.svd(rotation)  # the nearest rotation: float32 matrices are a little off
    pose = np.eye(4)
    pose[:3, :3] = u @ vt
    pose[:3, 3] = matrix[:3, 3]
    return pose


def read_lens(camera: "bpy.types.Camera", name: str = "") -> Lens:
    """The optics of Blender camera data. Raises UserError for what is not a pinhole."""
    if camera.type != "PERSP":
        raise UserError(
            "only perspective cameras can be photographs",
            where=name or camera.name,
            expected="Perspective",
            found=camera.type.capitalize(),
            remedy="Change the lens type in the camera's properties.",
        )
    return Lens(
        camera.lens,
        camera.sensor_width,
        camera.sensor_height,
        camera.sensor_fit,
        camera.shift_x,
        camera.shift_y,
    )


def read_frame(render: "bpy.types.RenderSettings") -> Frame:
    """The size that the scene renders at, percentage included."""
    scale = render.resolution_percentage / 100
    return Frame(
        int(render.resolution_x * scale), int(render.resolution_y * scale), render.pixel_aspect_x, render.pixel_aspect_y
    )


def write_lens(camera: "bpy.types.Camera", lens: Lens) -> None:
    camera.type = "PERSP"
    camera.lens_unit = "MILLIMETERS"
    camera.sensor_fit = lens.sensor_fit
    camera.sensor_width, camera.sensor_height = lens.sensor_width, lens.sensor_height
    camera.lens = lens.lens
    camera.shift_x, camera.shift_y = lens.shift_x, lens.shift_y


def write_frame(render: "bpy.types.RenderSettings", frame: Frame) -> None:
    render.resolution_x, render.resolution_y, render.resolution_percentage = frame.width, frame.height, 100
    render.pixel_aspect_x, render.pixel_aspect_y = frame.aspect_x, frame.aspect_y
