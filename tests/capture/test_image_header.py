# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers read by us against the files that Pillow and OpenEXR write."""

from __future__ import annotations

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from backend.capture.image_header import read_image_header
from backend.errors import UserError
from tests.capture.builders import disc, one_line, save

CASES = [
    ("a.png", "RGBA", {}, True),
    ("b.png", "RGB", {}, False),
    ("c.png", "LA", {}, True),
    ("d.png", "P", {"transparency": 0}, True),
    ("e.jpg", "RGB", {}, False),
    ("f.jpg", "RGB", {"progressive": True, "quality": 50}, False),
    ("g.tif", "RGB", {}, False),
    ("h.tif", "RGBA", {"compression": "tiff_lzw"}, True),
    ("i.webp", "RGB", {}, False),
    ("j.webp", "RGBA", {}, True),
    ("k.webp", "RGBA", {"lossless": True}, True),
]


@pytest.mark.parametrize(("name", "mode", "options", "alpha"), CASES, ids=[case[0] for case in CASES])
def test_size_and_alpha(tmp_path, name, mode, options, alpha):
    image = disc((37, 21))
    image = image.convert("RGB").convert(mode) if mode == "P" else image.convert(mode)
    header = read_image_header(save(image, tmp_path / name, **options))
    assert (header.width, header.height, header.alpha, header.orientation) == (37, 21, alpha, 1)


@pytest.mark.parametrize("alpha", [False, True])
def test_exr(tmp_path, alpha):
    planes = {name: np.zeros((21, 37), np.float32) for name in ("RGBA" if alpha else "RGB")}
    path = tmp_path / "a.exr"
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, planes).write(str(path))
    header = read_image_header(path)
    assert (header.width, header.height, header.alpha) == (37, 21, alpha)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_orientation(tmp_path, name):
    image = Image.new("RGB", (37, 21))
    exif = image.getexif()
    exif[0x0112] = 8
    header = read_image_header(save(image, tmp_path / name, exif=exif))
    assert (header.width, header.height, header.orientation) == (37, 21, 8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_every_cut_is_one_clear_line_or_a_header(tmp_path, name):
    content = save(disc((37, 21)).convert("RGB"), tmp_path / name).read_bytes()
    path = tmp_path / f"cut_{name}"
    for length in range(0, min(len(content), 700), 7):
        path.write_bytes(content[:length])
        try:
            header = read_image_header(path)
            assert (header.width, header.height) == (37, 21)
        except UserError as error:
            one_line(error, path.name)
