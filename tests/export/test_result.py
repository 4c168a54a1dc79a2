# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.capture.model import Camera, View
from backend.errors import UserError
from backend.export import result
from backend.export.textures import base_color_bytes

from .shapes import cube

FILES = {
    "asset.glb",
    "textures/Cube_BaseColor.png",
    "textures/Cube_ORM.png",
    "textures/Cube_Normal.png",
    "environment.exr",
    "cameras.json",
    "report.json",
}


def views(folder: Path) -> list[View]:
    """Two views whose photographs exist, and one whose photograph is gone."""
    found = []
    for index, name in enumerate(("train/a", "train/b", "test/c")):
        image = folder / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        if index < 2:
            image.write_bytes(name.encode())
        pose = np.eye(4)
        pose[:3, 3] = index
        camera = Camera(40, 30, 50.0, 51.0, 20.0, 15.0, (0.1,) if index else ())
        found.append(View(name, image, camera, pose, split=name.split("/")[0], exposure=0.5 if index else None))
    return found


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_layout(tmp_path: Path):
    sheet = Image.new("RGB", (20, 10))
    folder = result.write_result(tmp_path / "job" / "result", cube(), views(tmp_path / "photos"), {}, sheet)
    assert folder == tmp_path / "job" / "result"
    assert files(folder) == FILES | {"contact_sheet.png"}
    assert os.listdir(folder.parent) == ["result"]
    with Image.open(folder / "textures" / "Cube_BaseColor.png") as image:
        assert image.mode == "RGB" and (np.asarray(image) == base_color_bytes(cube().base_color)).all()


def test_cameras(tmp_path: Path):
    folder = result.write_result(tmp_path / "result", cube(), views(tmp_path / "photos"), {})
    document = json.loads((folder / "cameras.json").read_text())
    assert document["version"] == 1 and Path(document["images"]) == tmp_path / "photos"
    first, second, third = document["views"]
    assert first["name"] == "train/a" and first["image"] == "train/a.png" and third["split"] == "test"
    assert [first[key] for key in ("width", "height", "fx", "fy", "cx", "cy")] == [40, 30, 50, 51, 20, 15]
    assert second["cam_to_world"] == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert first["exposure"] is None and second["exposure"] == 0.5
    assert "distortion" not in first and second["distortion"] == [0.1]


def test_report(tmp_path: Path):
    report = {
        "settings": {"preset": "draft"},
        "timings": {"shape": np.float32(1.5)},
        "metrics": {"psnr": float("nan"), "steps": np.int64(7), "sizes": np.arange(2)},
        "path": tmp_path,
    }
    folder = result.write_result(tmp_path / "result", cube(), views(tmp_path / "photos"), report)
    found = result.read_report(tmp_path)  # the job's folder will do
    assert found["settings"] == {"preset": "draft"} and found["timings"] == {"shape": 1.5}
    assert found["metrics"] == {"psnr": None, "steps": 7, "sizes": [0, 1]} and found["path"] == str(tmp_path)
    assert found["inputs"] == {
        "train/a.png": hashlib.sha256(b"train/a").hexdigest(),
        "train/b.png": hashlib.sha256(b"train/b").hexdigest(),
        "test/c.png": None,
    }
    assert found["asset"]["triangles"] == 12 and found["versions"]["numpy"] == np.__version__
    assert b"NaN" not in (folder / "report.json").read_bytes()
    result.update_report(folder, {"metrics": {"psnr": 30}})
    assert result.read_report(folder)["metrics"] == {"psnr": 30} and files(folder) == FILES


def test_provenance_reaches_the_mesh(tmp_path: Path):
    report = {"copyright": "2026 A. Artist", "provenance": {"capture": "CC0"}}
    folder = result.write_result(tmp_path / "result", cube(), [], report)
    file = (folder / "asset.glb").read_bytes()
    assert b'"copyright":"2026 A. Artist"' in file and b'"capture":"CC0"' in file
    provenance = result.read_report(folder)["provenance"]
    assert provenance["capture"] == "CC0" and provenance["tool"].startswith("Unrender") and provenance["rights"]


def test_read_result(tmp_path: Path):
    asset = cube()
    folder = result.write_result(tmp_path / "result", asset, [], {})
    for where in (folder, tmp_path):
        again = result.read_result(where)
        assert (again.environment == asset.environment).all()
        assert (again.vertices[again.triangles] == asset.vertices[asset.triangles]).all()


def test_what_is_no_result_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: this is no result.*no such folder"):
        result.read_result(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no asset.glb in it"):
        result.read_result(tmp_path)
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(UserError, match="a job without a result"):
        result.read_result(tmp_path)


def test_an_earlier_result_is_replaced(tmp_path: Path):
    folder = result.write_result(tmp_path / "result", cube(), [], {"run": 1})
    (folder / "notes.txt").touch()
    result.write_result(folder, replace(cube(), name="Other"), [], {"run": 2})
    assert result.read_report(folder)["run"] == 2 and result.read_result(folder).name == "Other"
    assert files(folder) == {name.replace("Cube", "Other") for name in FILES}
    assert os.listdir(tmp_path) == ["result"]


def test_another_folder_is_not_deleted(tmp_path: Path):
    folder = tmp_path / "result"
    folder.mkdir()
    result.write_result(folder, cube(), [], {})  # an empty one may be taken
    (folder / "asset.glb").unlink()
    with pytest.raises(UserError, match="something else stands where the result goes"):
        result.write_result(folder, cube(), [], {})
    assert (folder / "report.json").exists() and os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("failing", ["write_exr", "_flush"])
def test_a_full_disk_leaves_the_earlier_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str):
    """Simulated by a write that fails; `test_a_disk_that_is_truly_full` does without where it may mount one."""
    folder = result.write_result(tmp_path / "result", cube(), [], {"run": 1})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(result, failing, full)
    with pytest.raises(UserError, match="result: cannot write the result.*No space left.*Free some space"):
        result.write_result(folder, cube(), [], {"run": 2})
    assert result.read_report(folder)["run"] == 1 and os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("kilobytes", [8, 16, 64])
def test_a_disk_that_is_truly_full(tmp_path: Path, kilobytes: int):
    mount = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(tmp_path)],
            capture_output=True,
            check=False,
        )
        if hasattr(os, "geteuid") and os.geteuid() == 0
        else None
    )
    if mount is None or mount.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        light = np.random.default_rng(0).random((64, 128, 3)).astype(np.float32)  # compresses to about 80 kB
        with pytest.raises(UserError, match="cannot write the result"):
            result.write_result(tmp_path / "result", replace(cube(), environment=light), [], {})
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_failed_exchange_puts_the_earlier_result_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = result.write_result(tmp_path / "result", cube(), [], {"run": 1})
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="Permission denied"):
        result.write_result(folder, cube(), [], {"run": 2})
    assert result.read_report(folder)["run"] == 1 and os.listdir(tmp_path) == ["result"]


def test_after_a_crash_in_the_middle_of_writing(tmp_path: Path):
    half = tmp_path / ".result.new"
    half.mkdir()
    (half / "asset.glb").write_bytes(b"half")
    result.write_result(tmp_path / "result", cube(), [], {})
    assert os.listdir(tmp_path) == ["result"]


def test_after_a_crash_in_the_middle_of_the_exchange(tmp_path: Path):
    folder = result.write_result(tmp_path / "result", cube(), [], {"run": 1})
    folder.rename(tmp_path / ".result.old")
    result.recover(folder)
    assert result.read_report(folder)["run"] == 1 and os.listdir(tmp_path) == ["result"]


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the result"):
        result.write_result(tmp_path / "file" / "result", cube(), [], {})
