# SPDX-License-Identifier: GPL-3.0-or-later
"""Times rasterisation, interpolation and antialiasing on spheres, beside nvdiffrast where it can be imported."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import UserError
from . import nvdiffrast_backend
from .antialias import antialias, build_neighbors
from .barycentrics import barycentrics
from .interpolate import interpolate
from .rasterize import rasterize

SPHERES = ((10, 10), (101, 100), (317, 316), (708, 707))  # rings, segments: 180, 20k, 200k and 1M triangles
CPU_LIMIT = 300_000  # triangles; larger spheres take too long on a CPU
VIEWS = 8
SIZE = 512  # pixels; nvdiffrast wants a multiple of eight
SECONDS = 0.5
NEAR, FAR = 0.2, 20.0

Call = Callable[[], object]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Timing:
    """Median time of one operation, ours and nvdiffrast's where there is one.

    `recorded_milliseconds` is the time of a CUDA graph that repeats ours, as the stages of a reconstruction do.
    """

    what: str
    triangles: int
    milliseconds: float
    recorded_milliseconds: float | None
    nvdiffrast_milliseconds: float | None


def time_kernels(
    device: torch.device,
    spheres: tuple[tuple[int, int], ...] = SPHERES,
    views: int = VIEWS,
    size: int = SIZE,
    seconds: float = SECONDS,
    progress: Callable[[str], None] | None = None,
) -> list[Timing]:
    """Time every operation on every sphere, about `seconds` each."""
    peer = has_nvdiffrast(device)
    found = []
    for shape in spheres:
        clip, triangles = (t.to(device) for t in sphere_view(1, views, *shape))
        if device.type == "cpu" and len(triangles) > CPU_LIMIT:
            continue
        theirs = _nvdiffrast_calls(clip, triangles, size) if peer else {}
        for what, call in _our_calls(clip, triangles, size).items():
            if progress is not None:
                progress(f"{what}, {len(triangles)} triangles")
            ours = milliseconds(call, device, seconds)
            repeated = milliseconds(recorded(call), device, seconds) if device.type == "cuda" else None
            other = milliseconds(theirs[what], device, seconds) if what in theirs else None
            found.append(Timing(what, len(triangles), ours, repeated, other))
    return found


def has_nvdiffrast(device: torch.device) -> bool:
    """Whether there is something to compare with."""
    try:
        nvdiffrast_backend.check_device(device)
        nvdiffrast_backend.load()
    except UserError:
        return False
    return True


def milliseconds(call: Call, device: torch.device, seconds: float) -> float:
    """Median time of a call over about `seconds`, after a warm-up that compiles what needs it."""
    cuda = device.type == "cuda"
    for _ in range(3):
        call()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < deadline:
        if cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def recorded(call: Callable[[], Result]) -> Callable[[], Result]:
    """Repeats a call as a CUDA graph, whose results always lie in the memory of the recorded ones."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph, stream=stream):
        results = call()

    def repeat() -> Result:
        graph.replay()
        return results

    return repeat


def _our_calls(clip: Tensor, triangles: Tensor, size: int) -> dict[str, Call]:
    neighbors = build_neighbors(triangles)

    def draw(positions: Tensor) -> tuple[Tensor, Tensor]:
        ids = rasterize(positions, triangles, (size, size))
        return ids, barycentrics(positions, triangles, ids)

    def fill(values: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        return interpolate(values, triangles, *drawn)

    def smooth(image: Tensor, positions: Tensor, drawn: tuple[Tensor, Tensor]) -> Tensor:
        return antialias(image, positions, triangles, drawn[0], neighbors)

    def weights_as_leaf(drawn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return drawn[0], leaf(drawn[1])

    return _calls(clip, draw, fill, smooth, weights_as_leaf, lambda drawn: drawn[1])


def _nvdiffrast_calls(clip: Tensor, triangles: Tensor, size: int) -> dict[str, Call]:
    """The same through its own interface. Its images are ours upside down, which makes no difference in time."""
    module = nvdiffrast_backend.load()
    context = module.RasterizeCudaContext(device=clip.device)
    hashed = module.antialias_construct_topology_hash(triangles)

    def draw(positions: Tensor) -> Tensor:
        drawn: Tensor = module.rasterize(context, positions, triangles, (size, size), grad_db=False)[0]
        return drawn

    def fill(values: Tensor, drawn: Tensor) -> Tensor:
        image: Tensor = module.interpolate(values[None], drawn, triangles)[0]
        return image

    def smooth(image: Tensor, positions: Tensor, drawn: Tensor) -> Tensor:
        smoothed: Tensor = module.antialias(image, drawn.detach(), positions, triangles, topology_hash=hashed)
        return smoothed

    return _calls(clip, draw, fill, smooth, leaf, lambda drawn: drawn[..., :2])


def _calls(
    clip: Tensor,
    draw: Callable[[Tensor], Any],
    fill: Callable[[Tensor, Any], Tensor],
    smooth: Callable[[Tensor, Tensor, Any], Tensor],
    drawn_as_leaf: Callable[[Any], Any],
    weights: Callable[[Any], Tensor],
) -> dict[str, Call]:
    """What is timed, by name: each alone, then one after the other as a step of an optimisation has them.

    `draw` makes, of positions, whatever `fill` and `smooth` want; `weights` are the barycentrics in it.
    """
    values = torch.rand(clip.shape[1], 3, device=clip.device)
    drawn = draw(clip)
    image = fill(values, drawn)
    gradient = torch.rand_like(image)
    points, colors, places, picture = leaf(clip), leaf(values), drawn_as_leaf(drawn), leaf(image)

    def all_three() -> None:
        pixels = draw(points)
        smooth(fill(colors, pixels), points, pixels).backward(gradient)

    return {
        "rasterize and barycentrics": lambda: draw(clip),
        "rasterize and barycentrics, with backward": lambda: weights(draw(points)).backward(gradient[..., :2]),
        "interpolate": lambda: fill(values, drawn),
        "interpolate, with backward": lambda: fill(colors, places).backward(gradient),
        "antialias": lambda: smooth(image, clip, drawn),
        "antialias, with backward": lambda: smooth(picture, points, drawn).backward(gradient),
        "all three, forward and backward": all_three,
    }


def project(points: Tensor) -> Tensor:
    """[..., 3] float32 points in camera space (looking along -z) -> [..., 4] clip, 60 degrees, near 0.2, far 20."""
    x, y, z = points.unbind(-1)
    scale = 1 / math.tan(math.radians(30))
    depth = -(FAR + NEAR) / (FAR - NEAR) * z - 2 * FAR * NEAR / (FAR - NEAR)
    return torch.stack([scale * x, scale * y, depth, -z], dim=-1)


def sphere(rings: int, segments: int) -> tuple[Tensor, Tensor]:
    """Closed unit sphere: [V, 3] float32, [T, 3] int32 counter-clockwise from outside, vertices shared."""
    polar = torch.linspace(0, math.pi, rings + 1)[1:-1]
    around = torch.arange(segments) * (2 * math.pi / segments)
    p, a = torch.meshgrid(polar, around, indexing="ij")
    body = torch.stack([p.sin() * a.cos(), p.sin() * a.sin(), p.cos()], dim=-1).view(-1, 3)
    vertices = torch.cat([body, torch.tensor([[0.0, 0, 1], [0, 0, -1]])])
    top, bottom = len(body), len(body) + 1
    rows = []
    for s in range(segments):
        n = (s + 1) % segments
        rows.append((top, s, n))
        rows.append((bottom, (rings - 2) * segments + n, (rings - 2) * segments + s))
        for r in range(rings - 2):
            k = r * segments
            rows += [(k + s, k + segments + s, k + segments + n), (k + s, k + segments + n, k + n)]
    return vertices, torch.tensor(rows, dtype=torch.int32)


def sphere_view(seed: int, views: int, rings: int, segments: int) -> tuple[Tensor, Tensor]:
    """A sphere turned and moved at random for each view, three units away: clip [B, V, 4], triangles."""
    generator = torch.Generator().manual_seed(seed)
    vertices, triangles = sphere(rings, segments)
    turns = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator))[0]
    turns = turns * torch.linalg.det(turns)[:, None, None]
    shift = torch.tensor([0.0, 0.0, -3.0]) + 0.2 * torch.randn(views, 1, 3, generator=generator)
    return project(vertices @ turns.transpose(1, 2) + shift), triangles


def leaf(tensor: Tensor) -> Tensor:
    """A copy that collects its own gradient."""
    return tensor.detach().clone().requires_grad_()
