# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a written result against photographs it has not seen.

Only asset.glb and environment.exr are read back, so that what is measured is what an artist gets, the rounding of its
textures included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..capture.loader import load_photos
from ..capture.model import Camera, Capture, View, mean_exposure
from ..errors import UserError
from . import metrics
from .asset import Asset, FloatArray
from .ground_truth import Passes, Relighting, find_light, find_relightings, read_mesh, read_passes
from .result import read_result
from .textures import linear_from_srgb, quantize, read_exr, srgb_from_linear

INSIDE = 0.99
"""Coverage above which a pixel shows the object alone, so that materials can be compared there."""

PHOTOS_AT_ONCE = 8


class Renderer(Protocol):
    """Draws an asset with the backend's own rasterizer and shading."""

    def render(
        self,
        cam_to_world: Tensor,  # [B, 4, 4] float32
        intrinsics: Tensor,  # [B, 4] float32, fx fy cx cy in pixels
        resolution: tuple[int, int],  # H, W
        environment: Tensor | None = None,  # [h, w, 3] float32, lat-long linear; None: the asset's own
    ) -> Mapping[str, Tensor]:
        """ "color" [B, H, W, 3] sRGB-encoded, straight; "alpha" [B, H, W, 1]; "base_color" [B, H, W, 3] linear;
        "roughness" and "metallic" [B, H, W, 1]; "normal" [B, H, W, 3] world. All antialiased."""
        ...


MakeRenderer = Callable[[Asset, str], Renderer]
Rendered = dict[str, FloatArray]


def evaluate(
    result: Path,
    capture: Capture,
    split: str = "test",
    max_views: int | None = None,
    hdris: Path | None = None,
    device: str = "cpu",
    comparisons: Path | None = None,
    make_renderer: MakeRenderer | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Render a result (its folder or its job's) at a capture's cameras and compare with the photographs.

    Images are compared whole, sRGB-encoded, on white. "flat_color_psnr" is what the true masks filled with the one best
    color would reach. Where the capture carries the truth, shape, materials and relighting are measured too.
    `max_views` takes every n-th view; `hdris` holds the capture's own light and those of its relight_* folders;
    `comparisons` is a folder for pictures photograph | render | difference; `progress(done, all)` is called per view.

    Returns what JSON can hold; a value that cannot be had is None, with the reason under "notes".
    Raises UserError where the result or the capture cannot be read, or the split is empty.
    """
    started = time.perf_counter()
    views = choose_views(capture, split, max_views)
    asset = read_result(result)
    renderer = (make_renderer or default_renderer)(asset, device)
    lpips, why_no_lpips = metrics.load_lpips(device)
    notes = [f"lpips: {why_no_lpips}"] if lpips is None else []

    rows: list[dict[str, Any]] = []
    materials = _Materials()
    flat = _FlatColor()
    light, mean = torch.as_tensor(asset.environment, device=device), mean_exposure(capture.views)
    for index, photo in enumerate(load_pinhole(views)):
        view, alpha = photo.view, photo.rgba[..., 3:]
        rendered = render_view(renderer, view, exposed(light, view, mean))
        if comparisons is not None:
            save_comparison(comparisons / f"{_file_name(view)}.png", photo, rendered)
        truth, image = on_white_pair(photo, rendered)
        row: dict[str, Any] = {
            "name": view.name,
            "psnr": metrics.psnr(image, truth),
            "ssim": metrics.ssim(image, truth),
        }
        row["lpips"] = lpips(image, truth) if lpips is not None else None
        row["silhouette_iou"] = metrics.silhouette_iou(rendered["alpha"], alpha) if photo.masked else None
        if photo.masked:
            flat.add(photo)
            passes = read_passes(capture.root, view)
            if passes is not None:
                materials.add(passes, alpha, rendered)
        rows.append(row)
        if progress is not None:
            progress(index + 1, len(views))

    if not flat.names:
        notes.append("silhouette_iou, flat_color_psnr: the photographs have no masks")
    if len(flat.names) < len(views):
        notes.append("photographs without a mask are compared inside the silhouette of the render only")
    baseline = flat.psnr_by_view()
    for row in rows:
        row["flat_color_psnr"] = baseline.get(row["name"])
    found: dict[str, Any] = {"split": split, "views": len(views)}
    for key in ("psnr", "ssim", "lpips", "silhouette_iou", "flat_color_psnr"):
        found[key] = _mean([row[key] for row in rows])
    found["triangles"] = len(asset.triangles)
    found |= materials.errors()
    mesh = read_mesh(capture.root)
    if mesh is not None:
        found |= metrics.chamfer(asset.vertices, asset.triangles, *mesh)
    true_light, missing = find_light(capture.root, hdris)
    notes += missing
    if true_light is not None:
        found["environment_error"] = metrics.environment_error(asset.environment, read_exr(true_light))
    relightings, missing = find_relightings(capture.root, views, hdris)
    notes += missing
    if relightings:
        found["relight"] = {
            relighting.name: _relight(renderer, relighting, views, device, comparisons) for relighting in relightings
        }
        for key in ("psnr", "psnr_aligned"):
            found[f"relight_{key}"] = _mean([row[key] for row in found["relight"].values()])
    return found | {"per_view": rows, "notes": notes, "seconds": round(time.perf_counter() - started, 2)}


def choose_views(capture: Capture, split: str, max_views: int | None) -> tuple[View, ...]:
    """Every n-th view of a split, at most `max_views`. Raises UserError where it has none."""
    views = capture.split(split)
    if not views:
        counts = {name: len(capture.split(name)) for name in dict.fromkeys(view.split for view in capture.views)}
        raise UserError(
            what=f"there are no views of the split {split!r}",
            where=str(capture.root),
            expected="one of " + ", ".join(f"{name} ({count})" for name, count in counts.items()),
            found="none",
            remedy="Choose another split, or read the capture with some views held out.",
        )
    if max_views is None:
        return views
    return views[:: max(1, len(views) // max_views)][:max_views]


@dataclass(frozen=True)
class Photo:
    """A photograph as its undistorted pinhole camera would have taken it."""

    view: View
    rgba: FloatArray  # [H, W, 4] float32, sRGB-encoded, straight alpha
    masked: bool
    valid: npt.NDArray[np.bool_] | None  # [H, W, 1]; where undistortion found a pixel, None: everywhere


def load_pinhole(views: Sequence[View], images: Mapping[str, Path] | None = None) -> Iterator[Photo]:
    """The photographs of views, or the `images` that show the same under another light, few at a time.

    Raises UserError where a file cannot be read.
    """
    if images is not None:
        views = [replace(view, image=images[view.name], mask=None) for view in views]
    for start in range(0, len(views), PHOTOS_AT_ONCE):
        chunk = views[start : start + PHOTOS_AT_ONCE]
        photos = load_photos(chunk)
        for index, view in enumerate(chunk):
            height, width = (int(value) for value in photos.sizes[index])
            fx, fy, cx, cy = (float(value) for value in photos.intrinsics[index])
            yield Photo(
                view=replace(view, camera=Camera(width, height, fx, fy, cx, cy)),
                rgba=photos.rgba[index, :height, :width].numpy().astype(np.float32) / np.float32(255),
                masked=bool(photos.masked[index]),
                valid=None if photos.valid is None else photos.valid[index, :height, :width, None].numpy(),
            )


def render_view(renderer: Renderer, view: View, environment: Tensor) -> Rendered:
    """One view of an asset as numpy arrays [H, W, C]; keys as `Renderer.render` has them."""
    camera, device = view.camera, environment.device
    pose = torch.as_tensor(np.asarray(view.cam_to_world, np.float32), device=device)[None]
    intrinsics = torch.tensor([[camera.fx, camera.fy, camera.cx, camera.cy]], dtype=torch.float32, device=device)
    with torch.no_grad():
        images = renderer.render(pose, intrinsics, (camera.height, camera.width), environment)
    return {key: image[0].float().cpu().numpy() for key, image in images.items()}


def on_white_pair(photo: Photo, rendered: Rendered) -> tuple[FloatArray, FloatArray]:
    """(photograph, render) [H, W, 3], both on white, ready to compare.

    A photograph without mask shows what is behind the object, of which a result knows nothing: it is cut along the
    silhouette of the render. Where undistortion found no pixel both are white.
    """
    color, alpha = np.clip(rendered["color"], 0, 1), np.clip(rendered["alpha"], 0, 1)
    true_alpha = photo.rgba[..., 3:] if photo.masked else alpha
    if photo.valid is not None:
        true_alpha, alpha = true_alpha * photo.valid, alpha * photo.valid
    return on_white(photo.rgba[..., :3], true_alpha), on_white(color, alpha)


def on_white(color: FloatArray, alpha: FloatArray) -> FloatArray:
    """Straight color over white."""
    return color * alpha + (1 - alpha)


def save_comparison(path: Path, photo: Photo, rendered: Rendered) -> None:
    """Write photograph | render | absolute difference, all on white, as one PNG. Raises UserError where it cannot."""
    truth, image = on_white_pair(photo, rendered)
    picture = Image.fromarray(quantize(np.concatenate([truth, image, np.abs(image - truth)], axis=1)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except OSError as error:
        raise UserError(
            what="cannot write the comparison",
            where=str(path),
            expected="a writable folder on a disk with space left",
            found=error.strerror or str(error),
        ) from error


def default_renderer(asset: Asset, device: str) -> Renderer:
    """The backend's own; kernels are loaded no earlier than this."""
    from .renderer import AssetRenderer

    return AssetRenderer(asset, device)


def exposed(light: Tensor, view: View, mean: float) -> Tensor:
    """`light` [h, w, 3], found at the `mean` exposure, as a view shows it; itself where that makes no difference."""
    stops = mean if view.exposure is None else view.exposure
    return light if stops == mean else light * 2.0 ** (stops - mean)


def _relight(
    renderer: Renderer,
    relighting: Relighting,
    views: Sequence[View],
    device: str,
    comparisons: Path | None,
) -> dict[str, Any]:
    """PSNR under another light, as it is and with one factor per channel taken out (of base color against light)."""
    environment = torch.as_tensor(read_exr(relighting.environment), device=device)
    pairs = []
    shown = [view for view in views if view.name in relighting.photos]
    for photo in load_pinhole(shown, relighting.photos):
        rendered = render_view(renderer, photo.view, environment)
        if comparisons is not None:
            path = comparisons / f"relight_{relighting.name}_{_file_name(photo.view)}.png"
            save_comparison(path, photo, rendered)
        pairs.append((photo.rgba, np.clip(rendered["color"], 0, 1), np.clip(rendered["alpha"], 0, 1)))
    linear = [(linear_from_srgb(color), linear_from_srgb(rgba[..., :3])) for rgba, color, _ in pairs]
    shared = [alpha * rgba[..., 3:] for rgba, _, alpha in pairs]
    above = sum((weight * a * b).sum(axis=(0, 1)) for (a, b), weight in zip(linear, shared))
    below = sum((weight * a * a).sum(axis=(0, 1)) for (a, _), weight in zip(linear, shared))
    scale = above / np.maximum(below, 1e-9)
    plain, aligned = [], []
    for (rgba, color, alpha), (a, _) in zip(pairs, linear):
        truth = on_white(rgba[..., :3], rgba[..., 3:])
        plain.append(metrics.psnr(on_white(color, alpha), truth))
        aligned.append(metrics.psnr(on_white(srgb_from_linear(a * scale), alpha), truth))
    return {"views": len(pairs), "psnr": _mean(plain), "psnr_aligned": _mean(aligned)}


class _Materials:
    """Pixels of all views where both the truth and the render show the object."""

    def __init__(self) -> None:
        self.pixels: dict[str, list[npt.NDArray[np.floating]]] = {}
        self.angles: list[float] = []

    def add(self, passes: Passes, alpha: FloatArray, rendered: Rendered) -> None:
        inside = (alpha[..., 0] > INSIDE) & (rendered["alpha"][..., 0] > INSIDE)
        if not inside.any():
            return
        values = {
            "base_color": (rendered["base_color"], passes.base_color),
            "roughness": (rendered["roughness"][..., 0], passes.roughness),
            "metallic": (rendered["metallic"][..., 0], passes.metallic),
        }
        for key, (ours, truth) in values.items():
            self.pixels.setdefault(key, []).append(ours[inside])
            self.pixels.setdefault(f"true_{key}", []).append(truth[inside])
        self.angles.append(metrics.normal_error(rendered["normal"][inside], passes.normal[inside]))

    def errors(self) -> dict[str, float]:
        if not self.angles:
            return {}
        pixels = {key: np.concatenate(parts) for key, parts in self.pixels.items()}
        return metrics.material_errors(**pixels) | {"normal_deg": float(np.mean(self.angles))}


class _FlatColor:
    """The least squares color for all masks, composited on white, and the PSNR of each view painted with it.

    With coverage a, color x and white behind both, the difference is a (c − x): sums over a², a² x and a² x² suffice.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: list[tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64], int]] = []

    def add(self, photo: Photo) -> None:
        rgba = photo.rgba.astype(np.float64)
        color, square = rgba[..., :3], rgba[..., 3:] ** 2
        moments = [(square * color**power).sum(axis=(0, 1)) for power in (1, 2)]
        self.names.append(photo.view.name)
        self.sums.append((float(square.sum()), moments[0], moments[1], color.size))

    def psnr_by_view(self) -> dict[str, float]:
        weight = sum(row[0] for row in self.sums)
        if not weight:
            return {}
        color = np.clip(np.sum([row[1] for row in self.sums], axis=0) / weight, 0, 1)
        found = {}
        for name, (area, first, second, size) in zip(self.names, self.sums):
            error = float((color**2 * area - 2 * color * first + second).sum()) / size
            found[name] = -10 * np.log10(max(error, metrics.SMALLEST_ERROR))
        return {name: float(value) for name, value in found.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _file_name(view: View) -> str:
    return view.name.replace("/", "_").replace("\\", "_")
