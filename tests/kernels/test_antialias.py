# SPDX-License-Identifier: GPL-3.0-or-later
"""Silhouette antialiasing against the pair-by-pair reference, and against areas known in closed form."""

from __future__ import annotations

import pytest
import torch

from backend.kernels.antialias import antialias, build_neighbors
from backend.kernels.rasterize import rasterize
from backend.kernels.reference import antialias as slow
from backend.kernels.silhouettes import silhouette_edges
from tests.kernels.scenes import finite_difference, leaf, project, soup, sphere, sphere_view

Scene = tuple[torch.Tensor, torch.Tensor]


def spheres(seed: int) -> Scene:
    """Two spheres, one partly before the other: silhouettes over the background and over a surface."""
    one, triangles = sphere_view(seed, views=2, rings=7, segments=9)
    two = one.clone()
    two[..., 0] += 0.9
    two[..., 2:] += 0.5
    return torch.cat([one, two], 1), torch.cat([triangles, triangles + one.shape[1]])


SCENES = {
    "spheres": spheres,
    "soup": lambda seed: soup(seed, views=1, count=12, nearest=1.0, size=1.2),
    "near plane": lambda seed: soup(seed, views=1, count=8, nearest=-0.5, size=2.0),
    "below a pixel": lambda seed: sphere_view(seed, views=1, rings=24, segments=40),
}


@pytest.mark.parametrize("known", [True, False], ids=["neighbors", "no neighbors"])
@pytest.mark.parametrize("name", SCENES)
def test_matches_reference(device: str, name: str, known: bool) -> None:
    clip, triangles = SCENES[name](1)
    ids = rasterize(clip.to(device), triangles.to(device), (14, 15))
    neighbors = build_neighbors(triangles) if known else None
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(*ids.shape, 3, generator=generator)
    fast = [leaf(image, device), leaf(clip, device)]
    exact = [leaf(image, torch.float64), leaf(clip, torch.float64)]
    there = neighbors.to(device) if neighbors is not None else None
    result = antialias(*fast, triangles.to(device), ids, there)
    expected = slow.antialias(*exact, triangles, ids.cpu(), neighbors)
    assert not torch.equal(expected, exact[0])
    torch.testing.assert_close(result.cpu().double(), expected, rtol=0, atol=1e-4)
    weight = torch.randn(expected.shape, generator=generator)
    (result * weight.to(device)).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(fast[0].grad.cpu().double(), exact[0].grad, rtol=0, atol=1e-3)
    scale = float(exact[1].grad.abs().max())
    torch.testing.assert_close(fast[1].grad.cpu().double(), exact[1].grad, rtol=2e-3, atol=2e-3 * scale)
    assert scale > 0 and bool((fast[1].grad[..., 2] == 0).all())


def test_gradient_matches_finite_difference(device: str) -> None:
    clip, triangles = spheres(2)
    ids = rasterize(clip.to(device), triangles.to(device), (10, 10))
    neighbors = build_neighbors(triangles)
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(*ids.shape, 2, generator=generator)
    weight = torch.randn(image.shape, generator=generator)
    points = leaf(clip, device)
    smooth = antialias(image.to(device), points, triangles.to(device), ids, neighbors.to(device))
    (smooth * weight.to(device)).sum().backward()

    def loss(moved: torch.Tensor) -> torch.Tensor:
        return (slow.antialias(image.double(), moved, triangles, ids.cpu(), neighbors) * weight).sum()

    direction = torch.randn(clip.shape, generator=generator)
    analytic = float((points.grad.cpu() * direction).sum())
    assert analytic == pytest.approx(finite_difference(loss, clip, direction, 1e-7), rel=1e-3)


@pytest.mark.parametrize(("rings", "segments"), [(12, 24), (60, 120), (200, 400)])
def test_area_of_a_sphere_and_its_gradient(device: str, rings: int, segments: int) -> None:
    """The blended mask integrates to the silhouette's area, from triangles above to far below a pixel."""
    vertices, triangles = sphere(rings, segments)
    vertices, triangles = vertices.to(device), triangles.to(device)
    center = torch.tensor([0.013, -0.021, -3.0], device=device)

    def counted(radius: float) -> float:
        clip = project(vertices * radius + center)[None]
        return float((rasterize(clip, triangles, (1024, 1024)) >= 0).sum()) / 256

    radius = torch.tensor(1.0, device=device, requires_grad=True)
    clip = project(vertices * radius + center)[None]
    ids = rasterize(clip, triangles, (64, 64))
    mask = (ids >= 0).float()[..., None]
    area = antialias(mask, clip, triangles, ids, build_neighbors(triangles)).sum()
    area.backward()
    assert float(area.detach()) == pytest.approx(counted(1), rel=1e-3)
    assert float(radius.grad) == pytest.approx((counted(1.04) - counted(0.96)) / 0.08, rel=2e-2)


def test_identity_inside_surfaces(device: str) -> None:
    """Colors that differ from pixel to pixel stay as they are away from the silhouette."""
    clip, triangles = (t.to(device) for t in sphere_view(6, views=1, rings=40, segments=60))
    ids = rasterize(clip, triangles, (40, 40))
    image = torch.rand((1, 40, 40, 3), generator=torch.Generator().manual_seed(6)).to(device)
    result = antialias(image, clip, triangles, ids, build_neighbors(triangles))
    changed = (result != image).any(-1).float()
    seen = (ids >= 0).float()
    grown = torch.nn.functional.max_pool2d(seen[:, None], 3, 1, 1)[:, 0]
    shrunk = 1 - torch.nn.functional.max_pool2d(1 - seen[:, None], 3, 1, 1)[:, 0]
    assert float(changed.sum()) > 20
    assert float((changed * (1 - (grown - shrunk))).sum()) == 0


def test_half_plane_coverage_is_exact(device: str) -> None:
    """A vertical border at any place inside a row gives the fraction of the pixel it covers."""
    for fraction in (0.05, 0.3, 0.5, 0.77, 0.95):
        x = (5 + fraction) / 16 * 2 - 1
        clip = torch.tensor([[[x, -9.0, 0, 1], [x, 9.0, 0, 1], [-9, 0, 0, 1]]], device=device)
        triangles = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
        ids = rasterize(clip, triangles, (6, 16))
        mask = (ids >= 0).float()[..., None]
        covered = antialias(mask, clip, triangles, ids, build_neighbors(triangles))[0, 2, :, 0].cpu()
        expected = torch.tensor([1.0] * 5 + [fraction] + [0.0] * 10)
        torch.testing.assert_close(covered, expected, rtol=0, atol=1e-4)


def test_neighbors_match_reference(device: str) -> None:
    _, closed = sphere(5, 7)
    cases = [closed, closed[::3].contiguous(), torch.zeros((0, 3), dtype=torch.int32)]
    cases.append(torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4], [2, 1, 5]], dtype=torch.int32))  # three share an edge
    for triangles in cases:
        assert torch.equal(build_neighbors(triangles.to(device)).cpu(), slow.build_neighbors(triangles))
    assert int((build_neighbors(closed.to(device)) < 0).sum()) == 0


def test_empty(device: str) -> None:
    image = torch.rand(2, 5, 6, 3, device=device, requires_grad=True)
    clip = torch.zeros((2, 0, 4), device=device, requires_grad=True)
    triangles = torch.zeros((0, 3), dtype=torch.int32, device=device)
    ids = torch.full((2, 5, 6), -1, dtype=torch.int32, device=device)
    result = antialias(image, clip, triangles, ids, build_neighbors(triangles))
    assert torch.equal(result, image)
    result.sum().backward()
    assert bool((image.grad == 1).all())
    none = torch.zeros((0, 5, 6, 3), device=device)
    assert antialias(none, clip[:0], triangles, ids[:0]).shape == none.shape


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [(14, 15), (120, 90)])
def test_listing_pairs_first_changes_nothing(device: str, name: str, size: tuple[int, int]) -> None:
    for seed in range(3):
        clip, triangles = (t.to(device) for t in SCENES[name](seed))
        ids = rasterize(clip, triangles, size)
        neighbors = build_neighbors(triangles)
        walked, listed = (silhouette_edges(clip, triangles, ids, neighbors, listed=m) for m in (False, True))
        assert torch.equal(walked.edges, listed.edges) and int((listed.edges >= 0).sum()) > 10
        results = []
        for way in (False, True):
            image = torch.rand(*ids.shape, 3, generator=torch.Generator().manual_seed(seed)).to(device).requires_grad_()
            points = clip.clone().requires_grad_()
            blended = antialias(image, points, triangles, ids, neighbors, listed=way)
            (blended * torch.linspace(-1, 1, blended.numel(), device=device).view_as(blended)).sum().backward()
            results.append((blended.detach(), image.grad, points.grad))
        assert torch.equal(results[0][0], results[1][0]), "one order of the sum"
        torch.testing.assert_close(results[0][1:], results[1][1:], rtol=1e-4, atol=1e-4)


def test_listing_pairs_first_changes_nothing_on_a_rough_surface(device: str) -> None:
    """Many silhouettes, from triangles above to far below a pixel."""
    for rings in (20, 90):
        vertices, triangles = sphere(rings, rings)
        noise = torch.randn(len(vertices), 1, generator=torch.Generator().manual_seed(rings))
        clip = project(vertices * (1 + 0.05 * noise) + torch.tensor([0.0, 0, -3]))[None].to(device)
        triangles = triangles.to(device)
        ids = rasterize(clip, triangles, (70, 80))
        neighbors = build_neighbors(triangles)
        walked, listed = (silhouette_edges(clip, triangles, ids, neighbors, listed=m) for m in (False, True))
        assert torch.equal(walked.edges, listed.edges) and int((listed.edges >= 0).sum()) > 200
