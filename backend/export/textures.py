# SPDX-License-Identifier: GPL-3.0-or-later
"""Textures as files: the sRGB curve, PNG encoding of base color, ORM and normal map, and OpenEXR environments."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import OpenEXR
from PIL import Image

from ..errors import UserError
from .asset import Asset, FloatArray

ByteArray = npt.NDArray[np.uint8]
Floating = TypeVar("Floating", bound=np.floating)

FAST_PNG_PIXELS = 1024 * 1024
"""Above this many pixels PNGs are packed lightly: level 6 takes several times as long for a tenth less space."""


def srgb_from_linear(linear: npt.NDArray[Floating]) -> npt.NDArray[Floating]:
    """IEC 61966-2-1 encoding of linear Rec.709 values; clips to 0..1."""
    x = np.clip(linear, 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055).astype(x.dtype)


def linear_from_srgb(encoded: npt.NDArray[Floating]) -> npt.NDArray[Floating]:
    """Inverse of `srgb_from_linear` on 0..1."""
    x = encoded
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4).astype(x.dtype)


def quantize(values: npt.NDArray[np.floating]) -> ByteArray:
    """0..1 to 0..255, rounded to nearest."""
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def base_color_bytes(base_color: FloatArray) -> ByteArray:
    """Linear base color [H, W, 3] as 8-bit sRGB [H, W, 3]."""
    return quantize(srgb_from_linear(base_color))


def orm_bytes(roughness: FloatArray, metallic: FloatArray) -> ByteArray:
    """Occlusion (none: 1), roughness and metallic [H, W] in the channels of one picture [H, W, 3], as glTF has them."""
    return np.stack([np.full(roughness.shape, 255, np.uint8), quantize(roughness), quantize(metallic)], axis=-1)


def normal_bytes(normal_map: FloatArray) -> ByteArray:
    """Unit vectors [H, W, 3] as 8-bit 0.5 + 0.5 n [H, W, 3]."""
    return quantize(normal_map * 0.5 + 0.5)


def normals_from_bytes(encoded: ByteArray) -> FloatArray:
    """Inverse of `normal_bytes`, normalized: [H, W, 3] uint8 to unit float32."""
    vectors = encoded.astype(np.float32) * np.float32(2 / 255) - 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def encode_png(pixels: ByteArray) -> bytes:
    """PNG file of 8-bit pixels [H, W, 3 or 4] or [H, W]."""
    stream = io.BytesIO()
    level = 6 if pixels.shape[0] * pixels.shape[1] <= FAST_PNG_PIXELS else 3
    Image.fromarray(pixels).save(stream, "PNG", compress_level=level)
    return stream.getvalue()


def decode_png(data: bytes, where: str) -> ByteArray:
    """8-bit RGB pixels [H, W, 3] of a PNG or JPEG file. `where` names it in the UserError raised if it is damaged."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            what="cannot decode this texture", where=where, expected="a PNG or JPEG image", found=str(error)
        ) from error


def encode_textures(asset: Asset) -> dict[str, bytes]:
    """The PNG files of an asset: keys "BaseColor", "ORM", "Normal"."""
    pixels = {
        "BaseColor": base_color_bytes(asset.base_color),
        "ORM": orm_bytes(asset.roughness, asset.metallic),
        "Normal": normal_bytes(asset.normal_map),
    }
    with ThreadPoolExecutor(len(pixels)) as pool:  # compression leaves Python's lock
        return dict(zip(pixels, pool.map(encode_png, pixels.values()), strict=True))


def write_exr(path: Path, pixels: FloatArray) -> None:
    """Write [h, w, 3] float32 as a ZIP-compressed OpenEXR picture with channels R, G, B, row 0 at the top.

    Raises OSError where the file cannot be written whole.
    """
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    try:
        with OpenEXR.File(header, {"RGB": np.ascontiguousarray(pixels, np.float32)}) as file:
            file.write(str(path))
    except RuntimeError as error:  # what the OpenEXR library makes of every failed system call
        raise OSError(f"{error}") from error


def read_exr(path: Path) -> FloatArray:
    """[h, w, 3] float32 of an OpenEXR picture's R, G, B channels (or its only channel, three times).

    Raises UserError where the file is missing, damaged or holds no color.
    """
    expected = "an OpenEXR picture with channels R, G, B"
    try:
        with OpenEXR.File(str(path)) as file:
            channels = {name: channel.pixels for name, channel in file.parts[0].channels.items()}
    except Exception as error:  # the binding raises bare RuntimeError, TypeError and others for damaged files
        found = "no such file" if not path.exists() else str(error).splitlines()[0]
        raise UserError(what="cannot read this picture", where=str(path), expected=expected, found=found) from error
    for name in ("RGB", "RGBA"):
        if name in channels:
            return np.ascontiguousarray(channels[name][..., :3], np.float32)
    if len(channels) == 1:
        (gray,) = channels.values()
        return np.repeat(np.asarray(gray, np.float32)[..., None], 3, axis=-1)
    found = f"channels {', '.join(sorted(channels)) or 'none'}"
    raise UserError(what="this picture holds no color", where=str(path), expected=expected, found=found)
