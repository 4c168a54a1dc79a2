# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole job: capture in, result folder out."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..appearance.environment import EnvironmentLight
from ..appearance.material import MaterialField
from ..appearance.textured_mesh import TexturedMesh
from ..capture import Capture, read_capture, write_capture_json
from ..capture.loader import load_photos
from ..errors import UserError
from ..export.result import write_result
from ..export.summary import summarize
from ..geometry.atlas import Atlas, make_atlas
from ..geometry.isosurface import extract
from ..geometry.mesh import clean, vertex_normals
from ..geometry.remesh import remesh
from ..geometry.texels import TexelMap, rasterize_atlas
from ..job import Job
from ..kernels.primitives import check_rasterizer
from .bake import bake, make_asset
from .checkpoint import Checkpoint
from .preview import Previews
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .shape_stage import ShapeState, run_shape_stage
from .surface_stage import SurfaceState, run_surface_stage
from .texture_stage import TextureState, run_texture_stage

ATLAS_PADDING = 4.0  # texels between charts
ENVIRONMENT_HEIGHT = 256  # rows of environment.exr
SMALLEST_COMPONENT = 0.01  # share of the largest part's area below which a part is a floater


class Timer:
    """Seconds of each named part of the job."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def choose_device(name: str) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`.

    Raises:
        UserError: cuda was asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            what="no CUDA device",
            where="--device",
            expected="an NVIDIA GPU with a driver that this torch can use",
            found=f"torch {torch.__version__} that sees none",
            remedy="Use --device cpu, or install the CUDA build with: install --device cuda.",
        )
    return torch.device(name)


def check_machine(settings: Settings) -> torch.device:
    """The device of a job.

    Raises:
        UserError: this machine has no such device, or lacks the rasterizer that was chosen.
    """
    device = choose_device(settings.device)
    check_rasterizer(settings.rasterizer, device)
    return device


def reconstruct(capture_path: Path, job: Job, settings: Settings) -> Path:
    """Run or resume the job and return its result folder.

    Raises:
        UserError: the capture or the machine cannot be used.
        Stopped: the user stopped the job; a checkpoint is left.
    """
    device = check_machine(settings)
    torch.manual_seed(settings.seed)
    timer = Timer()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with timer.part("load"):
        capture = read_capture(capture_path, holdout=settings.holdout)
        for warning in capture.warnings:
            job.warning(warning)
        scene = _load_scene(capture, settings, device)
    write_capture_json(capture, job.folder)
    fingerprint = _fingerprint(capture, settings)
    checkpoint = None
    if job.resume:
        checkpoint = Checkpoint.load(job.files.checkpoint, device)
        _check_same_job(checkpoint, fingerprint, job)
        timer = Timer(checkpoint.seconds)
    else:
        shutil.rmtree(job.files.checkpoint, ignore_errors=True)  # of an earlier job in this folder
    previews = Previews(job, job.files.preview, settings.preview_seconds)
    surface = None if checkpoint is None else _restore(checkpoint, scene, settings)
    if surface is None:
        surface = _shape(scene, settings, job, timer, previews)
        _save(surface, "surface", fingerprint, timer, job)
        checkpoint = None
    previews.show(surface.vertices, surface.triangles, surface.material, now=True)
    if checkpoint is None or checkpoint.stage == "surface":
        with timer.part("surface"):
            run_surface_stage(surface, scene, settings, StageProgress(job, "surface", previews=previews))
        previews.show(surface.vertices, surface.triangles, surface.material, now=True)
        _save(surface, "texture", fingerprint, timer, job)
    state, atlas, texels = _texture(surface, scene, settings, job, timer)
    return _export(capture, state, atlas, texels, scene, settings, job, timer)


def _load_scene(capture: Capture, settings: Settings, device: torch.device) -> Scene:
    views = capture.split("train")
    photos = load_photos(views, max_size=settings.max_size or None)
    region = None if capture.bounds is None else torch.from_numpy(np.asarray(capture.bounds, np.float32))
    return Scene.of(photos, region, device)


def _shape(scene: Scene, settings: Settings, job: Job, timer: Timer, previews: Previews) -> SurfaceState:
    """Shape stage and the even mesh that comes of it."""
    with timer.part("hull"):
        shape = ShapeState.start(scene, settings)
    with timer.part("shape"):
        run_shape_stage(shape, scene, settings, StageProgress(job, "shape", previews=previews))
    with timer.part("remesh"), torch.no_grad():
        shape.sdf.update_band()
        vertices, triangles = extract(shape.sdf(), shape.sdf.band)
        vertices, triangles = clean(vertices, triangles, SMALLEST_COMPONENT)
        if not len(triangles):
            raise UserError(
                what="nothing is left of the object",
                where="shape stage",
                expected="a surface inside the masks",
                found="an empty mesh",
                remedy="Check the masks and poses with: inspect CAPTURE.",
            )
        vertices, triangles = remesh(
            vertices,
            triangles,
            target_triangles=settings.target_triangles,
            progress=lambda share: job.report("remesh", round(100 * share), 100),
        )
    return SurfaceState(vertices.to(scene.device), triangles.to(scene.device), shape.material, shape.light)


def _fingerprint(capture: Capture, settings: Settings) -> dict[str, Any]:
    """What must be the same for a checkpoint to fit: settings, and the views with their poses."""
    views = [[v.name, v.split, np.asarray(v.cam_to_world).round(9).tolist()] for v in capture.views]
    digest = hashlib.sha256(json.dumps(views).encode()).hexdigest()
    return {"settings": asdict(replace(settings, device="auto")), "views": digest}


def _check_same_job(checkpoint: Checkpoint, fingerprint: dict[str, Any], job: Job) -> None:
    if checkpoint.fingerprint == fingerprint:
        return
    raise UserError(
        what="the checkpoint is of another job",
        where=str(job.files.checkpoint),
        expected="the same capture, preset and settings as before",
        found="others",
        remedy="Repeat the earlier command with --resume, or start again without it.",
    )


def _save(surface: SurfaceState, stage: str, fingerprint: dict[str, Any], timer: Timer, job: Job) -> None:
    tensors = {"vertices": surface.vertices, "triangles": surface.triangles}
    tensors |= {f"material.{k}": v for k, v in surface.material.state_dict().items()}
    tensors |= {f"light.{k}": v for k, v in surface.light.state_dict().items()}
    Checkpoint(stage, fingerprint, timer.seconds, tensors).save(job.files.checkpoint)


def _restore(checkpoint: Checkpoint, scene: Scene, settings: Settings) -> SurfaceState:
    blank = ShapeState.start(scene, settings)

    def load(module: MaterialField | EnvironmentLight, prefix: str) -> None:
        module.load_state_dict(
            {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
        )

    load(blank.material, "material.")
    load(blank.light, "light.")
    tensors = checkpoint.tensors
    return SurfaceState(tensors["vertices"], tensors["triangles"], blank.material, blank.light)


def _texture(
    surface: SurfaceState, scene: Scene, settings: Settings, job: Job, timer: Timer
) -> tuple[TextureState, Atlas, TexelMap]:
    with timer.part("atlas"):
        atlas = make_atlas(
            surface.vertices.cpu().numpy(),
            surface.triangles.cpu().numpy(),
            settings.texture_size,
            ATLAS_PADDING,
            progress=lambda share: job.report("atlas", round(100 * share), 100),
        )
        texels = rasterize_atlas(atlas.uvs, settings.texture_size)
    with timer.part("texture"):
        normals = vertex_normals(surface.vertices, surface.triangles)
        mesh = TexturedMesh.of(surface.vertices, surface.triangles, normals, atlas.uvs)
        textures = bake(surface.material, surface.vertices, surface.triangles, texels)
        with torch.no_grad():
            vertex_color = surface.material(surface.vertices).base_color
        state = TextureState(mesh, textures, surface.light, vertex_color)
        run_texture_stage(state, scene, settings, StageProgress(job, "texture"))
    return state, atlas, texels


def _export(
    capture: Capture,
    state: TextureState,
    atlas: Atlas,
    texels: TexelMap,
    scene: Scene,
    settings: Settings,
    job: Job,
    timer: Timer,
) -> Path:
    with timer.part("export"), torch.no_grad():
        environment: Tensor = state.light.to_latlong(ENVIRONMENT_HEIGHT)
        name = capture.root.resolve().name or "Asset"
        asset = make_asset(state.mesh, atlas.uvs, state.textures, environment, texels, name)
        sheet = summarize(asset, capture.views, device=str(scene.device))
    report: dict[str, Any] = {
        "settings": asdict(settings),
        "seconds": {k: round(v, 3) for k, v in timer.seconds.items()},
        "device": _device_name(scene.device),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if scene.device.type == "cuda" else None,
        "atlas": {
            "method": atlas.method,
            "charts": atlas.chart_count,
            "utilization": round(atlas.utilization, 4),
            "stretch": atlas.stretch,
        },
    }
    return write_result(job.files.result, asset, capture.views, report, sheet)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
