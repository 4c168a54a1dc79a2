# SPDX-License-Identifier: GPL-3.0-or-later
"""One small job of the real backend, watched to its end: what the stand-in is taken at its word for everywhere else."""

import time
from pathlib import Path

import bpy
import pytest
from bl_ext.dev.unrender.operators import follow, jobs, preview_object, scene_jobs

from tests.operators.extension import ROOT
from tests.operators.installed import real_python

SMALL = {
    "carve_steps": 10,
    "carve_cells": 24,
    "shape_steps": 8,
    "surface_steps": 6,
    "texture_steps": 6,
    "grid_cells": 24,
    "table_size": 10,
    "target_triangles": 1500,
    "texture_size": 128,
    "transport_size": 0,
    "preview_seconds": 0.001,
}


@pytest.mark.slow
def test_a_real_job_shows_its_mesh_and_is_imported(tmp_path: Path) -> None:
    options = ["--preset", "draft", "--device", "cpu", "--max-size", "64"]
    for key, value in SMALL.items():
        options += ["--set", f"{key}={value}"]
    python, log = str(real_python()), tmp_path / "log"
    environ = {"UNRENDER_PYTHON": python}
    watch = jobs.launch([python], ROOT, ROOT / "demo", tmp_path / "job", log, options, environ)
    watch.import_wanted = True
    scene_jobs.add(bpy.context.scene, watch.folder)
    follow.follow(watch)
    stages, triangles = [], set()
    deadline = time.monotonic() + 300
    while not watch.settled or watch.import_wanted:
        follow.pump()
        if watch.stage not in stages:
            stages.append(watch.stage)
        if (shown := preview_object.find()) is not None:
            triangles.add(len(shown.data.polygons))
        assert time.monotonic() < deadline, (watch.stage, watch.said)
        if watch.status in ("failed", "died", "stopped"):
            break
        time.sleep(0.02)
    assert watch.status == "finished", f"{watch.message} {log.read_text()[-1000:]}"
    assert watch.message == "" and watch.imported
    assert len(stages) > 3  # short ones pass between two ticks
    assert triangles and min(triangles) > 100 and preview_object.find() is None
    assert len(watch.curve.values) > 2 and watch.psnr is not None and watch.memory is not None
    assert [block for block in bpy.data.objects if block.type == "MESH"]
