# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house: which part may import which, by reading the sources without running them."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("backend", "operators", "panels", "tests")
SOURCES = sorted([*(path for part in PARTS for path in (ROOT / part).rglob("*.py")), *ROOT.glob("*.py")])

# Which packages of the backend each of them may import beside itself.
LAYERS = {
    "kernels": set(),
    "geometry": {"kernels"},
    "appearance": {"kernels", "geometry"},
    "capture": set(),
    "export": {"appearance", "geometry", "kernels", "capture"},
    "optimization": {"appearance", "geometry", "kernels", "capture", "export"},
}
# Modules that need the standard library only: they run before there is an environment, and inside Blender.
STANDARD = ("__init__", "errors", "environment", "job", "job_folder", "processes", "provision", "console", "blender")
STANDARD += ("packaging", "packages", "recipes", "disk", "__main__")
# What the Blender side may use of the backend; of capture only what needs no torch.
FOR_BLENDER = {"errors", "environment", "job", "blender", "console", "capture", "disk"}
NEEDS_TORCH = {"loader", "inspect"}

LINES_ADVISED = 400
LINES_MOST = 500


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, only_on_import: bool = False) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, as an absolute dotted name with its line, relative ones resolved.

    `from a import b` yields a.b. With `only_on_import`, only what runs when the module is imported.
    """
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), only_on_import):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            # A module's own package is its folder; for __init__.py too.
            base = parts[: len(parts) - node.level] if node.level else []
            for alias in node.names:
                yield ".".join([*base, *filter(None, [node.module]), alias.name]), node.lineno


def _statements(tree: ast.AST, only_on_import: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if only_on_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if only_on_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _statements(node, only_on_import)


def test_the_import_reader_sees_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "backend" / "geometry"
    folder.mkdir(parents=True)
    source = folder / "sample.py"
    source.write_text("from .. import environment\nfrom ..kernels.bridge import x\ndef f():\n    import bpy\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert [found for found, _ in imports(source)] == ["backend.environment", "backend.kernels.bridge.x", "bpy"]
    assert "bpy" not in [found for found, _ in imports(source, only_on_import=True)]


def test_backend_never_imports_the_blender_side() -> None:
    wrong = []
    for path in (ROOT / "backend").rglob("*.py"):
        for module, line in imports(path):
            if module.partition(".")[0] in ("bpy", "bmesh", "mathutils", "operators", "panels", "tests"):
                wrong.append(f"{name(path)}:{line} imports {module}")
    assert not wrong, wrong


def test_backend_layers_import_one_way() -> None:
    wrong = []
    for layer, below in LAYERS.items():
        for path in (ROOT / "backend" / layer).rglob("*.py"):
            for module, line in imports(path):
                parts = module.split(".")
                if parts[0] == "backend" and len(parts) > 1 and parts[1] in LAYERS and parts[1] not in below | {layer}:
                    wrong.append(f"{name(path)}:{line} imports {module}")
                if parts[:2] == ["backend", "commands"]:
                    wrong.append(f"{name(path)}:{line} imports a command")
    assert not wrong, wrong


def test_what_runs_without_an_environment_needs_the_standard_library_only() -> None:
    files = [ROOT / "backend" / f"{module}.py" for module in STANDARD]
    files += (ROOT / "backend" / "commands").glob("*.py")
    wrong = []
    for path in files:
        for module, line in imports(path, only_on_import=True):
            parts = module.split(".")
            inside = parts[0] == "backend" and (len(parts) == 1 or parts[1] in (*STANDARD, "commands"))
            if not inside and parts[0] not in sys.stdlib_module_names:
                wrong.append(f"{name(path)}:{line} imports {module}")
    assert not wrong, wrong


@pytest.mark.parametrize("module", ["environment", "job"])
def test_environment_and_job_use_nothing_else_even_inside_functions(module: str) -> None:
    for found, line in imports(ROOT / "backend" / f"{module}.py"):
        assert found.startswith("backend.") or found.partition(".")[0] in sys.stdlib_module_names, (found, line)


def test_the_blender_side_uses_little_of_the_backend() -> None:
    wrong = []
    for part in ("operators", "panels"):
        for path in (ROOT / part).rglob("*.py"):
            for module, line in imports(path):
                parts = module.split(".")
                if parts[0] in ("torch", "warp"):
                    wrong.append(f"{name(path)}:{line} imports {module}")
                if parts[0] == "backend" and parts[1] not in FOR_BLENDER:
                    wrong.append(f"{name(path)}:{line} imports {module}")
                if parts[:2] == ["backend", "capture"] and NEEDS_TORCH & set(parts[2:]):
                    wrong.append(f"{name(path)}:{line} imports {module}")
    assert not wrong, wrong


def test_what_blender_imports_of_the_backend_is_relative() -> None:
    # In Blender the package is called bl_ext.REPOSITORY.unrender.backend: "import backend" finds nothing there.
    files = [ROOT / "backend" / f"{module}.py" for module in STANDARD]
    files += [path for path in (ROOT / "backend" / "capture").glob("*.py") if path.stem not in NEEDS_TORCH]
    wrong = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            wrong += [f"{name(path)}:{node.lineno}" for module in modules if module.partition(".")[0] == "backend"]
    assert not wrong, wrong


def test_numpy_part_of_capture_needs_no_torch() -> None:
    wrong = []
    for path in (ROOT / "backend" / "capture").glob("*.py"):
        for module, line in imports(path, only_on_import=True):
            parts = module.split(".")
            torch_inside = parts[:2] == ["backend", "capture"] and NEEDS_TORCH & set(parts[2:3])
            if path.stem not in NEEDS_TORCH and (parts[0] in ("torch", "warp", "scipy") or torch_inside):
                wrong.append(f"{name(path)}:{line} imports {module}")
    assert not wrong, wrong


def test_modules_are_short() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    for path, lines in lengths.items():
        if lines > LINES_ADVISED:
            warnings.warn(f"{path} has {lines} lines; {LINES_ADVISED} are advised", stacklevel=1)
    too_long = {path: lines for path, lines in lengths.items() if lines > LINES_MOST}
    assert not too_long, too_long


def test_every_source_names_its_licence() -> None:
    wrong = [name(path) for path in SOURCES if not path.read_text(encoding="utf-8").startswith("# SPDX-License-Ident")]
    assert not wrong, wrong


def test_no_path_of_one_machine_and_no_registry_host() -> None:
    folders = "|".join(("work", "root", "home/[a-z]+", "Users/[A-Za-z]+", "opt/wheels"))
    hosts = "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch", "deb" + r"ian\.org/deb"))
    pattern = re.compile(rf"(?<![\w.~])/(?:{folders})/|(?:{hosts})")
    texts = [
        *SOURCES,
        *ROOT.glob("*.toml"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "backend").glob("*.txt"),
        ROOT / ".ci" / "run",
    ]
    wrong = []
    for path in texts:
        if path == Path(__file__).resolve() or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            # The one address that an installation needs: the general registry has no CUDA build of torch for Windows.
            if path == ROOT / "backend" / "packages.py" and line.startswith("PYTORCH_INDEX = "):
                continue
            if pattern.search(line):
                wrong.append(f"{name(path)}:{number}: {line.strip()[:80]}")
    assert not wrong, wrong
