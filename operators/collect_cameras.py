# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's cameras that have photographs behind them: still pictures, image sequences, movie clips."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..backend.capture.checks import count
from ..backend.capture.image_header import read_image_header
from ..backend.capture.model import Camera
from ..backend.errors import UserError
from .capture_camera import Frame, Intrinsics, Lens, intrinsics_from_lens, read_lens, rigid_pose
from .collect_lens import TOLERANCE, TrackingLens, as_opencv, read_tracking
from .collect_plan import Findings, Pixels, PlannedView

FOCAL_DIFFERENCE = 0.005  # between a camera and its clip's solve, worth a line


@dataclass(frozen=True)
class _Footage:
    """Frames behind a camera. File and frame numbers count as Blender counts them."""

    datablock: Any
    path: Path
    movie: bool
    first: int  # the scene's frame that shows the first one
    length: int
    offset: int  # of the file's number, or of the movie's frame, for the first frame
    clip: bpy.types.MovieClip | None = None


def cameras_of(scene: bpy.types.Scene, selected: bool, findings: Findings) -> list[bpy.types.Object]:
    """The cameras to collect from, by name: all that are not hidden, or the selected ones."""
    cameras = sorted((item for item in scene.objects if item.type == "CAMERA"), key=lambda item: item.name)
    if selected:
        chosen = [camera for camera in cameras if camera.select_get()]
        if len(chosen) < len(cameras):
            findings.add("INFO", f"{count(len(cameras) - len(chosen), 'camera')} left out, not selected")
        return chosen
    for camera in cameras:
        if not camera.visible_get():
            findings.about("INFO", "hidden, left out", camera.name)
    return [camera for camera in cameras if camera.visible_get()]


def views_of(
    scene: bpy.types.Scene, cameras: list[bpy.types.Object], step: int, findings: Findings
) -> list[PlannedView]:
    """A view for each photograph behind the cameras; of animated ones every `step`th frame."""
    views: list[PlannedView] = []
    for camera in cameras:
        try:
            views += _views(scene, camera, step, findings)
        except UserError as error:
            findings.add("ERROR", f"left out, {error}")
    return views


def _views(scene: bpy.types.Scene, camera: bpy.types.Object, step: int, findings: Findings) -> list[PlannedView]:
    background = _background(camera, findings)
    if background is None:
        findings.about("INFO", "no photograph behind the camera, left out", camera.name)
        return []
    footage = _footage(scene, background)
    if footage is None:
        return [_still(scene, camera, background.image, findings)]
    return list(_frames(scene, camera, footage, step, findings))


def _background(camera: bpy.types.Object, findings: Findings) -> Any:
    """The first background of a camera that shows something, None where there is none."""
    data: Any = camera.data
    filled = [
        each
        for each in data.background_images
        if (each.clip if each.source == "MOVIE_CLIP" else each.image) or each.use_camera_clip
    ]
    shown = [each for each in filled if each.show_background_image]
    if filled and not shown:
        findings.about("WARNING", "the photograph behind the camera is hidden; it was taken all the same", camera.name)
    if len(shown or filled) > 1:
        findings.about("WARNING", "more than one photograph behind the camera; the first was taken", camera.name)
    background = next(iter(shown or filled), None)
    if background is not None and _is_moved(background):
        text = "the photograph behind the camera is moved, turned or scaled; it was taken as if it were not"
        findings.about("WARNING", text, camera.name)
    return background


def _is_moved(background: Any) -> bool:
    moved = any(abs(value) > 1e-6 for value in (*background.offset, background.rotation, background.scale - 1.0))
    return moved or background.use_flip_x or background.use_flip_y


def _footage(scene: bpy.types.Scene, background: Any) -> _Footage | None:
    """What moves behind a camera; None where it is one picture."""
    if background.source == "MOVIE_CLIP":
        clip = scene.active_clip if background.use_camera_clip else background.clip
        if clip is None:
            raise UserError("the scene has no active movie clip", where=background.id_data.name)
        path = Path(bpy.path.abspath(clip.filepath, library=clip.library))
        number = 1 if clip.source == "MOVIE" else _number(path)
        return _Footage(
            clip, path, clip.source == "MOVIE", clip.frame_start, clip.frame_duration, number + clip.frame_offset, clip
        )
    image, user = background.image, background.image_user
    if image.source not in ("SEQUENCE", "MOVIE"):
        return None
    path = Path(bpy.path.abspath(image.filepath, library=image.library))
    movie = image.source == "MOVIE"
    return _Footage(image, path, movie, user.frame_start, user.frame_duration, 1 + user.frame_offset)


def _number(path: Path) -> int:
    """The last number in a file's name, by which a sequence counts."""
    found = re.search(r"(\d+)(?!.*\d)", path.stem)
    return int(found.group(1)) if found else 0


def numbered(path: Path, number: int) -> Path:
    """The file of a sequence with another number, as many digits where they suffice."""
    found = re.search(r"(\d+)(?!.*\d)", path.stem)
    if found is None:
        return path
    digits = str(number).zfill(len(found.group(1)))
    return path.with_name(path.stem[: found.start()] + digits + path.stem[found.end() :] + path.suffix)


def _still(scene: bpy.types.Scene, camera: bpy.types.Object, image: bpy.types.Image, findings: Findings) -> PlannedView:
    photo, pixels, width, height = _picture(image, camera.name, findings)
    pinhole = pinhole_of(scene, camera, read_lens(camera.data, camera.name), width, height)
    render = scene.render
    shape = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    if camera.get("unrender_view") is None and abs(shape * height / width - 1.0) > 0.01:
        text = "the photograph has other proportions than the render size; the lens was taken for the photograph's own"
        findings.about("WARNING", text, camera.name)
    lens = tuple(camera.get("unrender_distortion") or ())
    mask = camera.get("unrender_mask")
    exposure = camera.get("unrender_exposure")
    return PlannedView(
        name=str(camera.get("unrender_view") or Path(image.filepath or image.name).stem),
        origin=camera.name,
        camera=Camera(*pinhole, tuple(map(float, lens))),
        pose=rigid_pose(camera.matrix_world, camera.name),
        photo=photo,
        pixels=pixels,
        mask=Path(bpy.path.abspath(mask)) if mask else None,
        split=str(camera.get("unrender_split") or "train"),
        exposure=None if exposure is None else float(exposure),
    )


def _picture(image: bpy.types.Image, camera: str, findings: Findings) -> tuple[Path | None, Pixels | None, int, int]:
    """The file to refer to, or the pixels to write, and the size; raises UserError for what is no picture."""
    path = Path(image.filepath_from_user() or image.name)
    if image.packed_file is not None:
        findings.about("INFO", "the photograph is packed in the blend file; collecting writes it out", camera)
        kind = "PACKED"
    elif image.source == "GENERATED" or image.is_dirty:
        findings.about("INFO", "the photograph was painted or made in Blender; collecting writes it out", camera)
        kind = "CONVERT"
    elif image.source != "FILE":
        raise UserError("not a photograph", where=camera, expected="an image file", found=image.source.lower())
    elif not path.is_file():
        raise UserError("the photograph is missing", where=camera, found=str(path))
    else:
        try:
            header = read_image_header(path)
            return path, None, header.width, header.height
        except UserError:
            findings.about("INFO", f"{path.suffix or 'this'} is not read directly; collecting writes a PNG", camera)
            kind = "CONVERT"
    width, height = image.size
    if width < 1 or height < 1:
        raise UserError("not a picture that can be read", where=camera, found=str(path))
    return None, Pixels("PACKED" if kind == "PACKED" else "CONVERT", image, path), width, height


def pinhole_of(scene: bpy.types.Scene, camera: bpy.types.Object, lens: Lens, width: int, height: int) -> Intrinsics:
    """The intrinsics for a photograph of this size."""
    aspect = camera.get("unrender_pixel_aspect") or (scene.render.pixel_aspect_x, scene.render.pixel_aspect_y)
    return intrinsics_from_lens(lens, Frame(width, height, float(aspect[0]), float(aspect[1])))


def _frames(
    scene: bpy.types.Scene, camera: bpy.types.Object, footage: _Footage, step: int, findings: Findings
) -> Iterator[PlannedView]:
    """The frames that both the scene's range and the footage have."""
    first, last = max(scene.frame_start, footage.first), min(scene.frame_end, footage.first + footage.length - 1)
    if last < first:
        raise UserError(
            "the scene's frame range shows nothing of the footage",
            where=camera.name,
            expected=f"frames {footage.first} to {footage.first + footage.length - 1}",
            found=f"{scene.frame_start} to {scene.frame_end}",
            remedy="Set the scene's frame range to the clip's.",
        )
    frames = list(range(first, last + 1, max(1, step)))
    if len(frames) < footage.length:
        findings.add("INFO", f"{camera.name}: {len(frames)} of {footage.length} frames, by frame range and step")
    if footage.movie:
        findings.add("INFO", f"{camera.name}: collecting writes its {len(frames)} frames out of the movie")
    placed = list(_placed(scene, camera, frames))
    if len(placed) > 1 and max(np.abs(pose - placed[0][1]).max() for _, pose, _ in placed) < 1e-6:
        findings.add("WARNING", f"{camera.name}: the camera does not move; solve it, and set up the tracking scene")
    solved = _solved_frames(camera, footage)
    optics = _Optics(scene, camera, footage, findings)
    for frame, pose, own in placed:
        number = frame - footage.first + footage.offset
        path = footage.path if footage.movie else numbered(footage.path, number)
        name = f"{footage.path.stem}_{number:04d}" if footage.movie else path.stem
        if solved is not None and frame - footage.first + 1 not in solved:
            findings.about("WARNING", f"{camera.name} is not solved there, left out", name)
            continue
        if not path.is_file():
            findings.about("ERROR", f"left out, its file is missing beside {footage.path}", name)
            continue
        pinhole, lens = optics.at(path, own)
        pixels = Pixels("MOVIE", footage.datablock, path, number) if footage.movie else None
        yield PlannedView(name, camera.name, pinhole, pose, None if pixels else path, pixels, lens)


class _Optics:
    """Lens and size of an animated camera's photographs, with what had to be decided said once."""

    def __init__(self, scene: bpy.types.Scene, camera: bpy.types.Object, footage: _Footage, findings: Findings) -> None:
        self.scene, self.camera, self.footage, self.findings = scene, camera, footage, findings
        self.known: tuple[tuple[int, int], Camera, TrackingLens | None] | None = None  # of the clip's solve

    def at(self, path: Path, own: Lens) -> tuple[Camera, TrackingLens | None]:
        """Camera, and the lens to take out where OpenCV cannot express it."""
        if self.footage.movie:
            width, height = self.footage.datablock.size
        else:
            header = read_image_header(path)
            width, height = header.width, header.height
        if not width or not height:
            raise UserError("not a movie that can be read", where=self.camera.name, found=str(path))
        clip = self.footage.clip
        if clip is not None and (
            clip.tracking.reconstruction.is_valid or not read_tracking(clip, width, height)[1].straight
        ):
            if self.known is None or self.known[0] != (width, height):
                self.known = ((width, height), *self._solved(clip, width, height, own))
            return self.known[1:]
        return Camera(*pinhole_of(self.scene, self.camera, own, width, height)), None

    def _solved(
        self, clip: bpy.types.MovieClip, width: int, height: int, lens_now: Lens
    ) -> tuple[Camera, TrackingLens | None]:
        pinhole, lens = read_tracking(clip, width, height)
        own = pinhole_of(self.scene, self.camera, lens_now, width, height)
        name = self.camera.name
        if abs(own.fx / pinhole.fx - 1.0) > FOCAL_DIFFERENCE:
            text = f"the clip's focal length of {pinhole.fx:.1f} pixels was taken, not the camera's of {own.fx:.1f}"
            self.findings.add("WARNING", f"{name}: {text}")
        if lens.straight:
            return pinhole, None
        coefficients, error = as_opencv(lens, pinhole)
        kind = lens.model.capitalize()
        if error <= TOLERANCE:
            how = "exact" if error == 0.0 else f"within {max(error, 0.001):.3f} pixels"
            self.findings.add("INFO", f"{name}: lens distortion ({kind}) is written as OpenCV's coefficients, {how}")
            return Camera(width, height, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy, coefficients), None
        text = f"lens distortion ({kind}) has no OpenCV form: collecting writes undistorted photographs"
        self.findings.add("INFO", f"{name}: {text}")
        return pinhole, lens


def _solved_frames(camera: bpy.types.Object, footage: _Footage) -> set[int] | None:
    """The clip's frames that a Camera Solver constraint knows; None where the camera moves by itself."""
    if footage.clip is None or not any(each.type == "CAMERA_SOLVER" for each in camera.constraints):
        return None
    reconstruction = footage.clip.tracking.reconstruction
    return {camera.frame for camera in reconstruction.cameras} if reconstruction.is_valid else None


def _placed(
    scene: bpy.types.Scene, camera: bpy.types.Object, frames: list[int]
) -> Iterator[tuple[int, np.ndarray, Lens]]:
    """Frame, pose and optics at each frame. A scene of its own: evaluating the artist's may take minutes."""
    alone = bpy.data.scenes.new("Unrender Frames")
    try:
        alone.collection.objects.link(camera)
        alone.active_clip = scene.active_clip
        for frame in frames:
            alone.frame_set(frame)
            evaluated = camera.evaluated_get(alone.view_layers[0].depsgraph)
            yield frame, rigid_pose(evaluated.matrix_world, camera.name), read_lens(evaluated.data, camera.name)
    finally:
        bpy.data.scenes.remove(alone)
