# SPDX-License-Identifier: GPL-3.0-or-later
"""Times rasterisation, interpolation and antialiasing, beside nvdiffrast where it can be imported.

Not a test: run it from the repository's root with
    python -m tests.kernels.bench_kernels [--device cpu|cuda] [--views 8] [--size 512] [--seconds 0.5]
It prints milliseconds a call (the median), forward and forward with backward, for spheres from 180 to a million
triangles, and the ratio nvdiffrast / ours (above 1: ours is faster).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from backend.errors import UserError
from backend.kernels import antialias, interpolate, nvdiffrast_backend, rasterize
from tests.kernels.scenes import leaf, sphere_view

SPHERES = {"180": (10, 10), "20k": (101, 100), "200k": (317, 316), "1M": (708, 707)}
CPU_LIMIT = 300_000  # triangles; larger spheres are left out on the CPU


def milliseconds(call: Callable[[], object], device: torch.device, seconds: float) -> float:
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


def calls(backend: str, clip: torch.Tensor, triangles: torch.Tensor, size: int) -> dict[str, Callable[[], object]]:
    """What is timed, for "warp" or "nvdiffrast". Backward passes include their forward pass."""
    device = clip.device
    resolution = (size, size)
    ids = rasterize.rasterize(clip, triangles, resolution)
    weights = rasterize.barycentrics(clip, triangles, ids)
    neighbors = antialias.build_neighbors(triangles)
    values = torch.rand(clip.shape[1], 3, device=device)
    image = interpolate.interpolate(values, triangles, ids, weights)
    gradient = torch.rand_like(image)
    points, colors, places, picture = (leaf(t, device) for t in (clip, values, weights, image))
    if backend == "nvdiffrast":
        # called directly: its rasterizer makes ids and barycentrics at once, where our wrapper has to draw again
        module = nvdiffrast_backend.load()
        drawn = leaf(nvdiffrast_backend._draw(clip, triangles, resolution), device)
        hashed = module.antialias_construct_topology_hash(triangles)

    def draw(positions: torch.Tensor) -> torch.Tensor:
        if backend == "nvdiffrast":
            return nvdiffrast_backend._draw(positions, triangles, resolution)[..., :2]
        return rasterize.barycentrics(positions, triangles, rasterize.rasterize(positions, triangles, resolution))

    def fill(attributes: torch.Tensor, barycentrics: torch.Tensor) -> torch.Tensor:
        if backend == "nvdiffrast":
            return module.interpolate(attributes[None], drawn, triangles)[0]
        return interpolate.interpolate(attributes, triangles, ids, barycentrics)

    def smooth(pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        if backend == "nvdiffrast":
            turned = nvdiffrast_backend._upside_down(positions)
            return module.antialias(pixels, drawn.detach(), turned, triangles, topology_hash=hashed)
        return antialias.antialias(pixels, positions, triangles, ids, neighbors)

    return {
        "rasterize + barycentrics": lambda: draw(clip),
        "  with backward": lambda: draw(points).backward(gradient[..., :2]),
        "interpolate": lambda: fill(values, weights),
        "  with backward ": lambda: fill(colors, places).backward(gradient),
        "antialias": lambda: smooth(image, clip),
        "  with backward  ": lambda: smooth(picture, points).backward(gradient),
    }


def has_nvdiffrast(device: torch.device) -> bool:
    try:
        nvdiffrast_backend.load()
    except UserError:
        return False
    return device.type == "cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on each figure")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    peer = has_nvdiffrast(device)
    print(f"{name}, torch {torch.__version__}, {options.views} views of {options.size} x {options.size}")
    print(f"{'':28}{'triangles':>10}{'ours ms':>10}" + (f"{'nvdiffrast':>12}{'ratio':>8}" if peer else ""))
    for label, shape in SPHERES.items():
        clip, triangles = (t.to(device) for t in sphere_view(1, options.views, *shape))
        if device.type == "cpu" and len(triangles) > CPU_LIMIT:
            continue
        ours = calls("warp", clip, triangles, options.size)
        theirs = calls("nvdiffrast", clip, triangles, options.size) if peer else {}
        for what, call in ours.items():
            mine = milliseconds(call, device, options.seconds)
            line = f"{what:28}{len(triangles):>10}{mine:>10.3f}"
            if what in theirs:
                other = milliseconds(theirs[what], device, options.seconds)
                line += f"{other:>12.3f}{other / mine:>8.2f}"
            print(line, flush=True)
        if label != list(SPHERES)[-1]:
            print()


if __name__ == "__main__":
    main()
