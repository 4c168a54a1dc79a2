# SPDX-License-Identifier: GPL-3.0-or-later
"""What a capture is, whatever file it came from.

World: right-handed, Z up. Cameras look along their −z, x right, y up. Pixels: origin at the image's top-left corner,
centers at +0.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with OpenCV distortion; all lengths in pixels of a ``width`` × ``height`` image."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    """k1, k2, p1, p2, k3, k4, k5, k6 as OpenCV has them; shorter is padded with zeros, empty is none."""

    @property
    def distorted(self) -> bool:
        """Whether a straight line in the world is not straight in the image."""
        return any(value != 0.0 for value in self.distortion)

    def matrix(self) -> np.ndarray:
        """The intrinsic matrix K, [3, 3] float64, for camera axes x right, y down, z forward."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same camera for the same picture at another resolution."""
        x, y = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)

    def undistorted(self) -> Camera:
        """The same camera without its distortion."""
        return replace(self, distortion=())


@dataclass(frozen=True, eq=False)
class View:
    """One photograph: where its files are, which camera took it, from where."""

    name: str
    """Unique in the capture; may hold forward slashes (``train/r_000``)."""
    image: Path
    camera: Camera
    cam_to_world: np.ndarray
    """[4, 4] float64, a rigid motion."""
    mask: Path | None = None
    split: str = "train"
    exposure: float | None = None
    """Stops (EV) to add to the world's radiance to get this photograph's; None is not known."""
    normal_map: Path | None = None
    albedo_map: Path | None = None

    @property
    def center(self) -> np.ndarray:
        """Where the camera stands, [3] float64, world."""
        return self.cam_to_world[:3, 3]

    @property
    def forward(self) -> np.ndarray:
        """Where it looks, unit [3] float64, world."""
        return -self.cam_to_world[:3, 2]


@dataclass(frozen=True, eq=False)
class Capture:
    """A list of views, and what is known about the scene besides."""

    root: Path
    """The folder that the capture's relative paths start from."""
    views: tuple[View, ...]
    format: str
    """``capture.json``, ``transforms.json`` or ``COLMAP``."""
    bounds: np.ndarray | None = None
    """[2, 3] float64, world: lowest and highest corner of the region to reconstruct."""
    environment: Path | None = None
    """A lat-long image to start the light from."""
    warnings: tuple[str, ...] = ()
    """What the reader had to drop, mend or guess; one line each, for the user's eyes."""

    def split(self, name: str) -> tuple[View, ...]:
        """The views of one split, in the order of the file."""
        return tuple(view for view in self.views if view.split == name)


def mean_exposure(views: Iterable[View]) -> float:
    """Mean of the exposures that the training views among these state, stops; 0 where none does.

    It is that of the light which a reconstruction finds, so that it reproduces the photographs as it is.
    """
    stated = [view.exposure for view in views if view.split == "train" and view.exposure is not None]
    return sum(stated) / len(stated) if stated else 0.0
