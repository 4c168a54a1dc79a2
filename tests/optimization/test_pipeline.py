# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole job through the command line: its result, its events, stopping, going on, and what earlier jobs left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.capture import read_capture
from backend.errors import UserError
from backend.export.asset import Asset
from backend.export.evaluate import evaluate
from backend.export.result import read_result
from backend.geometry import cleaning, mesh
from backend.geometry.texels import rasterize_atlas
from backend.job import EventReader, Job, write_request
from backend.optimization.pipeline import choose_device, reconstruct
from backend.optimization.settings import Settings
from tests.geometry.mesh_checks import check
from tests.optimization import synthetic
from tests.optimization.synthetic import ROOT, SETTINGS, contents, events, last_words

STAGES = ["shape", "remesh", "cameras", "surface", "atlas", "texture"]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic capture, 12 views to learn from and 3 to be judged by."""
    return synthetic.write_capture(tmp_path_factory.mktemp("synthetic") / "Bumpy")


@pytest.fixture(scope="module")
def finished(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A job folder after a reconstruction from the command line."""
    job = tmp_path_factory.mktemp("finished") / "job"
    result = synthetic.reconstruct(capture, job)
    assert result.returncode == 0, result.stderr
    return job, result


@pytest.fixture(scope="module")
def asset(finished: tuple[Path, Any]) -> Asset:
    return read_result(finished[0])


@pytest.fixture(scope="module")
def surface(asset: Asset) -> tuple[torch.Tensor, torch.Tensor]:
    """The mesh without the seams that its file has at borders of charts."""
    return cleaning.weld(torch.from_numpy(asset.vertices), torch.from_numpy(asset.triangles))


def test_it_says_where_the_result_is_and_nothing_untoward(finished: tuple[Path, Any]) -> None:
    job, result = finished
    assert result.stdout.strip() == str(job / "result")
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("reconstruct: ") for line in lines), result.stderr


def test_its_events_tell_the_whole_story_once(finished: tuple[Path, Any]) -> None:
    job, _ = finished
    found = events(job)
    assert found[0]["event"] == "started" and found[-1]["event"] == "finished"
    assert last_words(job) == ["finished"]
    assert found[-1]["result"] == "result"
    times = [event["time"] for event in found]
    assert times == sorted(times)
    progress = [event for event in found if event["event"] == "progress"]
    stages = list(dict.fromkeys(event["stage"] for event in progress))
    assert [stage for stage in stages if stage in STAGES] == STAGES
    for event in progress:
        assert 0 <= event["step"] <= event["steps"]
        assert event.get("seconds_left", 0) >= 0
    for stage in ("shape", "surface", "texture"):
        steps = [event["step"] for event in progress if event["stage"] == stage]
        assert steps == sorted(steps) and steps[-1] == SETTINGS[f"{stage}_steps"]
        assert any("psnr" in event for event in progress if event["stage"] == stage)
    previews = [event["file"] for event in found if event["event"] == "preview"]
    assert all(Path(file).parent == Path("preview") for file in previews)
    assert not previews or (job / previews[-1]).is_file()  # older ones may have made room


def test_the_result_folder_is_complete(finished: tuple[Path, Any], capture: Path) -> None:
    job, _ = finished
    assert not list(job.rglob("*.part")) and not list(job.glob(".*"))
    assert not (job / "claim.json").exists() and not (job / "control.json").exists()
    names = set(contents(job / "result"))
    textures = {name for name in names if name.startswith("textures")}
    assert {Path(name).stem.rpartition("_")[2] for name in textures} == {"BaseColor", "ORM", "Normal"}
    wanted = {"asset.glb", "environment.exr", "cameras.json", "report.json", "contact_sheet.png"}
    assert names - textures == wanted
    with Image.open(job / "result" / "contact_sheet.png") as sheet:
        sheet.load()
        assert min(sheet.size) > 100
    cameras = json.loads((job / "result" / "cameras.json").read_text())
    views = read_capture(capture).views
    assert [camera["name"] for camera in cameras["views"]] == [view.name for view in views]
    for camera, view in zip(cameras["views"], views):
        np.testing.assert_allclose(camera["cam_to_world"], view.cam_to_world, atol=1e-6)


def test_the_report_says_what_was_done(finished: tuple[Path, Any], capture: Path) -> None:
    report = json.loads((finished[0] / "result" / "report.json").read_text())
    assert {key: report["settings"][key] for key in SETTINGS} == SETTINGS
    assert {"load", "hull", "shape", "remesh", "cameras", "surface", "atlas", "texture", "export"} <= report[
        "seconds"
    ].keys()
    assert all(seconds >= 0 for seconds in report["seconds"].values())
    reached = report["metrics"]["training_psnr"]
    assert list(reached) == ["shape", "surface", "texture"] and all(15 < value < 60 for value in reached.values())
    assert len(report["metrics"]["psnr"]) == 3 and all(15 < value < 60 for value in report["metrics"]["psnr"].values())
    assert report["cameras"] == {"moved": False, "shift_rms": 0.0, "shift_max": 0.0}
    assert len(report["inputs"]) == 15
    for name, digest in report["inputs"].items():
        (path,) = capture.rglob(Path(name).name)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {"unrender", "python", "torch", "warp-lang"} <= report["versions"].keys()
    assert report["provenance"]["rights"] and report["device"].startswith("CPU")
    assert "Users" not in json.dumps(report["provenance"]) and str(Path.home()) not in json.dumps(report["provenance"])


def test_held_out_views_are_far_better_than_flat_color(finished: tuple[Path, Any], capture: Path) -> None:
    with synthetic.small_light():
        figures = evaluate(finished[0], read_capture(capture))
    assert figures["views"] == 3
    assert figures["psnr"] > figures["flat_color_psnr"] + 3, figures
    assert figures["silhouette_iou"] > 0.95, figures


def test_the_object_stands_where_the_cameras_saw_it(surface: tuple[torch.Tensor, torch.Tensor]) -> None:
    vertices, _ = surface
    truth = torch.from_numpy(synthetic.bumpy_sphere().vertices)
    distances = torch.cdist(vertices, truth)
    assert float(distances.amin(1).max()) < 0.25 and float(distances.amin(0).max()) < 0.25
    assert float(distances.amin(1).mean()) < 0.1


def test_colors_are_on_their_sides(asset: Asset) -> None:
    height, width = asset.base_color.shape[:2]
    columns = (asset.uvs.mean(1)[:, 0] * width).astype(int)
    rows = ((1 - asset.uvs.mean(1)[:, 1]) * height).astype(int)
    color = asset.base_color[rows, columns]
    centers = asset.vertices[asset.triangles].mean(1)
    for side, (more, less) in ((1, (0, 2)), (-1, (2, 0))):  # red where y > 0, blue where y < 0
        there = side * centers[:, 1] > 0.4
        assert (color[there, more] > color[there, less]).mean() > 0.9


def test_the_mesh_is_sound(surface: tuple[torch.Tensor, torch.Tensor], asset: Asset) -> None:
    vertices, triangles = surface
    checks = check(vertices, triangles)
    assert checks.degenerate_triangles == checks.duplicate_triangles == checks.unused_vertices == 0
    assert checks.manifold and checks.closed, checks
    areas = mesh.face_areas(vertices, triangles)
    labels = mesh.connected_components(triangles, len(vertices))
    parts = torch.zeros(int(labels.max()) + 1).index_add_(0, labels, areas)
    assert float(parts.min()) >= 0.01 * float(parts.sum())
    assert float(parts.max()) > 0.97 * float(parts.sum())  # one sphere
    # No triangle shows its back: outward as a whole, and none against the normals of its corners.
    corners = vertices[triangles.long()]
    volume = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 3 < float(volume) < 6  # a sphere of radius one has 4.2
    faces = mesh.face_normals(torch.from_numpy(asset.vertices), torch.from_numpy(asset.triangles))
    agreement = (faces[:, None] * torch.from_numpy(asset.normals)[asset.triangles]).sum(-1)
    assert (agreement > 0).all(), f"{int((agreement <= 0).any(1).sum())} triangles are flipped"
    assert 0.3 * SETTINGS["target_triangles"] < len(triangles) < 1.3 * SETTINGS["target_triangles"]


def test_the_atlas_lies_in_its_tile_and_nowhere_twice(asset: Asset) -> None:
    assert asset.uvs.min() >= 0 and asset.uvs.max() <= 1
    for size in (SETTINGS["texture_size"], 1024):
        texels = rasterize_atlas(asset.uvs, size)
        assert texels.overlaps == 0
    assert len(np.unique(texels.triangle_ids)) - 1 > 0.99 * len(asset.triangles)
    sides = asset.uvs[:, 1:] - asset.uvs[:, :1]
    assert (np.abs(np.linalg.det(sides.astype(np.float64))) > 0).all()


# ---- what comes after


def test_a_failing_second_job_leaves_the_result(finished: tuple[Path, Any], capture: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    shutil.copytree(finished[0], job)
    before = contents(job / "result")
    broken = tmp_path / "broken"
    shutil.copytree(capture, broken)
    picture = broken / "images" / "03.png"
    picture.write_bytes(picture.read_bytes()[:300])
    result = synthetic.reconstruct(broken, job)
    assert_one_complaint(result, "03.png")
    assert contents(job / "result") == before
    assert last_words(job) == ["failed"]
    assert not (job / "claim.json").exists()


def assert_one_complaint(result: subprocess.CompletedProcess[str], *said: str) -> None:
    """Exit code 2 and, beyond progress and warnings, one line that holds the words."""
    assert result.returncode == 2, result
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("reconstruct: ", "warning: "))]
    assert len(lines) == 1 and lines[0].startswith("unrender: "), result.stderr
    for text in said:
        assert text in lines[0], lines[0]


@pytest.fixture
def running(capture: Path, tmp_path: Path) -> Any:
    """Starts a reconstruction and waits until one of its events pleases; ends what still runs afterwards."""
    children: list[subprocess.Popen[str]] = []

    def start(until: Callable[[dict[str, Any]], bool], *more: str, **settings: Any) -> subprocess.Popen[str]:
        job = tmp_path / "job"
        before = (job / "events.jsonl").read_bytes() if job.exists() else b""
        child = subprocess.Popen(
            synthetic.command(capture, job, *more, **settings),
            cwd=ROOT,
            env=synthetic.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        deadline = time.monotonic() + 120
        while (job / "events.jsonl").read_bytes() == before if (job / "events.jsonl").exists() else True:
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reader = EventReader(job)
        while not any(until(event) for event in reader.poll()):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_stopped_refused_and_gone_on_with(running: Any, capture: Path, tmp_path: Path) -> None:
    job = tmp_path / "job"
    long = {"shape_steps": 30, "surface_steps": 2000}

    def in_surface(event: dict[str, Any]) -> bool:
        return event.get("stage") == "surface"

    child = running(in_surface, **long)
    # A second job in the folder of a living one.
    assert_one_complaint(synthetic.reconstruct(capture, job, **long), str(job), str(child.pid))
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors and errors.splitlines()[-1] == "unrender: stopped"
    assert last_words(job) == ["stopped"]
    assert not (job / "result").exists() and not list(job.glob(".*"))
    stopped = contents(job / "checkpoint")
    assert stopped

    # Another capture, then other settings: refused, and the checkpoint stays.
    other = tmp_path / "other"
    shutil.copytree(capture, other)
    data = json.loads((other / "capture.json").read_text())
    data["views"][4]["cam_to_world"][0][3] += 0.01
    (other / "capture.json").write_text(json.dumps(data))
    assert_one_complaint(synthetic.reconstruct(other, job, "--resume", **long), "checkpoint", "--resume")
    settings = Settings.from_preset("draft", "cpu", SETTINGS | long | {"seed": 5})
    with pytest.raises(UserError, match="another job"), Job(job, {}, resume=True) as again:
        reconstruct(capture, again, settings)
    assert contents(job / "checkpoint") == stopped
    assert last_words(job) == ["failed"]

    # The same again: goes on after the shape stage, and finishes when asked.
    same = Settings.from_preset("draft", "cpu", SETTINGS | long)
    with synthetic.small_light(), Job(job, {}, resume=True) as again:
        again.listeners.append(lambda event: write_request(job, "finish") if in_surface(event) else None)
        reconstruct(capture, again, same)
    found = events(job)
    assert last_words(job) == ["finished"]
    assert not any(event.get("stage") == "shape" for event in found)
    report = json.loads((job / "result" / "report.json").read_text())
    assert report["seconds"]["shape"] > 0 and report["seconds"]["surface"] > 0
    assert len(read_result(job).triangles) > 300


@pytest.fixture
def resumable(capture: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A job stopped between two stages, and a copy of its capture to change."""
    job, copy = tmp_path / "job", tmp_path / "copy"
    shutil.copytree(capture, copy)

    class Interrupt(Exception):
        pass

    def listen(event: dict[str, Any]) -> None:
        if event.get("stage") == "surface":
            raise Interrupt

    running_job = Job(job, {})
    running_job.listeners.append(listen)
    with pytest.raises(Interrupt), running_job:
        reconstruct(copy, running_job, quick_settings())
    assert (job / "checkpoint").is_dir()
    return job, copy


def quick_settings() -> Settings:
    return Settings.from_preset("draft", "cpu", SETTINGS | {"shape_steps": 2, "surface_steps": 2, "texture_steps": 2})


def change(capture: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((capture / "capture.json").read_text())
    edit(data)
    (capture / "capture.json").write_text(json.dumps(data))


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a view less": lambda data: data["views"].pop(),
    "another split": lambda data: data["views"][0].update(split="test"),
    "another lens": lambda data: data["cameras"][0].update(fx=39.0),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_checkpoint_of_another_capture_is_refused(resumable: tuple[Path, Path], name: str) -> None:
    job, capture = resumable
    before = contents(job / "checkpoint")
    change(capture, EDITS[name])
    with pytest.raises(UserError, match="another job"), synthetic.small_light(), Job(job, {}, resume=True) as again:
        reconstruct(capture, again, quick_settings())
    assert contents(job / "checkpoint") == before


def test_a_refused_capture_does_not_take_the_place_of_the_own(resumable: tuple[Path, Path]) -> None:
    job, capture = resumable
    noted = (job / "capture.json").read_bytes()
    change(capture, EDITS["a view less"])
    with pytest.raises(UserError, match="another job"), Job(job, {}, resume=True) as again:
        reconstruct(capture, again, quick_settings())
    assert (job / "capture.json").read_bytes() == noted


def test_the_same_seed_gives_the_same_checkpoint(capture: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        job = Job(tmp_path / name, {})

        def listen(event: dict[str, Any], job: Job = job) -> None:
            if event.get("stage") == "surface":
                job.stop()

        job.listeners.append(listen)
        with pytest.raises(Exception, match="stopped"), job:
            reconstruct(capture, job, quick_settings())
        (path,) = (tmp_path / name / "checkpoint").glob("*.safetensors")
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_devices_are_chosen_or_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device"):
            choose_device("cuda")
