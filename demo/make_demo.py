# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the demo capture from a larger one: python demo/make_demo.py SOURCE [--size 200] [--views 64] [--out demo]

Takes every test view, and train views at even steps, shrinks them as the loader does (box filter, colors weighted by
alpha, as encoded), and writes RGBA PNG with NeRF-style transforms files.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from backend.capture import View, read_capture
from backend.capture.masks import decode_view
from backend.capture.resample import shrunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--size", type=int, default=200, help="pixels of the longer side")
    parser.add_argument("--views", type=int, default=64, help="train views to keep")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    capture = read_capture(options.source)
    train, test = capture.split("train"), capture.split("test")
    steps = np.linspace(0, len(train), min(options.views, len(train)), endpoint=False).astype(int)
    for split, views in (("train", [train[step] for step in steps]), ("test", test)):
        write_split(split, views, options.size, options.out)


def write_split(split: str, views: list[View] | tuple[View, ...], size: int, out: Path) -> None:
    """Write the images of one split and its transforms file."""
    (out / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for view in views:
        rgba, _ = decode_view(view)
        factor = min(1.0, size / max(rgba.shape[:2]))
        width, height = round(rgba.shape[1] * factor), round(rgba.shape[0] * factor)
        small, _ = shrunk(rgba, width, height)
        small[small[..., 3] == 0] = 0  # hidden colors only cost bytes
        Image.fromarray(small, "RGBA").save(out / split / f"{Path(view.name).name}.png", optimize=True)
        pose = [[round(value, 7) + 0.0 for value in row] for row in view.cam_to_world.tolist()]
        frames.append({"file_path": f"./{split}/{Path(view.name).name}", "transform_matrix": pose})
    camera = views[0].camera
    header = {"camera_angle_x": 2.0 * math.atan(0.5 * camera.width / camera.fx), "w": width, "h": height}
    lines = ",\n".join("  " + json.dumps(frame) for frame in frames)
    text = json.dumps(header)[:-1] + f',\n "frames": [\n{lines}\n ]\n}}\n'
    (out / f"transforms_{split}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
