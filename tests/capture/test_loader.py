# SPDX-License-Identifier: GPL-3.0-or-later
"""From files to tensors: alpha, masks, sizes, lenses, and photographs that are damaged."""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from backend.capture import Camera, View, read_capture
from backend.capture.image_file import decode_mask, decode_photo, srgb_encoded
from backend.capture.loader import load_photos
from backend.errors import UserError
from tests.capture.builders import SIZE, disc, one_line, orbit_pose, save


def view_of(image: Path, mask: Path | None = None, size: tuple[int, int] = (SIZE, SIZE), name: str = "") -> View:
    camera = Camera(*size, 40.0, 41.0, size[0] / 2 + 1.0, size[1] / 2 - 1.0)
    return View(name or image.stem, image, camera, orbit_pose(0.3), mask)


def disc_views(folder: Path, n: int = 3) -> list[View]:
    return [view_of(save(disc(), folder / f"{i}.png")) for i in range(n)]


def opaque_view(folder: Path, name: str = "photo", mask: Path | None = None) -> View:
    return view_of(save(disc().convert("RGB"), folder / f"{name}.png"), mask)


def refused(views: list[View], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_photos(views)
    one_line(caught.value, *words)


def test_photos_are_what_the_files_hold(tmp_path):
    views = disc_views(tmp_path)
    photos = load_photos(views)
    assert photos.names == ("0", "1", "2") and len(photos) == 3
    assert photos.rgba.shape == (3, SIZE, SIZE, 4) and photos.rgba.dtype == torch.uint8
    np.testing.assert_array_equal(photos.rgba[1].numpy(), np.asarray(disc()))
    assert photos.valid is None and photos.has_masks and photos.masked.all()
    assert photos.intrinsics.tolist()[0] == [40.0, 41.0, 17.0, 15.0]
    np.testing.assert_allclose(photos.cam_to_world[2], orbit_pose(0.3), atol=1e-6)
    assert photos.sizes.tolist() == [[SIZE, SIZE]] * 3
    assert photos.exposures.isnan().all() and photos.warnings == ()


@pytest.mark.parametrize("indices", [[2, 0], torch.tensor([2, 0]), slice(0, 2)])
def test_color_alpha(tmp_path, indices):
    color, alpha = load_photos(disc_views(tmp_path)).color_alpha(indices)
    assert color.shape == (2, SIZE, SIZE, 3) and alpha.shape == (2, SIZE, SIZE, 1)
    assert color.dtype == alpha.dtype == torch.float32
    torch.testing.assert_close(color[0, 16, 16], torch.tensor([200.0, 100.0, 50.0]) / 255.0)
    assert alpha[0, 16, 16].item() == 1.0 and alpha[0, 0, 0].item() == 0.0


def test_shrinking_keeps_colors_at_the_silhouette(tmp_path):
    photos = load_photos(disc_views(tmp_path), max_size=11)
    assert photos.resolution == (11, 11)
    np.testing.assert_allclose(photos.intrinsics[0], np.array([40.0, 41.0, 17.0, 15.0]) * 11 / SIZE, rtol=1e-6)
    rgba = photos.rgba[0].numpy().astype(int)
    edge = (rgba[..., 3] > 8) & (rgba[..., 3] < 247)
    assert edge.any()
    assert np.abs(rgba[edge][:, :3] - [200, 100, 50]).max() <= 1
    area = np.asarray(disc().getchannel("A")).mean()
    assert abs(rgba[..., 3].mean() - area) < 0.5
    assert load_photos(disc_views(tmp_path), scale=0.5).resolution == (16, 16)


def test_sizes_that_differ_are_padded(tmp_path):
    views = [view_of(save(disc(size), tmp_path / f"{size}.png"), size=size) for size in ((20, 30), (40, 10))]
    photos = load_photos(views)
    assert photos.resolution == (30, 40) and photos.sizes.tolist() == [[30, 20], [10, 40]]
    assert photos.valid[0].sum() == 600 and photos.valid[0, :30, :20].all()
    assert photos.valid[1].sum() == 400 and photos.rgba[1, 10:].sum() == 0
    _, alpha = photos.color_alpha([0, 1])
    assert alpha[~photos.valid].sum() == 0


def test_masks_of_any_mode(tmp_path):
    mask = np.asarray(disc().getchannel("A")) > 0
    gray = Image.fromarray(mask.astype(np.uint8) * 255)
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 10, 10])
    modes = {
        "L": gray,
        "1": gray.convert("1"),
        "RGB": gray.convert("RGB"),
        "RGBA": disc(),
        "LA": Image.merge("LA", (gray, Image.new("L", gray.size, 255))),
        "P": palette,
        "labels": Image.fromarray(mask.astype(np.uint8)),
        "16": Image.fromarray(mask.astype(np.uint16) * 65535),
    }
    for name, image in modes.items():
        path = save(image, tmp_path / f"masks/{name}.png")
        np.testing.assert_array_equal(decode_mask(path), mask, err_msg=name)
        photos = load_photos([opaque_view(tmp_path, name, path)])
        np.testing.assert_array_equal(photos.rgba[0, ..., 3].numpy(), mask * 255, err_msg=name)
        assert photos.has_masks
    soft = save(Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)), tmp_path / "soft.png")
    assert decode_mask(soft).tolist() == [[False, False, True, True]]


def test_the_alpha_channel_goes_before_the_mask_file(tmp_path):
    other = save(disc(radius=0.1).getchannel("A"), tmp_path / "masks/m.png")
    cut_out = view_of(save(disc(), tmp_path / "a.png"), other)
    full = disc().convert("RGB").convert("RGBA")
    opaque = view_of(save(full, tmp_path / "b.png"), other)
    photos = load_photos([cut_out, opaque])
    np.testing.assert_array_equal(photos.rgba[0, ..., 3], np.asarray(disc().getchannel("A")))
    np.testing.assert_array_equal(photos.rgba[1, ..., 3], np.asarray(Image.open(other)))


def test_no_masks_at_all(tmp_path):
    full = disc().convert("RGB").convert("RGBA")
    photos = load_photos([opaque_view(tmp_path), view_of(save(full, tmp_path / "opaque_alpha.png"))])
    assert not photos.has_masks and not photos.masked.any()
    assert (photos.rgba[..., 3] == 255).all()


def test_some_masks_missing_or_empty(tmp_path):
    nothing = save(Image.new("RGBA", (SIZE, SIZE), (9, 9, 9, 0)), tmp_path / "nothing.png")
    photos = load_photos([*disc_views(tmp_path), opaque_view(tmp_path), view_of(nothing)])
    assert photos.masked.tolist() == [True, True, True, False, True]
    assert len(photos.warnings) == 2
    assert "nothing" in photos.warnings[0] and "photo" in photos.warnings[1]


def test_masks_that_are_all_empty(tmp_path):
    black = save(Image.new("L", (SIZE, SIZE)), tmp_path / "masks/black.png")
    refused([opaque_view(tmp_path, str(i), black) for i in range(3)], "all masks are empty", "black.png", "3 empty")


def test_damaged_photographs(tmp_path):
    views = disc_views(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    for name in ("cut.png", "cut.jpg", "cut.exr"):
        path = tmp_path / name
        if name == "cut.exr":
            write_exr(path, np.asarray(noise, np.float32))
        else:
            save(noise, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused([*views, view_of(path)], name, "damaged")
    (tmp_path / "gone.png").unlink(missing_ok=True)
    refused([*views, view_of(tmp_path / "gone.png")], "gone.png")
    (tmp_path / "text.png").write_text("this is not a picture")
    refused([*views, view_of(tmp_path / "text.png")], "text.png", "PNG, JPEG")


def test_a_mask_of_another_size(tmp_path):
    small = save(disc((16, 16)).getchannel("A"), tmp_path / "masks/small.png")
    refused([opaque_view(tmp_path, "photo", small)], "small.png", "32 x 32", "16 x 16")


def test_a_camera_of_another_shape(tmp_path):
    refused([view_of(save(disc(), tmp_path / "a.png"), size=(48, 32))], "a.png", "48 x 32", "32 x 32")
    doubled = view_of(save(disc(), tmp_path / "a.png"), size=(2 * SIZE, 2 * SIZE))
    assert load_photos([doubled]).intrinsics.tolist()[0] == [20.0, 20.5, 16.5, 15.5]


def write_exr(path: Path, color: np.ndarray, prefix: str = "", **channels: np.ndarray) -> Path:
    planes = {f"{prefix}{name}": np.ascontiguousarray(color[..., i]) for i, name in enumerate("RGB")}
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, planes | channels).write(str(path))
    return path


@pytest.mark.parametrize("prefix", ["", "ViewLayer.Combined."])
def test_exr_photographs_become_encoded(tmp_path, prefix):
    ramp = np.linspace(0.0, 1.5, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    alpha = np.full_like(ramp, 0.5)
    alpha[:, :4] = 0.0
    color = np.stack([ramp, ramp * 0.5, ramp * 0.25], axis=-1)
    layers = {f"{prefix}A": alpha, "ViewLayer.Normal.X": ramp}
    photos = load_photos([view_of(write_exr(tmp_path / "a.exr", color * alpha[..., None], prefix, **layers))])
    expected = srgb_encoded(color) * 255.0
    np.testing.assert_allclose(photos.rgba[0, :, 4:, :3].numpy(), expected[:, 4:], atol=0.51)
    np.testing.assert_array_equal(np.unique(photos.rgba[0, ..., 3].numpy()), [0, 128])
    assert photos.has_masks


def test_srgb_transfer_curve():
    values = [0.0, 0.0031308, 0.18, 0.5, 1.0, 4.0]
    np.testing.assert_allclose(srgb_encoded(np.array(values)), [0.0, 0.04045, 0.46135, 0.73536, 1.0, 1.0], atol=1e-5)


def test_png_of_16_bits_and_other_modes(tmp_path):
    gray = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 64
    rgba, has_alpha = decode_photo(save(Image.fromarray(gray), tmp_path / "16.png"))
    assert not has_alpha
    np.testing.assert_array_equal(rgba[..., 0], gray >> 8)
    for mode in ("L", "LA", "P", "CMYK", "1"):
        image = disc().convert("RGB").convert(mode)
        rgba, has_alpha = decode_photo(save(image, tmp_path / f"m.{'tif' if mode == 'CMYK' else 'png'}"))
        np.testing.assert_allclose(rgba[..., :3], np.asarray(image.convert("RGB")), atol=1)
        assert has_alpha == (mode == "LA")


def test_a_view_without_distortion_and_one_with_none_to_speak_of_agree(tmp_path):
    views = disc_views(tmp_path, 1)
    lens = replace(views[0], camera=replace(views[0].camera, distortion=(1e-9,)))
    photos = load_photos([views[0], lens])
    difference = (photos.rgba[0].int() - photos.rgba[1].int()).abs()[1:-1, 1:-1]
    assert difference[photos.rgba[0, 1:-1, 1:-1, 3] > 0].max() <= 1


def test_progress_counts_every_view_and_may_stop_the_work(tmp_path):
    views = disc_views(tmp_path, 5)
    seen: list[tuple[int, int]] = []
    load_photos(views, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_photos(views, progress=stop)


@pytest.mark.parametrize("scale", [0.0, 1.5, -1.0])
def test_scales_that_make_no_sense(tmp_path, scale):
    with pytest.raises(UserError):
        load_photos(disc_views(tmp_path), scale=scale)


def test_the_demo_loads_fast():
    capture = read_capture(Path("demo"))
    start = time.perf_counter()
    photos = load_photos(capture.split("train"))
    assert time.perf_counter() - start < 5.0  # 0.3 s on two free cores
    assert photos.has_masks and photos.valid is None and photos.warnings == ()


def test_the_device_is_the_one_asked_for(tmp_path, device):
    photos = load_photos(disc_views(tmp_path), device=device)
    assert photos.rgba.device.type == photos.intrinsics.device.type == photos.cam_to_world.device.type == device
    color, alpha = photos.color_alpha([1], device="cpu")
    assert color.device.type == alpha.device.type == "cpu"


@pytest.mark.parametrize("channels", [3, 4])
def test_png_of_16_bits_a_channel(tmp_path, channels):
    """Written by hand, as Pillow cannot."""
    values = np.random.default_rng(6).integers(0, 65536, (5, 7, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 7, 5, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path = tmp_path / "deep.png"
    path.write_bytes(file)
    rgba, has_alpha = decode_photo(path)
    assert has_alpha == (channels == 4)
    np.testing.assert_array_equal(rgba[..., :channels], values >> 8)
