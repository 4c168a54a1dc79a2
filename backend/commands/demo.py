# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole main job on the capture that ships with the repository: from photographs to a .blend."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import environment
from ..blender import Blender, ensure_blender, run_environ
from ..console import Console, clock
from ..errors import Stopped, UserError
from ..job_folder import JobFolder

HELP = "the whole main job on the small capture that ships with Unrender"
NEEDS_BACKEND = False
CAPTURE = environment.ROOT / "demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("unrender-demo"), help="(default: %(default)s)")
    parser.add_argument("--preset", choices=("draft", "standard", "high"), default="draft")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> int:
    """Environment, reconstruction, evaluation, .blend; prints where everything is."""
    console = Console()
    out: Path = options.out.absolute()
    timings: dict[str, float] = {}
    if not CAPTURE.is_dir():
        raise UserError("the demo capture is missing", where=str(CAPTURE), remedy="Check out all files.")
    began = time.monotonic()
    blender, problem = _environments(console)
    timings["environment"] = time.monotonic() - began

    began = time.monotonic()
    command = ["reconstruct", str(CAPTURE), "--out", str(out), "--preset", options.preset, "--device", options.device]
    _backend(command)
    timings["reconstruct"] = time.monotonic() - began

    began = time.monotonic()
    figures = json.loads(_backend(["evaluate", str(out), str(CAPTURE), "--device", options.device]))
    timings["evaluate"] = time.monotonic() - began

    blend = out / "demo.blend"
    if blender is not None:
        began = time.monotonic()
        problem = _write_blend(blender, out, blend)
        timings["blend"] = time.monotonic() - began
    _summary(out, blend if not problem else None, problem, figures, timings)
    return 0


def _environments(console: Console) -> tuple[Blender | None, str]:
    """What runs Blender, or None and why not. The backend's environment and Blender's are made at once: downloads."""
    found: list[Blender] = []
    problem: list[str] = []

    def make() -> None:
        try:
            found.append(ensure_blender(console))
        except (UserError, OSError) as error:
            problem.append(str(error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    environment.ensure_backend(console)
    thread.join()
    if problem:
        console.note(f"no .blend will be written: {problem[0]}")
    return (found[0] if found else None), "".join(problem)


def _backend(arguments: Sequence[str]) -> str:
    """Run one command of ours as its own process, its progress shown as it comes; returns what it printed."""
    path = [str(environment.ROOT), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return _run([sys.executable, "-P", "-m", "backend", *arguments], environ, show_errors=True)


def _run(command: Sequence[str], environ: dict[str, str], show_errors: bool) -> str:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if show_errors else subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environ,
    ) as process:
        # Ctrl-C reaches the child too, which ends its job in order: wait for it rather than abandon it.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()
            raise
        finally:
            signal.signal(signal.SIGINT, before)
    if process.returncode and show_errors:
        sys.exit(process.returncode if process.returncode > 0 else 130)  # it has said why
    if process.returncode in (130, -signal.SIGINT):
        raise Stopped
    if process.returncode:
        lines = [line for line in (errors or output).splitlines() if line.strip()]
        raise UserError(lines[-1] if lines else f"it ended with exit code {process.returncode}")
    return output


def _write_blend(blender: Blender, out: Path, blend: Path) -> str:
    """Write the .blend; returns why it could not be, or ""."""
    script = environment.ROOT / "operators" / "build_blend.py"
    arguments = [str(JobFolder(out).result), "--capture", str(CAPTURE), "--blend", str(blend)]
    print(f"writing {blend.name} with {blender.label}", file=sys.stderr)
    try:
        _run(blender.command(script, arguments), run_environ(), show_errors=False)
    except UserError as error:
        return str(error)
    return "" if blend.is_file() else "Blender ended without writing it"


def _summary(out: Path, blend: Path | None, problem: str, figures: dict[str, Any], timings: dict[str, float]) -> None:
    result = JobFolder(out).result
    print(f"blend          {blend or f'not written: {problem}'}")
    print(f"asset          {result / 'asset.glb'}")
    print(f"environment    {result / 'environment.exr'}")
    print(f"contact sheet  {result / 'contact_sheet.png'}")
    parts = [f"PSNR {figures['psnr']:.2f} dB"]
    if figures.get("ssim") is not None:
        parts.append(f"SSIM {figures['ssim']:.3f}")
    if figures.get("flat_color_psnr") is not None:
        parts.append(f"the masks in one flat color give {figures['flat_color_psnr']:.2f} dB")
    print(f"quality        {', '.join(parts)}, over {figures.get('views', '?')} held-out views")
    print(
        f"time           {clock(sum(timings.values()))} = " + " + ".join(f"{k} {clock(v)}" for k, v in timings.items())
    )
    if blend:
        print(f"next           open {blend} in Blender 4.5 or newer, or try your own photographs:")
    else:
        print("next           import the asset in Blender, or try your own photographs:")
    print("               python3 -m backend reconstruct CAPTURE --out DIR")
