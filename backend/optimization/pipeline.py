# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole job: capture in, result folder out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..appearance.textured_mesh import TexturedMesh
from ..capture import Capture, View, read_capture, write_capture_json
from ..capture.loader import Photos, load_photos
from ..errors import UserError
from ..export.result import write_result
from ..export.summary import summarize
from ..geometry.atlas import Atlas
from ..geometry.band import Grid
from ..geometry.cleaning import clean
from ..geometry.isosurface import extract
from ..geometry.mesh import vertex_normals
from ..geometry.remesh import remesh
from ..geometry.texels import TexelMap
from ..geometry.unfold import unfold
from ..job import Job
from ..kernels.primitives import check_rasterizer
from .atlas_task import AtlasTask
from .bake import bake, make_asset
from .camera_alignment import Aligner, Alignment, align_cameras
from .carve_stage import run_carve_stage
from .checkpoint import Checkpoint
from .exposures import even_out
from .preview import Previews
from .progress import StageProgress
from .resolution import field_cells, texture_side, triangle_count
from .resume import Keeper, check_same_job, fingerprint, restore_alignment, restore_shape, restore_surface
from .scene import Scene
from .settings import Settings
from .shape_stage import ShapeState, run_shape_stage, visual_hull
from .start_choice import choose_start
from .start_mesh import StartMesh
from .surface_stage import SurfaceState, run_surface_stage
from .texture_stage import TextureState, run_texture_stage
from .timer import Timer
from .unseen import flatten_unseen
from .views import TrainingViews

ENVIRONMENT_HEIGHT = 256  # rows of environment.exr
# Of the time until the shape stage begins: libraries, then photographs, then what bounds the object.
LIBRARIES_LOADED, PHOTOS_LOADED, BOUNDS_FOUND = 0.3, 0.6, 0.8
SMALLEST_COMPONENT = 0.01  # share of the largest part's area below which a part is a floater


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


@dataclass(frozen=True)
class _Run:
    """What all parts of one job work with."""

    capture: Capture
    scene: Scene
    settings: Settings
    job: Job
    timer: Timer
    keeper: Keeper
    previews: Previews
    start_mesh: StartMesh | None
    alignment: Alignment
    psnr: dict[str, float]  # of the training views at the end of each stage, dB

    def tell(self, stage: str, share: float) -> None:
        """Say how much of a part without steps is done, and obey."""
        _tell(self.job, stage, share)

    def progress(self, stage: str, first: int = 0, keep: Callable[[int], None] | None = None) -> StageProgress:
        """Steps of a stage from `first` on, whose state `keep` writes."""
        return StageProgress(self.job, stage, previews=self.previews, first=first, keep=keep)

    def note(self, stage: str, progress: StageProgress) -> None:
        """Keep what a stage has reached for the report."""
        if (reached := progress.psnr()) is not None:
            self.psnr[stage] = round(reached, 3)

    def aligned(self, alignment: Alignment) -> _Run:
        """The same with refined cameras, which go into all further checkpoints."""
        self.keeper.alignment = alignment
        if torch.equal(alignment.cam_to_world, self.alignment.cam_to_world):
            return replace(self, alignment=alignment)
        return replace(self, scene=self.scene.with_cameras(alignment.cam_to_world), alignment=alignment)

    def show(self, surface: SurfaceState) -> None:
        """Show a mesh at the end of a stage."""
        self.previews.show(surface.vertices, surface.triangles, surface.material, now=True)


def _tell(job: Job, stage: str, share: float) -> None:
    job.should_stop()
    job.report(stage, round(100 * share), 100)


def reconstruct(capture_path: Path, job: Job, settings: Settings, start_mesh: StartMesh | None = None) -> Path:
    """Run or resume the job and return its result folder.

    Args:
        start_mesh: what the shape stage starts from instead of the visual hull.

    Raises:
        UserError: the capture or the machine cannot be used.
        Stopped: the user stopped the job; a checkpoint is left.
    """
    device = check_machine(settings)
    _tell(job, "prepare", LIBRARIES_LOADED)
    torch.manual_seed(settings.seed)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    capture = read_capture(capture_path, holdout=settings.holdout)
    for warning in capture.warnings:
        job.warning(warning)
    mark = fingerprint(capture, settings, start_mesh)
    checkpoint = None
    if job.resume:
        checkpoint = Checkpoint.load(job.files.checkpoint, device)
        if start_mesh is None:  # the checkpoint goes on without it
            mark["start mesh"] = checkpoint.fingerprint.get("start mesh", "")
        check_same_job(checkpoint, mark, job.files.checkpoint)
    else:
        shutil.rmtree(job.files.checkpoint, ignore_errors=True)  # of an earlier job in this folder
    write_capture_json(capture, job.folder)
    timer = Timer(checkpoint.seconds if checkpoint else None)
    with timer.part("load"):
        scene = _load_scene(capture, settings, device, job)
    settings = replace(settings, grid_cells=field_cells(scene.bounds, scene.photos, settings.grid_cells))
    previews = Previews(job, job.files.preview, settings.preview_seconds)
    given = Alignment.of(scene.photos.cam_to_world.to(device))
    run = _Run(capture, scene, settings, job, timer, Keeper(job, mark, timer), previews, start_mesh, given, {})
    if checkpoint is not None and (kept := restore_alignment(checkpoint, given)) is not None:
        run = run.aligned(kept)
    run, surface = _even_mesh(run, checkpoint)
    side = texture_side(surface.vertices, surface.triangles, run.scene.photos, settings.texture_size)
    with AtlasTask(surface.vertices, surface.triangles, side) as atlas:
        if checkpoint is None or checkpoint.stage != "texture":
            run = _surface(run, surface, checkpoint.step if checkpoint and checkpoint.stage == "surface" else 0)
        return _export(run, *_texture(run, surface, atlas))


def _load_scene(capture: Capture, settings: Settings, device: torch.device, job: Job) -> Scene:
    def loaded(done: int, all_of_them: int) -> None:
        _tell(job, "prepare", LIBRARIES_LOADED + done / all_of_them * (PHOTOS_LOADED - LIBRARIES_LOADED))

    used = max(settings.carve_size, settings.shape_size, settings.surface_size, settings.texture_stage_size)
    photos = load_photos(capture.split("train"), max_size=min(settings.max_size or used, used), progress=loaded)
    for warning in photos.warnings:
        job.warning(warning)
    region = None if capture.bounds is None else torch.from_numpy(np.asarray(capture.bounds, np.float32))
    scene = Scene.of(even_out(photos), region, device)
    _tell(job, "prepare", BOUNDS_FOUND)
    return scene


def _even_mesh(run: _Run, checkpoint: Checkpoint | None) -> tuple[_Run, SurfaceState]:
    """The mesh that the surface stage begins with, and the run with cameras that fit it.

    Where the cameras had to be moved, the shape stage begins once more: the hull of silhouettes that did not meet, and
    what grew in it, are worse than anything the later stages could mend.
    """
    if checkpoint is not None and checkpoint.stage != "shape":
        surface = restore_surface(checkpoint, run.scene, run.settings)
        if run.keeper.alignment is not None:
            return run, surface
    else:
        surface = _mesh(run, _shape(run, checkpoint))
    first = not run.alignment.moved
    run = _align(run, surface)
    if first and run.alignment.moved:
        rms, most = run.alignment.shift_rms, float(run.alignment.shift.max())
        run.job.warning(
            f"the cameras did not quite fit the photographs: they were moved by {rms:.1f} pixels on average, "
            f"{most:.1f} at most, and the shape stage begins once more"
        )
        surface = _mesh(run, _shape(run, None))
        run = _align(run, surface)
    return run, surface


def _shape(run: _Run, checkpoint: Checkpoint | None) -> ShapeState:
    """The shape stage, from its start or from where it was stopped."""
    if checkpoint is None:
        state, first = ShapeState.start(run.scene, run.settings, _solid(run)), 0
    else:
        state, first = restore_shape(checkpoint, run.scene, run.settings), checkpoint.step
    with run.timer.part("shape"):
        progress = run.progress("shape", first, keep=lambda step: run.keeper.shape(state, step))
        run_shape_stage(state, run.scene, run.settings, progress)
    run.note("shape", progress)
    run.keeper.shape(state, progress.steps_done)
    return state


def _solid(run: _Run) -> Tensor:
    """Where the shape stage begins: the artist's mesh, else the visual hull or what carving leaves of it."""
    grid = Grid.around(run.scene.bounds, run.settings.grid_cells)
    with run.timer.part("hull"):
        hull = visual_hull(run.scene, grid)
    run.tell("prepare", 1.0)
    if run.start_mesh is not None:
        with run.timer.part("start mesh"):
            return run.start_mesh.solid(grid, hull, run.job.warning, partial(run.tell, "start mesh"))
    if not run.settings.carve_steps:
        return hull
    with run.timer.part("carve"):
        carved = run_carve_stage(run.scene, grid, hull, run.settings, run.progress("carve"))
    if torch.equal(hull, carved):
        return hull
    with run.timer.part("compare"):
        tell = partial(run.tell, "compare")
        return choose_start(run.scene, grid, hull, carved, run.settings, run.job, tell)


def _mesh(run: _Run, shape: ShapeState) -> SurfaceState:
    """The even mesh that comes of the shape stage."""
    run.tell("remesh", 0.0)
    with run.timer.part("remesh"), torch.no_grad():
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
        views = TrainingViews(run.scene.photos, run.settings.shape_size, run.scene.near, run.scene.device)
        vertices = flatten_unseen(vertices, triangles, views)
        vertices, triangles = remesh(
            vertices,
            triangles,
            target_triangles=triangle_count(vertices, triangles, run.scene.photos, run.settings.target_triangles),
            iterations=run.settings.remesh_rounds,
            progress=lambda share: run.tell("remesh", share),
        )
    device = run.scene.device
    surface = SurfaceState(vertices.to(device), triangles.to(device), shape.material, shape.light)
    run.keeper.surface(surface)
    run.show(surface)
    return surface


def _align(run: _Run, surface: SurfaceState, shadows: bool = False) -> _Run:
    """The run with cameras that fit the mesh, which was learned with or without `shadows`."""
    if not run.settings.refine_cameras or run.job.finish_requested:
        return run
    with run.timer.part("cameras"):
        aligner = Aligner(surface, run.scene, run.settings, shadows)
        alignment = align_cameras(aligner, run.alignment, partial(run.tell, "cameras"))
    return run.aligned(alignment)


def _surface(run: _Run, surface: SurfaceState, first: int) -> _Run:
    """The surface stage from step `first` on; left out when the artist wants the result now."""
    if not run.job.finish_requested:
        with run.timer.part("surface"):
            progress = run.progress("surface", first, keep=lambda step: run.keeper.surface(surface, step))
            run_surface_stage(surface, run.scene, run.settings, progress)
        run.note("surface", progress)
        if not bool(torch.isfinite(surface.vertices).all()):
            raise UserError(
                what="the mesh has come apart",
                where="surface stage",
                remedy="Lower vertex_rate, or the weights given with --set.",
            )
        surface.vertices = unfold(surface.vertices, surface.triangles)
        run.show(surface)
        if run.alignment.moved:  # the mesh has come nearer to the photographs, and so can the cameras
            run = _align(run, surface, shadows=True)
    run.keeper.surface(surface, stage="texture")
    return run


def _texture(run: _Run, surface: SurfaceState, task: AtlasTask) -> tuple[TextureState, Atlas, TexelMap]:
    settings = run.settings
    with run.timer.part("atlas"):
        atlas, texels = task.result(surface.vertices, partial(run.tell, "atlas"))
    with run.timer.part("texture"):
        normals = vertex_normals(surface.vertices, surface.triangles)
        mesh = TexturedMesh.of(surface.vertices, surface.triangles, normals, atlas.uvs)
        textures = bake(surface.material, surface.vertices, surface.triangles, texels)
        with torch.no_grad():
            vertex_color = surface.material(surface.vertices).base_color
        state = TextureState(mesh, textures, surface.light, vertex_color)
        if not run.job.finish_requested:
            progress = run.progress("texture")
            run_texture_stage(state, run.scene, settings, progress, texels)
            run.note("texture", progress)
    return state, atlas, texels


def _export(run: _Run, state: TextureState, atlas: Atlas, texels: TexelMap) -> Path:
    device = run.scene.device
    run.tell("export", 0.0)
    with run.timer.part("export"), torch.no_grad():
        environment: Tensor = state.light.to_latlong(ENVIRONMENT_HEIGHT)
        name = run.capture.root.resolve().name or "Asset"
        asset = make_asset(state.mesh, atlas.uvs, state.textures, environment, texels, name)
        run.tell("export", 0.2)
        views = _refined(run.capture, run.scene.photos, run.alignment)
        summary = summarize(asset, views, device=str(device))
    report: dict[str, Any] = {
        "settings": asdict(run.settings),
        "seconds": {k: round(v, 3) for k, v in run.timer.seconds.items()},
        "start_mesh": run.keeper.mark["start mesh"] or None,  # SHA-256
        "device": _device_name(device),
        "metrics": {
            "training_psnr": run.psnr,
            "psnr": {name: round(value, 3) for name, value in summary.psnr.items()},  # of the contact sheet's views
        },
        "cameras": {
            "moved": run.alignment.moved,
            "shift_rms": round(run.alignment.shift_rms, 3),  # pixels of the photographs as loaded
            "shift_max": round(float(run.alignment.shift.max()), 3),
        },
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "atlas": {
            "method": atlas.method,
            "charts": atlas.chart_count,
            "utilization": round(atlas.utilization, 4),
            "stretch": atlas.stretch,
        },
    }
    run.tell("export", 0.7)
    result = write_result(run.job.files.result, asset, views, report, summary.sheet)
    run.job.report("export", 100, 100)  # too late to be stopped
    return result


def _refined(capture: Capture, photos: Photos, alignment: Alignment) -> tuple[View, ...]:
    """The views of the capture, those that the asset was made from where they were found to stand."""
    if not alignment.moved:
        return capture.views
    poses = dict(zip(photos.names, alignment.cam_to_world.double().cpu().numpy(), strict=True))
    return tuple(replace(view, cam_to_world=poses.get(view.name, view.cam_to_world)) for view in capture.views)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
