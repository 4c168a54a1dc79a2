# SPDX-License-Identifier: GPL-3.0-or-later
"""Training images: reduced, premultiplied, with cameras that fit them, each in turn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from backend.appearance.color import linear_to_srgb
from backend.appearance.projection import world_to_clip
from backend.capture.loader import Photos
from backend.optimization.views import Draws, TrainingViews, side_that_fits, view_order
from tests.capture.builders import orbit_pose

CPU = torch.device("cpu")


def photos(rgba: torch.Tensor, valid: torch.Tensor | None = None) -> Photos:
    count, height, width = rgba.shape[:3]
    return Photos(
        names=tuple(map(str, range(count))),
        rgba=rgba,
        valid=valid,
        intrinsics=torch.tensor([[1.1 * width, 1.2 * width, 0.4 * width, 0.6 * height]]).repeat(count, 1),
        cam_to_world=torch.from_numpy(np.stack([orbit_pose(i) for i in range(count)])).float(),
        sizes=torch.tensor([[height, width]] * count, dtype=torch.int32),
        masked=torch.ones(count, dtype=torch.bool),
        exposures=torch.full((count,), float("nan")),
        warnings=(),
    )


def random_rgba(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, height, width, 4), generator=generator).to(torch.uint8)


def test_photographs_at_full_size_are_premultiplied() -> None:
    rgba = random_rgba(3, 7, 10)
    views = TrainingViews(photos(rgba), 400, 0.01, CPU)
    assert len(views) == 3 and views.resolution == (7, 10)
    batch = views.batch(torch.tensor([2, 0]))
    straight = rgba[[2, 0]].float() / 255
    torch.testing.assert_close(batch.photo[..., 3:], straight[..., 3:], atol=1e-3, rtol=0)
    torch.testing.assert_close(batch.photo[..., :3], straight[..., :3] * straight[..., 3:], atol=1e-3, rtol=0)
    assert batch.valid is None and batch.indices.tolist() == [2, 0] and batch.photo.dtype == torch.float32


def test_color_under_transparent_pixels_does_not_bleed_when_reduced() -> None:
    rgba = torch.zeros(1, 8, 8, 4, dtype=torch.uint8)
    rgba[..., 0] = 255  # red where nothing is
    rgba[:, :, ::2] = torch.tensor([0, 255, 0, 255], dtype=torch.uint8)  # every other column is green
    photo = TrainingViews(photos(rgba), 4, 0.01, CPU).batch(torch.tensor([0])).photo
    assert photo.shape == (1, 4, 4, 4)
    torch.testing.assert_close(photo, torch.tensor([0.0, 0.5, 0.0, 0.5]).expand(1, 4, 4, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("size", "longest", "expected"), [((48, 64), 32, (24, 32)), ((64, 48), 32, (32, 24)), ((33, 47), 20, (14, 20))]
)
def test_cameras_follow_the_reduced_size(size: tuple[int, int], longest: int, expected: tuple[int, int]) -> None:
    source = photos(random_rgba(2, *size))
    views = TrainingViews(source, longest, 0.01, CPU)
    assert views.resolution == expected
    batch = views.batch(torch.tensor([1]))
    # A point lands at the same fraction of the picture at either size.
    full = world_to_clip(source.cam_to_world[1:], source.intrinsics[1:], size, 0.01)
    torch.testing.assert_close(batch.clip_transforms, full, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(batch.camera_centers[0], source.cam_to_world[1, :3, 3])


@pytest.mark.parametrize(
    ("longest", "most", "samples"), [(64, 2, 2), (64, 4, 4), (64, 5, 4), (63, 4, 3), (31, 4, 1), (16, 1, 1)]
)
def test_pixels_are_means_of_their_samples(longest: int, most: int, samples: int) -> None:
    rgba = random_rgba(2, 12, 16)
    views = TrainingViews(photos(rgba), longest, 0.01, CPU, most)
    assert views.resolution == (12 * samples, 16 * samples) and views.images.shape[1:3] == (12, 16)
    rendered = torch.rand(2, *views.resolution, 4)
    rendered[..., :3] *= 2 * rendered[..., 3:]  # brighter than white, here and there
    pixels = views.pixels(rendered)
    assert pixels.shape == views.batch(torch.tensor([0, 1])).photo.shape
    if views.encoded:
        assert samples == 1 and pixels is rendered
        return
    mean = rendered[1, 3 * samples :, 5 * samples :][:samples, :samples].mean((0, 1))
    color = linear_to_srgb((mean[:3] / mean[3]).clamp(max=1)) * mean[3]
    torch.testing.assert_close(pixels[1, 3, 5], torch.cat((color, mean[3:])))


def test_pixels_without_coverage_pass_no_gradient_that_is_not_finite() -> None:
    views = TrainingViews(photos(random_rgba(1, 12, 16)), 32, 0.01, CPU, 2)
    rendered = torch.zeros(1, *views.resolution, 4, requires_grad=True)
    views.pixels(rendered).sum().backward()
    assert rendered.grad is not None and bool(torch.isfinite(rendered.grad).all())


def test_a_reduced_photograph_has_one_sample_in_a_pixel() -> None:
    views = TrainingViews(photos(random_rgba(1, 12, 16)), 8, 0.01, CPU, 4)
    assert views.resolution == (6, 8) == tuple(views.images.shape[1:3])


def test_validity_is_reduced_with_the_photographs() -> None:
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[1, :, :4] = False
    valid[1, :, 4] = False
    views = TrainingViews(photos(random_rgba(2, 8, 8), valid), 4, 0.01, CPU)
    found = views.batch(torch.tensor([0, 1])).valid
    assert found is not None and found.shape == (2, 4, 4, 1)
    torch.testing.assert_close(found[0], torch.ones(4, 4, 1))
    torch.testing.assert_close(found[1, :, :, 0], torch.tensor([0.0, 0.0, 0.5, 1.0]).expand(4, 4))


def draws(count: int, batch: int, rounds: int, seed: int = 0) -> list[list[int]]:
    return view_order(count, batch, rounds, torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize(("count", "batch"), [(7, 1), (12, 4), (7, 3), (5, 5), (3, 8), (1, 1)])
def test_every_view_comes_once_before_any_comes_again(count: int, batch: int) -> None:
    batches = draws(count, batch, 4 * count)
    assert all(len(b) == min(batch, count) for b in batches)
    flat = [i for b in batches for i in b]
    for epoch in range(len(flat) // count):
        assert sorted(flat[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_the_order_is_shuffled_anew_and_repeats_with_its_seed() -> None:
    flat = [i for b in draws(12, 3, 12) for i in b]
    assert len({tuple(flat[k : k + 12]) for k in (0, 12, 24)}) == 3
    assert draws(12, 3, 12) == draws(12, 3, 12) != draws(12, 3, 12, seed=1)
    assert max(Counter(flat).values()) - min(Counter(flat).values()) <= 1


def test_draws_turn_from_step_to_step_in_place() -> None:
    chance = Draws(views=9, batch=2, steps=20, seed=3, device=CPU)
    kept = chance.indices, chance.background, chance.phase
    seen = []
    for step in range(20):
        chance.load(step)
        assert chance.numbers(step) == chance.indices.tolist()
        assert all(now is then for now, then in zip((chance.indices, chance.background, chance.phase), kept))
        seen.append((chance.indices.tolist(), chance.background.flatten().tolist(), int(chance.phase)))
        some = chance.some(103)
        assert some.shape == (25,) and int(some.max()) < 103 and bool((some % 4 == chance.phase).all())
    assert {phase for *_, phase in seen} == {0, 1, 2, 3}
    assert len({tuple(background) for _, background, _ in seen}) == 20
    again = Draws(views=9, batch=2, steps=20, seed=3, device=CPU)
    again.load(7)
    assert again.indices.tolist() == seen[7][0] and again.background.flatten().tolist() == seen[7][1]


@pytest.mark.cuda
@pytest.mark.parametrize("checked", [False, True])
def test_photographs_that_do_not_fit_come_from_main_memory(checked: bool) -> None:
    valid = torch.rand(7, 9, 12, generator=torch.Generator().manual_seed(1)) > 0.3 if checked else None
    source, cuda = photos(random_rgba(7, 9, 12), valid), torch.device("cuda")
    kept, streamed = (TrainingViews(source, 8, 0.01, cuda, resident=room) for room in (1 << 20, 1 << 10))
    assert not kept.streamed and kept.images.is_cuda
    assert streamed.streamed and not streamed.images.is_cuda and streamed.images.is_pinned()
    chance = Draws(views=7, batch=3, steps=10, seed=3, device=cuda)
    places = set()
    for step in range(10):
        for views in (kept, streamed):
            views.turn(chance, step)
        expected, found = kept.drawn(chance), streamed.drawn(chance)
        assert found.photo.is_cuda and torch.equal(found.photo, expected.photo)
        assert (found.valid is None) == (not checked)
        if found.valid is not None and expected.valid is not None:
            assert torch.equal(found.valid, expected.valid)
        assert torch.equal(found.clip_transforms, expected.clip_transforms)
        some = torch.tensor([6, 2], device=cuda)
        assert torch.equal(streamed.batch(some).photo, kept.batch(some).photo)
        places.add(streamed._fetched[0][0].data_ptr())
    assert len(places) == 1  # where a recorded step reads


def test_a_size_is_found_at_which_all_photographs_fit() -> None:
    source = photos(random_rgba(5, 60, 80))
    assert side_that_fits(source, 100) == 100
    for longest, room in ((80, 5 * 60 * 80 * 8), (80, 100_000), (80, 30_000), (100, 150_000)):
        side = side_that_fits(source, longest, room)
        views = TrainingViews(source, side, 0.01, CPU)
        assert 0.85 * room < views.images.numel() * 2 <= room
