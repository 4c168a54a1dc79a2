# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a reconstruction is from the truth: images, surfaces and materials, in the units papers report."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d
from scipy.spatial import cKDTree

from .textures import srgb_from_linear

Array = npt.NDArray[np.floating]

SMALLEST_ERROR = 1e-10
"""Mean squared error taken as zero: the PSNR of equal images is 100 dB."""

ENVIRONMENT_ROWS = 16
"""Of the lat-long image to which lights are averaged before they are compared; twice as many columns."""


def psnr(image: Array, truth: Array) -> float:
    """Peak signal-to-noise ratio in dB of arrays of one shape, values 0..1."""
    error = float(np.mean((np.asarray(image, np.float64) - truth) ** 2))
    return -10 * math.log10(max(error, SMALLEST_ERROR))


def ssim(image: Array, truth: Array) -> float:
    """Structural similarity of images [H, W, C], values 0..1, at least 11 × 11: mean over channels and whole windows.

    Gaussian window 11 × 11 with σ 1.5, K1 0.01, K2 0.03, population moments (Wang et al. 2004, equation 13).
    """
    radius = 5
    assert min(image.shape[:2]) > 2 * radius, f"SSIM needs images of at least 11 × 11, got {image.shape[:2]}"
    window = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x: Array) -> Array:
        x = correlate1d(correlate1d(x, window, axis=0), window, axis=1)
        return x[radius:-radius, radius:-radius]

    x, y = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(numerator / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))))


def load_lpips(device: str) -> tuple[Callable[[Array, Array], float] | None, str]:
    """(LPIPS of two [H, W, 3] images in 0..1 with AlexNet features, "") or (None, why it cannot be had).

    Nothing is downloaded: the package `lpips` and AlexNet's weights must be there (Zhang et al. 2018).
    """
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return None, f"the Python package {package} is not installed"
    import lpips
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(weights.glob("alexnet-owt-*.pth")):
        return None, f"AlexNet's weights (alexnet-owt-*.pth) are not in {weights}"
    network = lpips.LPIPS(net="alex", verbose=False).to(device).eval()

    def distance(image: Array, truth: Array) -> float:
        pair = [
            torch.as_tensor(np.asarray(x, np.float32), device=device).permute(2, 0, 1)[None] for x in (image, truth)
        ]
        with torch.no_grad():
            return float(network(*pair, normalize=True))

    return distance, ""


def silhouette_iou(alpha: Array, truth: Array) -> float:
    """Intersection over union of two coverages of one shape, cut at one half."""
    a, b = np.asarray(alpha) > 0.5, np.asarray(truth) > 0.5
    return float((a & b).sum() / max(1, (a | b).sum()))


def sample_surface(vertices: Array, triangles: npt.NDArray[np.integer], count: int, seed: int = 0) -> Array:
    """`count` points [count, 3] spread evenly over a triangle mesh."""
    corners = np.asarray(vertices, np.float64)[triangles]  # [T, 3, 3]
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1)
    random = np.random.default_rng(seed)
    chosen = random.choice(len(areas), count, p=areas / areas.sum())
    u, v = random.random((2, count, 1))
    folded = u + v > 1
    u, v = np.where(folded, 1 - u, u), np.where(folded, 1 - v, v)
    return corners[chosen, 0] + u * edges[chosen, 0] + v * edges[chosen, 1]


def chamfer(
    vertices: Array,
    triangles: npt.NDArray[np.integer],
    true_vertices: Array,
    true_triangles: npt.NDArray[np.integer],
    samples: int = 100_000,
) -> dict[str, float]:
    """Mean distances between two surfaces, in percent of the diagonal of the true surface's bounding box.

    "accuracy_pct": from ours to the truth; "completeness_pct": from the truth to ours; "chamfer_pct_diag": their mean.
    Points are sampled on the whole surfaces, hidden parts included.
    """
    ours, truth = sample_surface(vertices, triangles, samples), sample_surface(true_vertices, true_triangles, samples)
    used = np.asarray(true_vertices)[np.unique(true_triangles)]
    percent = 100 / float(np.linalg.norm(used.max(axis=0) - used.min(axis=0)))
    accuracy = float(cKDTree(truth).query(ours, workers=-1)[0].mean()) * percent
    completeness = float(cKDTree(ours).query(truth, workers=-1)[0].mean()) * percent
    return {
        "chamfer_pct_diag": (accuracy + completeness) / 2,
        "accuracy_pct": accuracy,
        "completeness_pct": completeness,
    }


def normal_error(normals: Array, truth: Array) -> float:
    """Mean angle in degrees between directions [P, 3] of any length."""
    a, b = np.asarray(normals, np.float64), np.asarray(truth, np.float64)
    # the arc tangent keeps small angles exact where the arc cosine rounds them to 0 or 0.001°
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1))).mean())


def best_scale(values: Array, truth: Array, weights: Array | None = None) -> Array:
    """The factor per channel [C] that brings linear `values` [..., C] nearest to `truth` in least squares.

    Base color and light are known only up to such a factor: twice the light on half the albedo looks the same.
    """
    a, b = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    axes = tuple(range(a.ndim - 1))
    w = 1.0 if weights is None else weights
    return (w * a * b).sum(axis=axes) / np.maximum((w * a * a).sum(axis=axes), 1e-9)


def material_errors(
    base_color: Array,
    true_base_color: Array,
    roughness: Array,
    true_roughness: Array,
    metallic: Array,
    true_metallic: Array,
) -> dict[str, float]:
    """Errors of linear base color [P, 3], roughness [P] and metallic [P] over the same pixels.

    PSNR of the sRGB-encoded base color, as it is and scaled per channel; root mean squares of the rest; intersection
    over union of metallic > ½ where anything truly is.
    """
    a, b = np.asarray(base_color, np.float64), np.asarray(true_base_color, np.float64)
    found = {
        "base_color_psnr": psnr(srgb_from_linear(a), srgb_from_linear(b)),
        "base_color_psnr_aligned": psnr(srgb_from_linear(a * best_scale(a, b)), srgb_from_linear(b)),
        "roughness_rmse": root_mean_square(roughness, true_roughness),
        "metallic_rmse": root_mean_square(metallic, true_metallic),
    }
    if (np.asarray(true_metallic) > 0.5).any():
        found["metallic_iou"] = silhouette_iou(metallic, true_metallic)
    return found


def environment_error(environment: Array, truth: Array) -> float:
    """Relative error of a light [H, W, 3] (linear, lat-long) that may have any size, as its true one may.

    Both are averaged to 16 × 32 texels, so that small lights may be blurred, but not lie elsewhere. Per channel it is
    the mean of |a x − y| over the sphere in units of the mean of y, with the factor a, unknown between base color and
    light, that makes it smallest: 1 is no better than black. Mean of the channels.
    """
    x, y = _shrink_latlong(environment), _shrink_latlong(truth)
    weights = np.repeat(_sine_steps(ENVIRONMENT_ROWS), x.shape[1])
    errors = []
    for ours, true in zip(x.reshape(-1, 3).T, y.reshape(-1, 3).T):
        total = float((weights * true).sum())
        if total > 0:
            scale = _weighted_median(true / np.maximum(ours, 1e-9), weights * ours)
            errors.append(float((weights * np.abs(scale * ours - true)).sum()) / total)
    return float(np.mean(errors)) if errors else 0.0


def _shrink_latlong(image: Array) -> Array:
    """The mean over the solid angle of each of 16 × 32 texels."""
    height, width = image.shape[:2]
    rows = _overlaps(np.cumsum(_sine_steps(ENVIRONMENT_ROWS)), np.cumsum(_sine_steps(height)))
    columns = _overlaps(np.linspace(0, 1, 2 * ENVIRONMENT_ROWS + 1)[1:], np.linspace(0, 1, width + 1)[1:])
    return np.einsum("ih,jw,hwc->ijc", rows, columns, np.asarray(image, np.float64), optimize=True)


def _sine_steps(rows: int) -> Array:
    """[rows]: share of the sphere in each row of a lat-long image."""
    return -np.diff(np.cos(np.pi * np.arange(rows + 1) / rows)) / 2


def _overlaps(ends: Array, other_ends: Array) -> Array:
    """[N, M]: share of each of N intervals, laid end to end from 0, that lies in each of M others; rows sum to 1."""
    starts, other_starts = np.append(0, ends[:-1]), np.append(0, other_ends[:-1])
    shared = np.minimum(ends[:, None], other_ends) - np.maximum(starts[:, None], other_starts)
    shared = np.maximum(shared, 0)
    return shared / shared.sum(axis=1, keepdims=True)


def _weighted_median(values: Array, weights: Array) -> float:
    """The value that halves the weights: where the weighted sum of absolute differences is least."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulated, cumulated[-1] / 2)])


def root_mean_square(values: Array, truth: Array) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((np.asarray(values, np.float64) - truth) ** 2)))
