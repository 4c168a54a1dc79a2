# SPDX-License-Identifier: GPL-3.0-or-later
"""Small captures made on the spot."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from backend.errors import UserError

SIZE = 32
ANGLE = 0.7


def orbit_pose(angle: float, distance: float = 4.0, height: float = 1.0) -> np.ndarray:
    """A camera on a circle around the z axis, looking at the origin; [4, 4], OpenGL axes."""
    center = np.array([distance * math.cos(angle), distance * math.sin(angle), height])
    back = center / np.linalg.norm(center)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, center], axis=-1)
    return pose


def disc(size: tuple[int, int] = (SIZE, SIZE), radius: float = 0.3) -> Image.Image:
    """RGBA: a colored disc in the middle of a transparent picture."""
    width, height = size
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    reach = radius * min(size)
    ImageDraw.Draw(image).ellipse(
        (width / 2 - reach, height / 2 - reach, width / 2 + reach, height / 2 + reach), fill=(200, 100, 50, 255)
    )
    return image


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def transforms(n: int = 6, **top: Any) -> dict[str, Any]:
    """A transforms.json for ``n`` views on a circle, images/0.png and so on."""
    frames = [
        {"file_path": f"images/{i}.png", "transform_matrix": orbit_pose(2.0 * math.pi * i / n).tolist()}
        for i in range(n)
    ]
    return {"camera_angle_x": ANGLE, "frames": frames, **top}


def write_transforms(
    folder: Path, data: dict[str, Any], name: str = "transforms.json", image: Image.Image | None = None
) -> Path:
    """Write the JSON file and an image for each frame that has none; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in data["frames"]:
        path = folder / frame["file_path"]
        if not path.is_file():
            save(image or disc(), path if path.suffix else path.with_suffix(".png"))
    file = folder / name
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


def one_line(error: UserError, *words: str) -> None:
    """The error reads as one line, not too long, and holds the words."""
    line = str(error)
    assert "\n" not in line
    assert len(line) < 500
    for word in words:
        assert word in line, f"{word!r} is not in {line!r}"
