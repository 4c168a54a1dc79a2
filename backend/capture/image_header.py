# SPDX-License-Identifier: GPL-3.0-or-later
"""Size, alpha and orientation of an image file from its first bytes, with the standard library only.

Blender's Python has no Pillow, and a reader that checks hundreds of photographs must not decode them.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of an image file tell."""

    width: int
    height: int
    alpha: bool
    """Whether it has an alpha channel; whether that says anything is another question."""
    format: str
    orientation: int = 1
    """The EXIF tag: 1 upright, 3, 6, 8 rotated, the even ones below 5 and the others mirrored too."""


def read_image_header(path: Path) -> ImageHeader:
    """Read the header of a PNG, JPEG, OpenEXR, TIFF or WebP file; raises UserError where it is none of them."""
    try:
        with path.open("rb") as file:
            magic = file.read(12)
            file.seek(0)
            if magic.startswith(b"\x89PNG\r\n\x1a\n"):
                return _png(file)
            if magic.startswith(b"\xff\xd8"):
                return _jpeg(file)
            if magic.startswith(b"\x76\x2f\x31\x01"):
                return _exr(file)
            if magic[:4] in (b"II*\x00", b"MM\x00*"):
                # the directory may stand at the very end of a large file
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _tiff(data)
            if magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
                return _webp(file)
    except OSError as error:
        raise UserError(f"the image cannot be opened ({error.strerror})", str(path)) from error
    except (struct.error, IndexError, KeyError, ValueError, OverflowError) as error:
        raise UserError(
            "the image is damaged in its header", str(path), remedy="Copy or export it again, or remove its view."
        ) from error
    found = "an empty file" if not magic else f"a file that starts with {magic[:8]!r}"
    raise UserError("not an image that can be read", str(path), "PNG, JPEG, OpenEXR, TIFF or WebP", found)


def _png(file: BinaryIO) -> ImageHeader:
    file.seek(16)
    width, height, _depth, color = struct.unpack(">IIBB", file.read(10))
    alpha = color in (4, 6)
    file.seek(33)
    while not alpha:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND"):
            break
        alpha = kind == b"tRNS"
        file.seek(length + 4, 1)
    return ImageHeader(width, height, alpha, "PNG")


def _jpeg(file: BinaryIO) -> ImageHeader:
    orientation = 1
    file.seek(2)
    while True:
        byte = file.read(1)
        if byte != b"\xff":
            raise ValueError
        while byte == b"\xff":
            byte = file.read(1)
        marker = byte[0]
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _depth, height, width = struct.unpack(">BHH", file.read(5))
            return ImageHeader(width, height, False, "JPEG", orientation)
        if marker == 0xE1:
            data = file.read(length - 2)
            if data.startswith(b"Exif\x00\x00"):
                try:
                    orientation = _tiff_tags(data[6:]).get(_ORIENTATION, 1)
                except (struct.error, KeyError, ValueError):
                    pass  # broken EXIF is common and harmless
        else:
            file.seek(length - 2, 1)


def _exr(file: BinaryIO) -> ImageHeader:
    file.seek(8)  # magic and version; of several parts the first one counts
    size: tuple[int, int] | None = None
    alpha = False
    while True:
        name = _c_string(file)
        if not name:
            break
        _c_string(file)
        (length,) = struct.unpack("<I", file.read(4))
        value = file.read(length)
        if name == b"displayWindow":
            left, top, right, bottom = struct.unpack("<4i", value)
            size = (right - left + 1, bottom - top + 1)
        elif name == b"channels":
            alpha = any(entry == b"A" or entry.endswith(b".A") for entry in _exr_channels(value))
    if size is None or min(size) < 1:
        raise ValueError
    return ImageHeader(size[0], size[1], alpha, "OpenEXR")


def _exr_channels(value: bytes) -> list[bytes]:
    names, start = [], 0
    while value[start] != 0:
        end = value.index(b"\x00", start)
        names.append(value[start:end])
        start = end + 17
    return names


def _c_string(file: BinaryIO) -> bytes:
    text = bytearray()
    while (byte := file.read(1)) != b"\x00":
        if not byte or len(text) > 255:
            raise ValueError
        text += byte
    return bytes(text)


def _tiff_tags(data: bytes | mmap.mmap) -> dict[int, int]:
    """The first directory's whole-number tags (their first value)."""
    order = {b"II": "<", b"MM": ">"}[data[:2]]
    (offset,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, offset)
    tags = {}
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if kind == 3:
            (tags[tag],) = struct.unpack_from(order + "H", data, entry + 8)
        elif kind == 4:
            (tags[tag],) = struct.unpack_from(order + "I", data, entry + 8)
    return tags


def _tiff(data: bytes | mmap.mmap) -> ImageHeader:
    tags = _tiff_tags(data)
    alpha = tags.get(277, 1) in (2, 4)
    return ImageHeader(tags[256], tags[257], alpha, "TIFF", tags.get(_ORIENTATION, 1))


def _webp(file: BinaryIO) -> ImageHeader:
    data = file.read(34)
    if data[12:16] == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        return ImageHeader(width, height, bool(data[20] & 0x10), "WebP")
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return ImageHeader(1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF), bool(bits >> 28 & 1), "WebP")
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return ImageHeader(width & 0x3FFF, height & 0x3FFF, False, "WebP")
    raise ValueError
