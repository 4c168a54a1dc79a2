# SPDX-License-Identifier: GPL-3.0-or-later
"""`package` with the builder of the Blender that runs these tests: a clean zip and a repository that lists it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def package(out: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "backend", "package", "--out", str(out)],
        env={**os.environ, "UNRENDER_BLENDER_PYTHON": sys.executable, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_zip_and_repository(tmp_path: Path) -> None:
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text())
    for _ in range(2):  # the second time replaces
        result = package(tmp_path / "dist")
        assert result.returncode == 0, result.stderr
    archive = tmp_path / "dist" / f"{manifest['id']}-{manifest['version']}.zip"
    assert result.stdout.split() == [str(archive), str(tmp_path / "dist" / "index.json")]
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == ["index.json", archive.name]
    names = zipfile.ZipFile(archive).namelist()
    for name in ("__init__.py", "LICENSE", "backend/__main__.py", "backend/requirements.txt", "operators/__init__.py"):
        assert name in names
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"__init__.py", "blender_manifest.toml", "LICENSE", "README.md", "backend", "operators", "panels"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".log"))]
    (listed,) = json.loads((tmp_path / "dist" / "index.json").read_text())["data"]
    assert (listed["id"], listed["version"]) == (manifest["id"], manifest["version"])
    assert listed["archive_size"] == archive.stat().st_size


def test_the_builders_refusal_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("backend", "__init__.py", "operators", "panels"):
        (root / name).symlink_to(ROOT / name)
    (root / "blender_manifest.toml").write_text('schema_version = "1.0.0"\nid = "Not valid"\n')
    code = (
        "import sys; from pathlib import Path; from backend import environment, packaging\n"
        "from backend.console import Console\n"
        "environment.ROOT = Path(sys.argv[1])\n"
        "try:\n    packaging.package(Path(sys.argv[2]), Console())\n"
        "except packaging.UserError as error:\n    print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(root), str(tmp_path / "dist")],
        env={**os.environ, "UNRENDER_BLENDER_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Blender's extension builder refused" in result.stdout, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert not list((tmp_path / "dist").iterdir())


def test_without_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(ROOT))
    from backend import environment, packaging
    from backend.console import Console

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(packaging.UserError, match=r"blender_manifest\.toml"):
        packaging.package(tmp_path / "dist", Console())
