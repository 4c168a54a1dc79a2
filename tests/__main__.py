# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all tests: `python3 -m tests [paths …] [-k EXPRESSION] [other options of pytest]`, from the repository's root.

Makes the environments that they need. The backend's tests run in its environment; tests/operators and tests/panels run
in every Blender that can be had as a Python module here (5.0 on Python 3.11, 5.2 on Python 3.13), or in those whose
Pythons UNRENDER_BLENDER_PYTHON names, as one with bpy 4.5, pytest and OpenEXR. Ends with one line, "N passed, N failed,
N skipped"; exit code 0 only if something ran and nothing failed.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # whoever starts us with an older one deserves to hear it
    sys.exit(f"Unrender needs Python 3.11 or newer, found {sys.version.split()[0]}.")

import os
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from backend import blender, environment  # noqa: E402
from backend.console import Console, clock  # noqa: E402
from backend.errors import UserError  # noqa: E402

BLENDER_TESTS = ("tests/operators", "tests/panels")
NO_TESTS_COLLECTED = 5


@dataclass
class Counts:
    """Outcomes of one run of pytest or of all."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Counts) -> None:
        """Sum up."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Paths of backend tests, paths of Blender tests, and what else is meant for pytest."""
    backend_paths, blender_paths, options = [], [], []
    for argument in arguments:
        path = Path(argument.partition("::")[0])
        if argument.startswith("-") or not path.exists():
            options.append(argument)
            continue
        relative = path.resolve().relative_to(ROOT).as_posix()
        (blender_paths if relative.startswith(BLENDER_TESTS) else backend_paths).append(argument)
    return backend_paths, blender_paths, options


def run_pytest(title: str, python: Path, arguments: list[str], environ: dict[str, str]) -> Counts:
    """Run pytest with an interpreter and count outcomes; a run that crashed counts as one failure."""
    print(f"\n=== {title}: {python}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unrender-tests-") as temporary:
        report = Path(temporary) / "report.xml"
        environ = {**environ, "BLENDER_USER_RESOURCES": str(Path(temporary) / "blender")}
        command = [str(python), "-m", "pytest", f"--junitxml={report}", "--durations=8", *arguments]
        code = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
        counts = read_report(report)
    if code not in (0, NO_TESTS_COLLECTED) and not counts.failed:
        counts.failed += 1  # a crash, or wrong usage
    print(f"=== {title}: {counts}, {clock(time.monotonic() - began)}", flush=True)
    return counts


def read_report(path: Path) -> Counts:
    """The counts of a JUnit XML file; zeros if there is none."""
    counts = Counts()
    if not path.is_file():
        return counts
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        counts.failed += number["failures"] + number["errors"]
        counts.skipped += number["skipped"]
        counts.passed += number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return counts


def blender_pythons(console: Console) -> tuple[list[tuple[str, Path]], list[str]]:
    """Every bpy that can be had here, with a title, and one line for each that cannot."""
    if named := os.environ.get("UNRENDER_BLENDER_PYTHON"):
        return [(f"Blender side {i + 1}", Path(path)) for i, path in enumerate(named.split(os.pathsep))], []
    found, problems = [], []
    environments = blender.module_environments(all_versions=True)
    for candidate in environments:
        version = environment.pins(candidate.recipe.requirements)["bpy"]
        try:
            found.append((f"Blender side, bpy {version}", candidate.ensure(console, tests=True)))
        except UserError as error:
            problems.append(f"bpy {version}: {error}")
    if not environments:
        problems.append("no Python 3.11 or 3.13 here, for which bpy is published: the Blender side is not tested")
    return found, problems


def main(arguments: list[str]) -> int:
    """Run what was asked for; returns the exit code."""
    must_have_blender = "--require-blender" in arguments
    arguments = [argument for argument in arguments if argument != "--require-blender"]
    backend_paths, blender_paths, options = split_arguments(arguments)
    everything = not backend_paths and not blender_paths
    console = Console(sys.stdout)
    environ = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "") if "UNRENDER_PYTHON" in os.environ else ""}
    environ["PYTHONUNBUFFERED"] = "1"
    total = Counts()
    began = time.monotonic()
    pythons, problems = blender_pythons(console)
    if everything or backend_paths:
        python = environment.ensure_backend(console, tests=True)
        # Some of the backend's tests compare with the real Blender, which they run as a process.
        blender_environ = {"UNRENDER_BLENDER_PYTHON": str(pythons[0][1])} if pythons else {}
        total.add(run_pytest("backend", python, [*backend_paths, *options], {**environ, **blender_environ}))
    if everything or blender_paths:
        present = [path for path in BLENDER_TESTS if (ROOT / path).is_dir()]
        for title, python in pythons:
            total.add(run_pytest(title, python, [*(blender_paths or present), *options], environ))
        for problem in problems:
            print(f"not run: {problem}")
            total.add(Counts(failed=1) if must_have_blender else Counts(skipped=1))
    print(f"\nall tests: {clock(time.monotonic() - began)}")
    print(total, flush=True)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"tests: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
