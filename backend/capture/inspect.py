# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture holds, what it lacks and what is wrong with it, before hours are spent on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .checks import count, enumerated
from .masks import MaskSource, decode_view, masked_views
from .model import SPLITS, Capture, View
from .reader import read_capture
from .scene_bounds import (
    depth,
    nearest_point,
    optical_axes,
    pixel_rays,
    projected,
    radius_in_view,
    ray_distances,
    sampled_border,
)

FEW_VIEWS = 20  # below this, published reconstructions fall off quickly
CUT_OFF = 0.02  # of the image's border covered by the mask
DISAGREEMENT = 0.15  # of the image's longer side, between the object's center and its mask's


@dataclass(frozen=True)
class CameraSummary:
    """One kind of camera in the capture."""

    views: int
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]


@dataclass(frozen=True)
class Inspection:
    """What ``inspect`` found. Lengths are in the capture's units, parts of 1 for coverage."""

    path: str
    format: str
    splits: dict[str, int]
    cameras: tuple[CameraSummary, ...]
    masks: dict[str, int]
    """How many views have their mask from "alpha", "file", "none"."""
    coverage: tuple[float, float, float] | None
    """Least, mean and greatest part of the image that a mask shows."""
    center: tuple[float, float, float] | None
    radius: float | None
    radius_from: str
    """"masks", or "cameras" where there are none."""
    bounds: tuple[tuple[float, ...], ...] | None
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)

    def render_text(self) -> str:
        """The same as lines to read."""
        splits = ", ".join(f"{n} {split}" for split, n in self.splits.items() if n)
        lines = [f"{self.path} ({self.format})", f"views      {sum(self.splits.values())}: {splits}"]
        for camera in self.cameras[:4]:
            lens = f"distortion {' '.join(f'{value:g}' for value in camera.distortion)}" if camera.distortion else ""
            lines.append(
                f"camera     {camera.width} x {camera.height}, fx {camera.fx:.1f} fy {camera.fy:.1f} "
                f"cx {camera.cx:.1f} cy {camera.cy:.1f}, {lens or 'no distortion'} ({count(camera.views, 'view')})"
            )
        if len(self.cameras) > 4:
            lines.append(f"           and {len(self.cameras) - 4} other cameras")
        names = {"alpha": "from the alpha channel", "file": "from mask files", "none": "without"}
        masks = ", ".join(f"{n} {names[source]}" for source, n in self.masks.items() if n)
        if self.coverage is not None:
            least, mean, greatest = (f"{100.0 * part:.1f}" for part in self.coverage)
            masks += f"; the object covers {mean} % ({least} to {greatest})"
        lines.append(f"masks      {masks}")
        if self.center is not None:
            x, y, z = self.center
            place = f"around ({x:.3g}, {y:.3g}, {z:.3g}), radius {self.radius:.3g}"
            lines.append(f"object     {place}, estimated from the {self.radius_from}")
        if self.bounds is not None:
            low, high = (", ".join(f"{value:.3g}" for value in corner) for corner in self.bounds)
            lines.append(f"region     ({low}) to ({high})")
        for label, entries in (("missing", self.missing), ("wrong", self.wrong), ("note", self.warnings)):
            lines += [f"{label:<10} {entry}" for entry in entries]
        if not self.missing and not self.wrong:
            lines.append("ready      nothing is missing, nothing is wrong")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Silhouette:
    source: MaskSource
    coverage: float
    border_covered: float
    border: np.ndarray
    """[P, 2] pixel positions of its outline."""
    middle: np.ndarray | None
    """[2] the middle of its bounding box."""


def inspect(path: Path, holdout: int = 0, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Read the capture at ``path`` and decode every photograph once.

    Raises UserError where the capture cannot be read at all; damaged photographs are listed in ``wrong``.
    """
    capture = read_capture(path, holdout)
    wrong: list[str] = []
    silhouettes: dict[int, _Silhouette] = {}
    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2))) as pool:
        for index, result in enumerate(pool.map(_measured, capture.views)):
            if isinstance(result, UserError):
                wrong.append(str(result))
            else:
                silhouettes[index] = result
            if progress is not None:
                progress(index + 1, len(capture.views))
    good = list(silhouettes)
    views = [capture.views[index] for index in good]
    shapes = [silhouettes[index] for index in good]
    masked = masked_views([shape.source for shape in shapes], [shape.coverage for shape in shapes])
    shown = [(view, shape) for view, shape, has in zip(views, shapes, masked, strict=True) if has]
    sources = Counter(shape.source if has else "none" for shape, has in zip(shapes, masked, strict=True))
    whole = [(view, shape) for view, shape in shown if shape.border_covered <= CUT_OFF]
    cut = [view.name for view, shape in shown if shape.border_covered > CUT_OFF]
    notes = [f"the image's border cuts the object off in {count(len(cut), 'view')}: {enumerated(cut)}"] if cut else []
    center, radius, radius_from = _object(views, whole if len(whole) >= 3 else shown)
    wrong += _wrong_masks(shown) + _wrong_poses(capture.views, whole, center)
    parts = [shape.coverage for _, shape in shown]
    cameras = Counter(view.camera for view in capture.views)
    return Inspection(
        path=str(path),
        format=capture.format,
        splits={split: len(capture.split(split)) for split in SPLITS},
        cameras=tuple(
            CameraSummary(n, c.width, c.height, c.fx, c.fy, c.cx, c.cy, c.distortion if c.distorted else ())
            for c, n in cameras.most_common()
        ),
        masks={source: sources[source] for source in ("alpha", "file", "none")},
        coverage=(min(parts), float(np.mean(parts)), max(parts)) if parts else None,
        center=None if center is None else (float(center[0]), float(center[1]), float(center[2])),
        radius=radius,
        radius_from=radius_from,
        bounds=None if capture.bounds is None else tuple(map(tuple, capture.bounds.tolist())),
        missing=_missing(capture, len(shown), len(views)),
        wrong=tuple(wrong),
        warnings=(*capture.warnings, *notes),
    )


def _measured(view: View) -> _Silhouette | UserError:
    try:
        rgba, source = decode_view(view)
    except UserError as error:
        return error
    mask = rgba[..., 3] > 127
    coverage = float(mask.mean())
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    border = sampled_border(view.camera, mask)
    middle = 0.5 * (border.min(axis=0) + border.max(axis=0)) if len(border) else None
    return _Silhouette(source, coverage, float(edge.mean()), border, middle)


def _object(
    views: Sequence[View], shown: Sequence[tuple[View, _Silhouette]]
) -> tuple[np.ndarray | None, float | None, str]:
    """Center [3], radius, and what they come from: the masks where there are enough, or else the optical axes."""
    seen = [(view, shape, shape.middle) for view, shape in shown if shape.middle is not None]
    if len(seen) >= 3:
        origins = np.stack([view.center for view, _, _ in seen])
        directions = np.stack([pixel_rays(view, middle[None])[0] for view, _, middle in seen])
        center = nearest_point(origins, directions)
        if center is not None:
            reach = [float(ray_distances(view, shape.border, center).max()) for view, shape, _ in seen]
            return center, float(np.quantile(reach, 0.9)), "masks"  # stray mask pixels in a few views do no harm
    if len(views) < 2:
        return None, None, ""
    center = nearest_point(*optical_axes(views))
    if center is None:
        return None, None, ""
    return center, float(np.median([radius_in_view(view, center) for view in views])), "cameras"


def _missing(capture: Capture, masked: int, readable: int) -> tuple[str, ...]:
    lines = []
    if masked == 0:
        lines.append("masks: no view has an alpha channel or a mask file; reconstruct needs them")
    elif masked < readable:
        lines.append(f"masks: {count(readable - masked, 'view')} of {readable} have none")
    if not capture.split("test"):
        lines.append("a test split: no views are held out, so quality cannot be measured")
    train = len(capture.split("train"))
    if train < FEW_VIEWS:
        lines.append(f"views: {train} to train on; from {FEW_VIEWS} on, surfaces become reliable")
    return tuple(lines)


def _wrong_masks(shown: Sequence[tuple[View, _Silhouette]]) -> list[str]:
    lines = []
    empty = [view.name for view, shape in shown if shape.coverage == 0.0]
    full = [view.name for view, shape in shown if shape.coverage == 1.0]
    if empty:
        what = "all masks are empty" if len(empty) == len(shown) else f"{count(len(empty), 'mask')} empty"
        lines.append(f"{what}: {enumerated(empty)}")
    if full:
        lines.append(f"{count(len(full), 'mask')} hiding nothing: {enumerated(full)}")
    inverted = [view.name for view, shape in shown if shape.border_covered > 0.9 and shape.coverage < 1.0]
    if 2 * len(inverted) > len(shown) > 0:
        lines.append("the masks seem to be inverted: white (or opaque) must be the object")
    return lines


def _wrong_poses(
    views: Sequence[View], shown: Sequence[tuple[View, _Silhouette]], center: np.ndarray | None
) -> list[str]:
    lines = []
    centers = np.stack([view.center for view in views])
    spread = float(np.linalg.norm(centers - centers.mean(axis=0), axis=-1).max())
    if len(views) > 1 and spread < 1e-6 * max(1.0, float(np.abs(centers).max())):
        lines.append("all cameras stand at the same place: depth cannot be seen")
    seen: dict[bytes, str] = {}
    for view in views:
        other = seen.setdefault(np.round(view.cam_to_world, 9).tobytes(), view.name)
        if other != view.name:
            lines.append(f'"{view.name}" has the same pose as "{other}"')
            break
    if center is None:
        lines.append("the cameras look in parallel, so the object's place cannot be estimated: give a region")
        return lines
    behind = [view.name for view in views if depth(view, center) <= 0.0]
    if 2 * len(behind) > len(views):
        lines.append(
            "most cameras look away from what they should see; the poses may have OpenCV axes (y down, looking along "
            "+z) where OpenGL axes (y up, looking along -z) are expected"
        )
    elif behind:
        lines.append(f"{count(len(behind), 'camera')} looking away from the object: {enumerated(behind)}")
    off = []
    for view, shape in shown:
        pixel = projected(view, center)
        if pixel is not None and shape.middle is not None:
            distance = np.linalg.norm(pixel - shape.middle) / max(view.camera.width, view.camera.height)
            off += [view.name] if distance > DISAGREEMENT else []
    if off:
        lines.append(f"poses and masks disagree in {count(len(off), 'view')}: {enumerated(off)}")
    return lines
