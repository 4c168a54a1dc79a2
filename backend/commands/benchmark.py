# SPDX-License-Identifier: GPL-3.0-or-later
"""The performance and quality table on the standard captures, and what each part of the method is worth."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console, clock
from ..errors import UserError
from ..processes import write_atomically
from .reconstruct import named_settings

if TYPE_CHECKING:
    from ..benchmark.measure import Figures, Plan

HELP = "performance and quality on the standard captures"
NEEDS_BACKEND = True
CAPTURES = ("lego", "mic", "goldcape", "helmet", "patchwork")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "datasets", type=Path, nargs="?", metavar="DATASETS", help="a folder with one capture folder per name"
    )
    parser.add_argument(
        "--captures", metavar="NAME[,NAME...]", help=f"which (default: of {', '.join(CAPTURES)} those that are there)"
    )
    parser.add_argument("--preset", choices=("draft", "standard", "high"), default="standard")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--max-views", type=int, metavar="N", help="measure at most this many views of each capture")
    parser.add_argument("--hdris", type=Path, metavar="DIR", help="the true lights (default: DATASETS/hdri)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("unrender-benchmark"), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as reconstruct has it", dest="sets"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="SWITCH[,SWITCH...]", help="as reconstruct has it"
    )
    parser.add_argument("--ablate", action="store_true", help="run everything once more without each switch")
    parser.add_argument("--kernels", action="store_true", help="time the kernels too, beside nvdiffrast where it is")


def run(options: argparse.Namespace) -> int:
    """Measure; prints the tables, and writes them and all figures to --out after every run."""
    from ..benchmark.measure import Plan, machine
    from ..benchmark.tables import render
    from ..export.result import versions
    from ..optimization.settings import Settings
    from ..optimization.switches import SWITCHES, settings_without, switch_names

    without = switch_names(options.without)
    Settings.from_preset(options.preset, overrides=named_settings(options.sets) | settings_without(without))
    captures = _find_captures(options)
    hdris = options.hdris
    if hdris is None and options.datasets is not None and (options.datasets / "hdri").is_dir():
        hdris = options.datasets / "hdri"
    plan = Plan(options.preset, options.device, tuple(options.sets), tuple(without), options.max_views, hdris)
    here = machine()
    if options.device == "cuda" and here["gpu"] is None:
        raise UserError("CUDA does not work here", where="--device cuda", remedy="Use --device cpu.")
    out = _make_folder(options.out)
    console = Console()
    report: dict[str, Any] = {
        "written": "",
        "machine": here,
        "versions": versions(),
        "preset": plan.preset,
        "device": plan.device,
        "set": list(plan.sets),
        "without": without,
        "captures": {},
        "ablation": {},
        "kernels": [],
    }
    ablated = [name for name in SWITCHES if name not in without] if options.ablate else []
    runs = [(name, switch) for name in captures for switch in ("", *ablated)]
    failed = 0
    for index, (name, switch) in enumerate(runs):
        title = f"{name} without {switch}" if switch else name
        console.note(f"benchmark: {title} ({index + 1} of {len(runs)})")
        figures = _measure(captures[name], out, switch, plan, console)
        console.note(f"benchmark: {title}: {_in_short(figures)}")
        (report["ablation"].setdefault(name, {}) if switch else report["captures"])[switch or name] = figures
        failed += "failed" in figures
        _write(report, out)
    if options.kernels:
        report["kernels"] = _time_kernels("cuda" if here["gpu"] and options.device != "cpu" else "cpu", console)
        _write(report, out)
    print(render(report), end="")
    if failed:
        raise UserError(
            f"{failed} of {len(runs)} runs failed", where="benchmark", remedy=f"{out / 'benchmark.md'} says why."
        )
    return 0


def _find_captures(options: argparse.Namespace) -> dict[str, Path]:
    """The capture folders by name. Raises UserError where one that was named is missing, or all are."""
    folder: Path | None = options.datasets
    if folder is None:
        if not options.kernels or options.ablate or options.captures:
            raise UserError(
                "no captures to measure", where="benchmark", expected="a folder DATASETS of captures, or --kernels"
            )
        return {}
    if not folder.is_dir():
        raise UserError("not a folder", where=str(folder), expected="a folder with one capture folder per name")
    present = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if options.captures is None:
        names = [name for name in CAPTURES if name in present]
        missing = [] if names else list(CAPTURES)
    else:
        names = [name for name in dict.fromkeys(options.captures.split(",")) if name]
        missing = [name for name in names if name not in present]
    if missing or not names:
        raise UserError(
            "no such capture" + ("s" if len(missing) > 1 else ""),
            where=str(folder),
            expected="a folder for each of " + ", ".join(missing or ["--captures"]),
            found=", ".join(present) or "no folders",
            remedy="Name with --captures those that are there.",
        )
    return {name: folder / name for name in names}


def _make_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write here ({error.strerror or error})", where=str(out), remedy="Choose another --out."
        ) from error
    return out.absolute()


def _measure(capture: Path, out: Path, switch: str, plan: Plan, console: Console) -> Figures:
    from ..benchmark.measure import measure

    job = out / "jobs" / (f"{capture.name}-without-{switch}" if switch else capture.name)
    return measure(capture, job, plan, console, [switch] if switch else [])


def _time_kernels(device: str, console: Console) -> list[dict[str, Any]]:
    import torch

    from ..kernels.timing import time_kernels

    timings = time_kernels(torch.device(device), progress=lambda text: console.update("kernels", text))
    console.done("kernels")
    return [asdict(timing) for timing in timings]


def _write(report: dict[str, Any], out: Path) -> None:
    """Replace benchmark.json and benchmark.md."""
    from ..benchmark.tables import render

    report["written"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    write_atomically(out / "benchmark.json", json.dumps(report, indent=2) + "\n")
    write_atomically(out / "benchmark.md", render(report))


def _in_short(figures: Figures) -> str:
    if "failed" in figures:
        return f"failed: {figures['failed']}"
    return f"{clock(figures['wall_seconds'])}, {figures['psnr']:.2f} dB"
