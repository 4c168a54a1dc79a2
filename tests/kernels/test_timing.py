# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel timings: all operations run, forward and backward, through our kernels and as nvdiffrast is called."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from backend.kernels import nvdiffrast_backend, timing
from backend.kernels.barycentrics import barycentrics
from backend.kernels.interpolate import interpolate
from backend.kernels.rasterize import rasterize


def test_every_operation_is_timed_on_every_sphere(device: str) -> None:
    told: list[str] = []
    found = timing.time_kernels(torch.device(device), ((4, 5), (6, 7)), 2, 32, 0.0, told.append)
    assert [row.triangles for row in found] == [30] * 7 + [70] * 7
    assert len({row.what for row in found}) == 7 and len(told) == 14
    assert all(row.milliseconds > 0 for row in found)
    times = [row.recorded_milliseconds for row in found]
    assert all(time is not None and time > 0 for time in times) if device == "cuda" else times == [None] * 14
    assert timing.has_nvdiffrast(torch.device("cpu")) is False


def test_large_spheres_are_left_out_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_LIMIT", 50)
    found = timing.time_kernels(torch.device("cpu"), ((4, 5), (6, 7)), 1, 16, 0.0)
    assert {row.triangles for row in found} == {30}


def test_a_peer_is_called_as_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvdiffrast's interface on top of our kernels: both lists of calls must then do the same."""

    def ours(drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return drawn[..., 3].to(torch.int32) - 1, drawn[..., :2].contiguous()

    def draw(
        context: object, clip: torch.Tensor, triangles: torch.Tensor, size: tuple[int, int], grad_db: bool
    ) -> tuple[torch.Tensor, None]:
        ids = rasterize(clip, triangles, size)
        weights = barycentrics(clip, triangles, ids)
        return torch.cat([weights, 0 * weights[..., :1], (ids + 1)[..., None].float()], -1), None

    def fill(values: torch.Tensor, drawn: torch.Tensor, triangles: torch.Tensor) -> tuple[torch.Tensor, None]:
        return interpolate(values[0], triangles, *ours(drawn)), None

    def smooth(
        image: torch.Tensor, drawn: torch.Tensor, clip: torch.Tensor, triangles: torch.Tensor, topology_hash: object
    ) -> torch.Tensor:
        return timing.antialias(image, clip, triangles, ours(drawn)[0], timing.build_neighbors(triangles))

    peer = SimpleNamespace(
        RasterizeCudaContext=lambda device: None,
        antialias_construct_topology_hash=lambda triangles: None,
        rasterize=draw,
        interpolate=fill,
        antialias=smooth,
    )
    monkeypatch.setattr(nvdiffrast_backend, "load", lambda: peer)
    clip, triangles = timing.sphere_view(1, 2, 6, 7)
    torch.manual_seed(0)
    mine = timing._our_calls(clip, triangles, 32)
    torch.manual_seed(0)
    theirs = timing._nvdiffrast_calls(clip, triangles, 32)
    assert list(mine) == list(theirs)
    for what in ("interpolate", "antialias"):
        torch.testing.assert_close(mine[what](), theirs[what]())
    for what in mine:
        mine[what]()
        theirs[what]()  # backward passes end in gradients of one shape, or raise
