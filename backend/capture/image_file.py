# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding photographs and masks into arrays; needs Pillow and OpenEXR."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image, UnidentifiedImageError

from ..errors import UserError


def decode_photo(path: Path) -> tuple[np.ndarray, bool]:
    """Decode a photograph.

    Returns ([H, W, 4] uint8 sRGB-encoded with straight alpha, top row first; whether the file has an alpha channel).
    OpenEXR counts as linear with premultiplied alpha; 16-bit values keep their high byte. EXIF rotation is ignored.
    Raises UserError where the file is unreadable or truncated.
    """
    if path.suffix.lower() == ".exr":
        return _from_linear(*_decode_exr(path))
    with _opened(path) as image:
        if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
            gray = (np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8).astype(np.uint8)
            return _with_alpha(np.repeat(gray[..., None], 3, axis=-1), None)
        if image.mode == "F":
            gray = np.asarray(image)[..., None]
            return _from_linear(np.repeat(gray, 3, axis=-1), None)
        if image.has_transparency_data:
            return np.array(image.convert("RGBA")), True
        return np.array(image.convert("RGB").convert("RGBA")), False


def decode_mask(path: Path) -> np.ndarray:
    """Decode a mask file of any mode: [H, W] bool, true where the alpha, or else the luminance, is above one half.

    An alpha channel that is the same everywhere says nothing; whole numbers up to 1 count as 0 and 1.
    Raises UserError as ``decode_photo``.
    """
    if path.suffix.lower() == ".exr":
        color, alpha = _decode_exr(path)
        informative = _informative(alpha)
        return np.asarray((color.mean(axis=-1) if informative is None else informative) > 0.5)
    with _opened(path) as image:
        if image.has_transparency_data:
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            if _informative(alpha) is not None:
                return alpha > 127
        if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
            values = np.asarray(image).astype(np.float32)
            limit = {"1": 1.0, "L": 255.0, "F": 1.0}.get(image.mode, 65535.0)
        else:
            values = np.asarray(image.convert("L")).astype(np.float32)
            limit = 255.0
            if image.mode == "P" and (indices := np.asarray(image)).max() <= 1:
                return indices > 0
    return values > 0.5 * (1.0 if values.max() <= 1.0 else limit)


def _informative(alpha: np.ndarray | None) -> np.ndarray | None:
    return alpha if alpha is not None and alpha.min() != alpha.max() else None


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except FileNotFoundError as error:
        raise UserError("the image is missing", str(path)) from error
    except UnidentifiedImageError as error:
        raise UserError("not an image that can be read", str(path), "PNG, JPEG, OpenEXR, TIFF or WebP") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(
            "the image is damaged",
            str(path),
            found=str(error).rstrip("."),
            remedy="Copy or export it again, or remove its view.",
        ) from error
    return image


def _decode_exr(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Linear color [H, W, 3] float32 and alpha [H, W] float32 or None of the display window.

    Of several layers the one without a name goes first, then the one called Combined, then the first that has colors.
    """
    layers: dict[str, dict[str, np.ndarray]] = {}
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            for part in file.parts:
                window, display = part.header["dataWindow"], part.header["displayWindow"]
                for name, channel in part.channels.items():
                    layer, _, letter = name.rpartition(".")
                    plane = _windowed(np.asarray(channel.pixels, dtype=np.float32), window, display)
                    layers.setdefault(layer, {}).setdefault(letter.upper(), plane)
    except Exception as error:  # the package raises plain RuntimeErrors, and TypeErrors on some broken files
        raise UserError(
            "the image is damaged or not OpenEXR", str(path), found=str(error), remedy="Export it again."
        ) from error
    for letters in ("RGB", "Y", "V"):
        colored = [layer for layer, planes in layers.items() if all(letter in planes for letter in letters)]
        if colored:
            chosen = layers[min(colored, key=lambda layer: (layer != "", not layer.endswith("Combined")))]
            color = np.stack([chosen[letters[index % len(letters)]] for index in range(3)], axis=-1)
            return color, chosen.get("A")
    raise UserError("the image has no color", str(path), "channels R, G, B or Y", ", ".join(layers) or "none")


def _windowed(plane: np.ndarray, window: tuple, display: tuple) -> np.ndarray:
    """Pixels of the data window placed in the display window."""
    (left, top), (right, bottom) = display
    if np.array_equal(window, display):
        return plane
    (start_x, start_y), (end_x, end_y) = window
    result = np.zeros((bottom - top + 1, right - left + 1), np.float32)
    x0, y0 = max(left, start_x), max(top, start_y)
    x1, y1 = min(right, end_x) + 1, min(bottom, end_y) + 1
    if x0 < x1 and y0 < y1:
        result[y0 - top : y1 - top, x0 - left : x1 - left] = plane[
            y0 - start_y : y1 - start_y, x0 - start_x : x1 - start_x
        ]
    return result


def _from_linear(color: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, bool]:
    color = np.nan_to_num(color, posinf=1.0, neginf=0.0)
    if alpha is not None:
        alpha = np.clip(np.nan_to_num(alpha), 0.0, 1.0)
        color = color / np.maximum(alpha, 1e-6)[..., None]
    return _with_alpha(quantized(srgb_encoded(color)), None if alpha is None else quantized(alpha))


def _with_alpha(color: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, bool]:
    rgba = np.empty((*color.shape[:2], 4), np.uint8)
    rgba[..., :3] = color
    rgba[..., 3] = 255 if alpha is None else alpha
    return rgba, alpha is not None


def srgb_encoded(linear: np.ndarray) -> np.ndarray:
    """Linear values, clipped to 0…1, under the sRGB transfer curve (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.power(linear, 1.0 / 2.4) - 0.055)


def quantized(values: np.ndarray) -> np.ndarray:
    """0…1 to the nearest uint8."""
    return (np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
