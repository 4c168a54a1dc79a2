# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a benchmark as Markdown tables that read well as plain text too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .measure import Figures

NOTHING = "–"
FAILED = "failed: "
GIGABYTE = 1e9

# key, title, digits after the point
QUALITY = (
    ("views", "held-out views", 0),
    ("psnr", "PSNR, dB", 2),
    ("ssim", "SSIM", 4),
    ("flat_color_psnr", "PSNR of one flat color, dB", 2),
    ("chamfer_pct_diag", "Chamfer distance, % of diagonal", 3),
    ("normal_deg", "normal error, degrees", 2),
    ("base_color_psnr_aligned", "base color PSNR, aligned, dB", 2),
    ("base_color_psnr", "base color PSNR, dB", 2),
    ("roughness_rmse", "roughness RMSE", 3),
    ("metallic_iou", "metallic IoU at 0.5", 3),
    ("relight_psnr_aligned", "relighting PSNR, aligned, dB", 2),
    ("relight_psnr", "relighting PSNR, dB", 2),
    ("environment_error", "environment error", 3),
)
COMPARED = (
    ("psnr", "PSNR, dB", 2),
    ("relight_psnr_aligned", "relighting PSNR, aligned, dB", 2),
    ("base_color_psnr_aligned", "base color PSNR, aligned, dB", 2),
    ("metallic_iou", "metallic IoU at 0.5", 3),
    ("wall_seconds", "wall time, s", 1),
)


def render(report: Mapping[str, Any]) -> str:
    """All tables of a benchmark.json that has any."""
    parts = []
    captures, ablation = report["captures"], report["ablation"]
    if captures:
        parts.append(capture_table(captures))
    if ablation:
        parts.append(
            "Differences that turning off a part of the method makes:\n\n" + ablation_table(captures, ablation)
        )
    if report["kernels"]:
        parts.append(kernel_table(report["kernels"]))
    return "\n\n".join(parts) + "\n"


def capture_table(captures: Mapping[str, Figures]) -> str:
    """One column a capture, one row a figure."""
    runs = list(captures.values())
    rows = [["outcome", *(FAILED + run["failed"] if "failed" in run else "done" for run in runs)]]

    def add(title: str, values: Iterable[float | None], digits: int) -> None:
        rows.append([title, *(number(value, digits) for value in values)])

    add("wall time, s", (run.get("wall_seconds") for run in runs), 1)
    for kind, title, digits in (("seconds", "{}, s", 1), ("steps_per_second", "{}, steps/s", 1)):
        for stage in dict.fromkeys(stage for run in runs for stage in run.get(kind, {})):
            add(title.format(stage), (run.get(kind, {}).get(stage) for run in runs), digits)
    for key, title in (
        ("peak_gpu_memory_bytes", "peak GPU memory, GB"),
        ("peak_cpu_memory_bytes", "peak CPU memory, GB"),
    ):
        sizes = [run.get(key) for run in runs]
        add(title, (None if size is None else size / GIGABYTE for size in sizes), 2)
    for key, title, digits in QUALITY:
        add(title, (run.get(key) for run in runs), digits)
    return table(["", *captures], rows)


def ablation_table(captures: Mapping[str, Figures], ablation: Mapping[str, Mapping[str, Figures]]) -> str:
    """One row for each capture and switch: the figures without it minus those with it."""
    rows = []
    for capture, runs in ablation.items():
        for switch, run in runs.items():
            cells = [_difference(run.get(key), captures[capture].get(key), digits) for key, _, digits in COMPARED]
            if "failed" in run:
                cells[0] = FAILED + run["failed"]
            rows.append([capture, f"without {switch}", *cells])
    return table(["capture", "", *(title for _, title, _ in COMPARED)], rows, words=2)


def kernel_table(kernels: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of each kernel, ours beside nvdiffrast's; a ratio above 1 says that ours is faster.

    Ours are called one by one, as nvdiffrast's are, and repeated as a recorded CUDA graph, as a reconstruction does.
    """
    rows = []
    for timing in kernels:
        times = [timing["milliseconds"], timing["recorded_milliseconds"]]
        theirs = timing["nvdiffrast_milliseconds"]
        ratios = [None if theirs is None or ours is None else theirs / ours for ours in times]
        cells = [number(time, 3) for time in (*times, theirs)] + [number(ratio, 2) for ratio in ratios]
        rows.append([timing["what"], str(timing["triangles"]), *cells])
    heads = ["ours, ms", "recorded, ms", "nvdiffrast, ms", "ratio", "recorded, ratio"]
    return table(["kernels", "triangles", *heads], rows)


def _difference(without: float | None, value: float | None, digits: int) -> str:
    return NOTHING if without is None or value is None else f"{without - value:+.{digits}f}"


def number(value: float | None, digits: int) -> str:
    """A figure as the tables show it."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A Markdown table whose first `words` columns stand on the left and the others on the right.

    What failed may overhang: its line is too long to make room for.
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (heads, *rows)]
    lengths = [[0 if cell.startswith(FAILED) else len(cell) for cell in line] for line in lines]
    widths = [max(3, *column) for column in zip(*lengths)]

    def row(cells: Sequence[str]) -> str:
        sides = [cell.ljust(w) if i < words else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(sides) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < words else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])
