# SPDX-License-Identifier: GPL-3.0-or-later
"""nvdiffrast, where it is installed, against our kernels; its absence is an error the user can read."""

from __future__ import annotations

import importlib

import pytest
import torch

from backend.errors import UserError
from backend.kernels import antialias, interpolate, nvdiffrast_backend, rasterize
from tests.kernels.scenes import leaf, sphere_view


def _why_not() -> str:
    if not torch.cuda.is_available():
        return "needs CUDA: no NVIDIA GPU found"
    try:
        importlib.import_module("nvdiffrast.torch")
    except ImportError as error:
        return f"needs nvdiffrast: {error}"
    return ""


WHY_NOT = _why_not()
needs_nvdiffrast = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "runs")


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clip positions, triangles and ids of two spheres at a size that is no multiple of eight."""
    clip, triangles = (t.cuda() for t in sphere_view(1, views=2, rings=9, segments=14))
    return clip, triangles, rasterize.rasterize(clip, triangles, (45, 50))


def test_absence_is_one_readable_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(nvdiffrast_backend.importlib, "import_module", missing)
    clip, triangles = torch.zeros(1, 3, 4), torch.zeros((1, 3), dtype=torch.int32)
    with pytest.raises(UserError, match="nvdiffrast") as error:
        nvdiffrast_backend.rasterize(clip, triangles, (8, 8))
    assert "\n" not in str(error.value)


def test_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvdiffrast_backend, "load", lambda: None)
    clip, triangles = torch.zeros(1, 3, 4), torch.zeros((1, 3), dtype=torch.int32)
    with pytest.raises(UserError, match="cuda"):
        nvdiffrast_backend.rasterize(clip, triangles, (8, 8))


@pytest.mark.cuda
@needs_nvdiffrast
def test_rasterize_agrees() -> None:
    clip, triangles, ids = scene()
    theirs = nvdiffrast_backend.rasterize(clip, triangles, (45, 50))
    assert theirs.shape == ids.shape and float((theirs == ids).float().mean()) > 0.98


@pytest.mark.cuda
@needs_nvdiffrast
def test_barycentrics_and_interpolation_agree() -> None:
    clip, triangles, ids = scene()
    same = (nvdiffrast_backend.rasterize(clip, triangles, (45, 50)) == ids)[..., None]
    values = torch.rand(clip.shape[1], 3, device="cuda")
    grads = []
    for backend in (rasterize, nvdiffrast_backend):
        points = leaf(clip, "cuda")
        weights = backend.barycentrics(points, triangles, ids) * same
        fill = interpolate.interpolate if backend is rasterize else nvdiffrast_backend.interpolate
        image = fill(values, triangles, ids, weights)
        (image.square() * same).sum().backward()
        grads.append((image.detach() * same, points.grad))
    torch.testing.assert_close(grads[1][0], grads[0][0], rtol=0, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(grads[0][1].flatten(), grads[1][1].flatten(), dim=0)
    assert float(cosine) > 0.999


@pytest.mark.cuda
@needs_nvdiffrast
def test_listed_barycentrics_and_their_derivatives_agree() -> None:
    clip, triangles, ids = scene()
    same = nvdiffrast_backend.rasterize(clip, triangles, (45, 50)) == ids
    pixels = torch.nonzero((same & (ids >= 0)).flatten())[:, 0]
    listed = ids.flatten()[pixels]
    ours = rasterize.barycentrics_at(clip, triangles, listed, pixels, (45, 50))
    theirs = nvdiffrast_backend.barycentrics_at(clip, triangles, listed, pixels, (45, 50))
    torch.testing.assert_close(theirs[0], ours[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(theirs[1], ours[1], rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@needs_nvdiffrast
def test_antialiasing_agrees_on_large_triangles() -> None:
    """Of the same silhouette both make about its true area, ours the nearer; theirs lacks some edges."""
    clip, triangles, ids = scene()
    fine = 16
    true_area = float((rasterize.rasterize(clip, triangles, (45 * fine, 50 * fine)) >= 0).sum()) / fine**2
    neighbors = antialias.build_neighbors(triangles)
    mask = (ids >= 0).float()[..., None]
    results = []
    for backend in (antialias, nvdiffrast_backend):
        points = leaf(clip, "cuda")
        area = backend.antialias(mask, points, triangles, ids, neighbors).sum()
        area.backward()
        results.append((float(area.detach()), points.grad.flatten()))
    assert results[0][0] == pytest.approx(true_area, rel=1e-3)
    assert results[1][0] == pytest.approx(true_area, rel=2e-2)
    assert float(torch.nn.functional.cosine_similarity(results[0][1], results[1][1], dim=0)) > 0.8
