# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from backend.errors import UserError
from backend.export import textures

from .shapes import checker, compass


def test_srgb_is_the_standard_curve_and_inverts():
    linear = np.linspace(0, 1, 1001)
    encoded = textures.srgb_from_linear(linear)
    assert textures.srgb_from_linear(np.array([0.5])) == pytest.approx(0.735357, abs=1e-6)
    assert encoded[1] == pytest.approx(0.001 * 12.92)
    assert np.abs(textures.linear_from_srgb(encoded) - linear).max() < 1e-6
    assert textures.srgb_from_linear(linear.astype(np.float32)).dtype == np.float32


def test_every_byte_survives_decoding_and_encoding():
    bytes_ = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, 2)
    linear = textures.linear_from_srgb(bytes_.astype(np.float32) / np.float32(255))
    assert (textures.base_color_bytes(linear) == bytes_).all()


def test_orm_channels():
    orm = textures.orm_bytes(np.full((2, 3), 0.5, np.float32), np.full((2, 3), 1.0, np.float32))
    assert orm.shape == (2, 3, 3) and (orm == [255, 128, 255]).all()


def test_normals_survive_within_a_byte():
    directions = np.random.default_rng(0).normal(size=(32, 32, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    again = textures.normals_from_bytes(textures.normal_bytes(directions))
    assert np.degrees(np.arccos(np.clip((again * directions).sum(-1), -1, 1))).max() < 0.5


@pytest.mark.parametrize("size", [64, 1100])
def test_png_is_lossless(size: int):
    pixels = textures.base_color_bytes(checker(size))
    file = textures.encode_png(pixels)
    assert (np.asarray(Image.open(io.BytesIO(file))) == pixels).all()
    assert (textures.decode_png(file, "a.png") == pixels).all()


def test_a_damaged_png_is_named():
    file = textures.encode_png(textures.base_color_bytes(checker(32)))
    for data in (b"", b"nonsense", file[: len(file) // 2]):
        with pytest.raises(UserError, match="a.png: cannot decode"):
            textures.decode_png(data, "a.png")


def test_exr_keeps_floats_and_orientation(tmp_path: Path):
    light = compass() * np.float32(1e6)  # beyond half floats
    textures.write_exr(tmp_path / "light.exr", light)
    assert (textures.read_exr(tmp_path / "light.exr") == light).all()
    with OpenEXR.File(str(tmp_path / "light.exr"), separate_channels=True) as file:
        assert set(file.channels()) == {"R", "G", "B"}
        assert file.channels()["B"].pixels.dtype == np.float32


def test_exr_with_one_channel_is_gray(tmp_path: Path):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"Y": np.ones((2, 4), np.float16)}) as file:
        file.write(str(tmp_path / "gray.exr"))
    assert textures.read_exr(tmp_path / "gray.exr").shape == (2, 4, 3)


def test_unreadable_exr_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match="missing.exr.*no such file"):
        textures.read_exr(tmp_path / "missing.exr")
    (tmp_path / "broken.exr").write_bytes(b"v/1\x01 nothing more")
    with pytest.raises(UserError, match="broken.exr: cannot read"):
        textures.read_exr(tmp_path / "broken.exr")
    textures.write_exr(tmp_path / "cut.exr", compass())
    (tmp_path / "cut.exr").write_bytes((tmp_path / "cut.exr").read_bytes()[:400])
    with pytest.raises(UserError, match="cut.exr: cannot read"):
        textures.read_exr(tmp_path / "cut.exr")
