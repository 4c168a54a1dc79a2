# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes photographs that cannot be referred to as they are: packed, out of a movie, or undistorted."""

from pathlib import Path
from types import TracebackType
from typing import Any

import bpy
import numpy as np

from ..backend.capture.image_header import IMAGE_SUFFIXES, read_image_header
from ..backend.capture.model import Camera
from ..backend.errors import UserError
from . import compat
from .collect_lens import TrackingLens
from .collect_plan import Pixels
from .images import load_image


def write_pixels(pixels: Pixels, stem: Path, movies: "Movies") -> Path:
    """Writes the photograph as `stem` with a suffix of its kind; returns its path. Raises UserError."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    if pixels.kind == "MOVIE":
        return movies.write(pixels.datablock, pixels.path, pixels.frame, stem.with_name(f"{stem.name}.png"))
    image: bpy.types.Image = pixels.datablock
    if pixels.kind == "PACKED" and not image.is_dirty and (packed := image.packed_file) is not None:
        suffix = pixels.path.suffix.lower()
        path = stem.with_name(f"{stem.name}{suffix if suffix in IMAGE_SUFFIXES else '.png'}")
        path.write_bytes(packed.data)
        try:
            read_image_header(path)
            return path
        except UserError:
            path.unlink()
    array = _values(image)
    return _save(array, stem.with_name(f"{stem.name}{'.exr' if image.is_float else '.png'}"), alpha=image.channels == 4)


def write_undistorted(source: Path, stem: Path, pinhole: Camera, lens: TrackingLens, mask: bool) -> Path:
    """Writes the picture as a camera without the lens would have taken it, at the same size; returns its path.

    `mask`: what lies outside of the picture is black. Of photographs it is transparent where they have an alpha
    channel, else the border goes on, so that it does not look like a mask.
    """
    image = load_image(source)
    try:
        array, is_float = _values(image), bool(image.is_float)
        # Of 8-bit files without alpha Blender says 4 channels too; the file's header knows.
        alpha = read_image_header(source).alpha
    finally:
        bpy.data.images.remove(image)
    result = resampled(array, pinhole, lens, fill=mask or alpha)
    stem.parent.mkdir(parents=True, exist_ok=True)
    return _save(result, stem.with_name(f"{stem.name}{'.exr' if is_float else '.png'}"), alpha)


def resampled(array: np.ndarray, pinhole: Camera, lens: TrackingLens, fill: bool) -> np.ndarray:
    """[H, W, 4] float32, top row first, through the lens, bilinear; zero outside with `fill`, else the border."""
    height, width = array.shape[:2]
    x = (np.arange(width) + 0.5 - pinhole.cx) / pinhole.fx
    y = (np.arange(height) + 0.5 - pinhole.cy) / pinhole.fy
    grid_x, grid_y = np.meshgrid(x, y)
    seen_x, seen_y = lens.shown(grid_x, -grid_y)
    # In units where the centers of pixels are whole numbers.
    column, row = seen_x * pinhole.fx + pinhole.cx - 0.5, -seen_y * pinhole.fy + pinhole.cy - 0.5
    outside = ~((column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5))
    column, row = np.clip(np.nan_to_num(column), 0, width - 1), np.clip(np.nan_to_num(row), 0, height - 1)
    left = np.minimum(column.astype(np.int64), max(width - 2, 0))
    top = np.minimum(row.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    a, b = (column - left)[..., None].astype(np.float32), (row - top)[..., None].astype(np.float32)
    upper = array[top, left] * (1 - a) + array[top, right] * a
    lower = array[bottom, left] * (1 - a) + array[bottom, right] * a
    result = upper * (1 - b) + lower * b
    if fill:
        result[outside] = 0.0
    return result


def _values(image: bpy.types.Image) -> np.ndarray:
    """[H, W, 4] float32, top row first, as stored: 8-bit values stay sRGB-encoded, floats linear."""
    width, height = image.size
    channels = image.channels
    values = np.empty(width * height * channels, np.float32)
    image.pixels.foreach_get(values)
    array = values.reshape(height, width, channels)[::-1]
    if channels == 4:
        return array
    full = np.ones((height, width, 4), np.float32)
    full[..., :3] = array[..., :3] if channels == 3 else array[..., :1]
    return full


def _save(array: np.ndarray, path: Path, alpha: bool) -> Path:
    """Writes [H, W, 4] values, top row first, as the suffix says; without the alpha channel where there is none."""
    height, width = array.shape[:2]
    is_float = path.suffix == ".exr"
    image = bpy.data.images.new(path.stem, width, height, alpha=alpha, float_buffer=is_float)
    try:
        if not alpha:
            array = np.concatenate([array[..., :3], np.ones((height, width, 1), np.float32)], axis=-1)
        image.pixels.foreach_set(np.ascontiguousarray(array[::-1], np.float32).ravel())
        image.filepath_raw, image.file_format = str(path), "OPEN_EXR" if is_float else "PNG"
        image.save()
    except RuntimeError as error:
        raise UserError("cannot write the photograph", where=str(path), found=str(error).strip()) from error
    finally:
        bpy.data.images.remove(image)
    return path


class Movies:
    """Writes frames of movies, through a scene of its own whose sequencer plays them; open it with `with`."""

    def __init__(self) -> None:
        self.scene: Any = None
        self.path: Path | None = None
        self.strip: Any = None

    def __enter__(self) -> "Movies":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.scene is not None:
            bpy.data.scenes.remove(self.scene)
            self.scene = None

    def write(self, datablock: Any, path: Path, frame: int, target: Path) -> Path:
        """Frame `frame`, counted from 1, as PNG."""
        if self.scene is None:
            self._open()
        if self.path != path:
            self._play(datablock, path)
        # A still would be of the frame that the artist's scene stands at; an animation of one frame is not.
        render = self.scene.render
        self.scene.frame_start = self.scene.frame_end = frame
        render.filepath = str(target.with_name("frame_"))
        made = Path(render.frame_path(frame=frame))
        try:
            bpy.ops.render.render(animation=True, scene=self.scene.name)
            made.replace(target)
        except (RuntimeError, OSError) as error:
            raise UserError("cannot write a frame of the movie", where=str(path), found=str(error).strip()) from error
        return target

    def _open(self) -> None:
        self.scene = bpy.data.scenes.new("Unrender Movie")
        render = self.scene.render
        settings = compat.image_output(render)
        settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
        render.resolution_percentage = 100
        render.use_compositing, render.use_sequencer = False, True
        # The movie's own values: what Standard shows of sRGB is sRGB.
        self.scene.view_settings.view_transform = "Standard"
        self.scene.display_settings.display_device = "sRGB"
        self.scene.sequencer_colorspace_settings.name = "sRGB"
        render.dither_intensity = 0.0

    def _play(self, datablock: Any, path: Path) -> None:
        editor = self.scene.sequence_editor_create()
        if self.strip is not None:
            editor.strips.remove(self.strip)
        width, height = datablock.size
        try:
            self.strip = editor.strips.new_movie("movie", str(path), 1, 1, fit_method="ORIGINAL")
        except RuntimeError as error:
            raise UserError("not a movie that can be read", where=str(path), found=str(error).strip()) from error
        self.path = path
        render = self.scene.render
        render.resolution_x, render.resolution_y = int(width), int(height)
        fps = float(getattr(self.strip, "fps", 0.0))
        if fps > 0.0:  # else the strip is played faster or slower than frame by frame
            render.fps, render.fps_base = max(1, round(fps)), max(1, round(fps)) / fps
