# SPDX-License-Identifier: GPL-3.0-or-later
"""Rasterisation and barycentrics against the reference that tries every triangle at every pixel."""

from __future__ import annotations

import pytest
import torch

from backend.kernels import bridge
from backend.kernels import rasterize as module
from backend.kernels.antialias import antialias, build_neighbors
from backend.kernels.interpolate import interpolate
from backend.kernels.rasterize import barycentrics, barycentrics_at, rasterize
from backend.kernels.reference import rasterize as slow
from tests.kernels.scenes import finite_difference, leaf, project, soup, sphere_view

SOUPS = {
    "in front": {"views": 2, "count": 40, "nearest": 1.0, "size": 0.8},
    "through the near plane": {"views": 3, "count": 30, "nearest": -1.0, "size": 1.5},
    "behind the camera": {"views": 1, "count": 30, "nearest": -6.0, "size": 1.0},
    "huge": {"views": 2, "count": 6, "nearest": 0.5, "size": 60.0},
    "tiny": {"views": 2, "count": 200, "nearest": 2.0, "size": 0.02},
}


def assert_explained(ids: torch.Tensor, clip: torch.Tensor, triangles: torch.Tensor, slack: float = 1e-3) -> None:
    """Each id is the reference's nearest, or else within rounding of an edge or of the nearest depth."""
    ids, clip, triangles = ids.cpu(), clip.cpu().double(), triangles.cpu()
    resolution = (ids.shape[1], ids.shape[2])
    expected = slow.rasterize(clip, triangles, resolution)
    surely = slow.depth_layers(clip, triangles, resolution, -slack).amin(1)
    perhaps = slow.depth_layers(clip, triangles, resolution, slack)
    mine = torch.gather(perhaps, 1, ids.clamp(min=0).long()[:, None])[:, 0]
    fine = torch.where(ids < 0, ~surely.isfinite(), mine.isfinite() & (mine <= surely + 1e-5))
    assert bool(((ids == expected) | fine).all())
    assert (ids == expected).float().mean() > 0.99


@pytest.mark.parametrize("name", SOUPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_ids_match_reference(device: str, name: str, seed: int) -> None:
    clip, triangles = soup(seed, **SOUPS[name])
    ids = rasterize(clip.to(device), triangles.to(device), (37, 50))
    assert ids.dtype == torch.int32 and ids.shape == (clip.shape[0], 37, 50)
    assert_explained(ids, clip, triangles)


def test_large_image_of_large_triangles(device: str) -> None:
    """Bounding boxes far above the size from which CUDA cuts triangles into tiles."""
    clip, triangles = soup(3, views=3, count=8, nearest=-0.5, size=6.0)
    ids = rasterize(clip.to(device), triangles.to(device), (150, 210))
    assert_explained(ids, clip, triangles)


def test_tiles_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of large triangles, with room and without, draws what the plain loop draws."""
    clip, triangles = soup(4, views=3, count=12, nearest=-0.5, size=6.0)
    expected = rasterize(clip, triangles, (100, 90))
    monkeypatch.setattr(module, "_uses_tiles", lambda _: True)
    assert torch.equal(rasterize(clip, triangles, (100, 90)), expected)
    monkeypatch.setattr(module, "QUEUE_CAPACITY", 5)
    assert torch.equal(rasterize(clip, triangles, (100, 90)), expected)


@pytest.mark.parametrize("views", [1, 3])
def test_parts_on_several_cores(monkeypatch: pytest.MonkeyPatch, views: int) -> None:
    """Threads that draw parts of the triangles agree with one loop, down to the last pixel."""
    clip, triangles = sphere_view(13, views=views, rings=19, segments=23)
    weights = torch.rand(clip.shape[1], 3)
    neighbors = build_neighbors(triangles)

    def draw() -> list[torch.Tensor]:
        ids = rasterize(clip, triangles, (33, 41))
        b = barycentrics(clip, triangles, ids)
        image = interpolate(weights, triangles, ids, b)
        return [ids, b, image, antialias(image, clip, triangles, ids, neighbors)]

    expected = draw()
    monkeypatch.setattr(bridge, "SPLIT_FROM", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    for alone, together in zip(expected, draw()):
        assert torch.equal(alone, together)


def test_sphere(device: str) -> None:
    clip, triangles = sphere_view(4, views=2, rings=9, segments=14)
    assert_explained(rasterize(clip.to(device), triangles.to(device), (40, 40)), clip, triangles)


def test_row_zero_is_the_top(device: str) -> None:
    points = torch.tensor([[-9.0, 0.1, -2.0], [9.0, 0.1, -2.0], [0.0, 30.0, -2.0]], device=device)
    ids = rasterize(project(points)[None], torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device), (20, 20))
    assert bool((ids[0, 0] == 0).all()) and bool((ids[0, -1] == -1).all())


@pytest.mark.parametrize("perspective", [False, True])
def test_no_pixel_is_lost_on_shared_edges(device: str, perspective: bool) -> None:
    """A grid with vertices and edges on pixel centers has no holes, nor has one with its vertices moved at random."""
    size, generator = 32, torch.Generator().manual_seed(5)
    centers = (torch.arange(-2, size + 3) + 0.5) * (2 / size) - 1
    x, y = torch.meshgrid(centers, centers, indexing="xy")
    n = len(centers)
    k = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).flatten()
    triangles = torch.cat([torch.stack([k, k + 1, k + n], 1), torch.stack([k + 1, k + n + 1, k + n], 1)]).int()
    for jitter in (0.0, 0.3 * 2 / size):
        offset = jitter * torch.randn(2, n * n, generator=generator)
        w = 1 + torch.rand(n * n, generator=generator) if perspective else torch.ones(n * n)
        ndc = torch.stack([x.flatten() + offset[0], y.flatten() + offset[1], torch.zeros(n * n), torch.ones(n * n)], 1)
        clip = (ndc * w[:, None])[None].to(device)
        assert int((rasterize(clip, triangles.to(device), (size, size)) < 0).sum()) == 0


def test_far_below_a_pixel_no_holes(device: str) -> None:
    """Triangles of a tenth of a pixel still tile the surface."""
    clip, triangles = sphere_view(6, views=1, rings=150, segments=300)
    ids = rasterize(clip.to(device), triangles.to(device), (48, 48)).cpu()[0] >= 0
    rows = [ids[i].nonzero().flatten() for i in range(48) if bool(ids[i].any())]
    assert len(rows) > 20
    assert all(int(r[-1] - r[0]) + 1 == len(r) for r in rows)  # a disk has no gap in a row


def test_equal_depth_takes_the_smaller_id(device: str) -> None:
    clip, triangles = soup(7, views=1, count=5, nearest=2.0, size=2.0)
    twice = torch.cat([triangles, triangles]).to(device)
    assert int(rasterize(clip.to(device), twice, (30, 30)).max()) < 5


def test_degenerate_and_broken_triangles(device: str) -> None:
    """Lines, points and corners that are not finite draw nothing and disturb nothing."""
    clip, triangles = soup(8, views=1, count=4, nearest=2.0, size=2.0)
    line = torch.tensor([[0, 0, 1], [2, 2, 2], [0, 1, 0], [0, 1, 12], [0, 1, 13]], dtype=torch.int32)
    bad = torch.tensor([[[float("nan"), 0, 0, 1], [0, float("inf"), 0, 1]]])
    both = rasterize(torch.cat([clip, bad], 1).to(device), torch.cat([triangles, line]).to(device), (30, 30))
    assert torch.equal(both, rasterize(clip.to(device), triangles.to(device), (30, 30)))


def test_empty_mesh(device: str) -> None:
    none = torch.zeros((0, 3), dtype=torch.int32, device=device)
    for clip in (torch.zeros((2, 0, 4), device=device), torch.ones((2, 5, 4), device=device)):
        ids = rasterize(clip, none, (8, 9))
        assert ids.shape == (2, 8, 9) and bool((ids == -1).all())
        assert bool((barycentrics(clip, none, ids) == 0).all())
    assert rasterize(torch.zeros((0, 3, 4), device=device), none, (8, 9)).shape == (0, 8, 9)


@pytest.mark.parametrize("name", ["in front", "through the near plane", "huge"])
def test_barycentrics_and_gradient_match_reference(device: str, name: str) -> None:
    clip, triangles = soup(9, **SOUPS[name])
    ids = rasterize(clip.to(device), triangles.to(device), (37, 50))
    fast_clip, slow_clip = leaf(clip, device), leaf(clip, torch.float64)
    fast = barycentrics(fast_clip, triangles.to(device), ids)
    expected = slow.barycentrics(slow_clip, triangles, ids.cpu())
    assert bool((fast >= 0).all()) and bool((fast.sum(-1) <= 1 + 1e-6).all())
    torch.testing.assert_close(fast.cpu().double(), expected, atol=2e-4, rtol=0)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    # triangles seen nearly edge-on have unbounded gradients: compare each vertex on the scale of its own
    (fast * weight.to(device)).sum().backward()
    (expected * weight).sum().backward()
    difference = (fast_clip.grad.cpu().double() - slow_clip.grad).norm(dim=-1)
    assert bool((difference <= 2e-2 * slow_clip.grad.norm(dim=-1) + 1e-3).all())
    assert bool((fast_clip.grad[..., 2] == 0).all())


def test_barycentrics_gradient_matches_finite_difference(device: str) -> None:
    clip, triangles = soup(10, views=2, count=10, nearest=1.5, size=1.5)
    ids = rasterize(clip.to(device), triangles.to(device), (25, 25))
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(2, 25, 25, 2, generator=generator)
    points = leaf(clip, device)
    (barycentrics(points, triangles.to(device), ids) * weight.to(device)).sum().backward()

    def loss(points: torch.Tensor) -> torch.Tensor:
        return (slow.barycentrics(points, triangles, ids.cpu()) * weight).sum()

    for _ in range(3):
        direction = torch.randn(clip.shape, generator=generator)
        analytic = float((points.grad.cpu() * direction).sum())
        assert analytic == pytest.approx(finite_difference(loss, clip, direction, 1e-6), rel=1e-3, abs=1e-2)


def test_pixel_list(device: str) -> None:
    """The list form gives the image's weights and gradient, and derivatives that match shifted pixels."""
    clip, triangles = soup(11, **SOUPS["through the near plane"])
    clip, triangles = clip.to(device), triangles.to(device)
    ids = rasterize(clip, triangles, (37, 50))
    pixels = (ids.flatten() >= 0).nonzero().flatten()
    dense_clip, list_clip = leaf(clip, device), leaf(clip, device)
    dense = barycentrics(dense_clip, triangles, ids).view(-1, 2)[pixels]
    for kind in (torch.int64, torch.int32):
        listed, derivatives = barycentrics_at(list_clip, triangles, ids.flatten()[pixels], pixels.to(kind), (37, 50))
        assert torch.equal(listed, dense)
    assert not derivatives.requires_grad and derivatives.shape == (len(pixels), 4)
    weight = torch.randn(dense.shape, generator=torch.Generator().manual_seed(3)).to(device)
    (dense * weight).sum().backward()
    (listed * weight).sum().backward()
    torch.testing.assert_close(list_clip.grad, dense_clip.grad, rtol=1e-3, atol=1e-3)

    corners = clip[(pixels // (37 * 50))[:, None], triangles[ids.flatten()[pixels].long()].long()].cpu().double()
    centers = slow.pixel_centers((37, 50), torch.float64, torch.device("cpu")).expand(3, -1, -1, -1)
    centers = centers.reshape(-1, 2)[pixels.cpu()]
    step = 1e-4
    for axis, pixel in enumerate([(2 / 50, 0.0), (0.0, -2 / 37)]):  # one pixel to the right, one down
        shift = step * torch.tensor(pixel, dtype=torch.float64)
        change = slow.weights_at(corners, centers + shift) - slow.weights_at(corners, centers - shift)
        expected = change[:, :2] / (2 * step)
        found = derivatives[:, [axis, axis + 2]].cpu().double()
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


def test_no_pixels(device: str) -> None:
    clip, triangles = soup(12, views=1, count=3, nearest=2.0, size=1.0)
    empty = torch.zeros(0, dtype=torch.int32, device=device)
    points = leaf(clip, device)
    weights, derivatives = barycentrics_at(points, triangles.to(device), empty, empty, (8, 8))
    assert weights.shape == (0, 2) and derivatives.shape == (0, 4)
    weights.sum().backward()
    assert bool((points.grad == 0).all())
