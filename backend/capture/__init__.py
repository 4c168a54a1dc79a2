# SPDX-License-Identifier: GPL-3.0-or-later
"""Photographs with cameras: the model and its readers. Needs numpy only; ``loader`` and ``inspect`` need more."""

from .capture_json import write_capture_json
from .model import Camera, Capture, View
from .reader import read_capture

__all__ = ["Camera", "Capture", "View", "read_capture", "write_capture_json"]
