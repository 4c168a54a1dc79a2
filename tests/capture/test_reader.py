# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file of a folder is read, what is said where there is none, and what the readers may import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend.capture import read_capture, write_capture_json
from backend.errors import UserError
from tests.capture.builders import disc, one_line, save, transforms, write_transforms


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_capture(path)
    one_line(caught.value, str(path), *words)


def test_native_captures_go_first(tmp_path):
    write_transforms(tmp_path, transforms())
    assert read_capture(tmp_path).format == "transforms.json"
    write_capture_json(read_capture(tmp_path), tmp_path)
    assert read_capture(tmp_path).format == "capture.json"


def test_the_only_capture_under_another_name_is_found(tmp_path):
    write_transforms(tmp_path, transforms(), "poses.json")
    (tmp_path / "settings.json").write_text('{"preset": "draft"}')
    assert len(read_capture(tmp_path).views) == 6
    write_transforms(tmp_path, transforms(), "poses_refined.json")
    refused(tmp_path, "poses.json", "poses_refined.json", "Give the file")


def test_folders_without_a_capture(tmp_path):
    refused(tmp_path / "nowhere", "no such capture")
    refused(tmp_path, "empty folder", "transforms.json")
    save(disc(), tmp_path / "photo.png")
    refused(tmp_path, "1 image", "solve")
    refused(tmp_path / "photo.png", "image is not a capture")
    (tmp_path / "package.json").write_text('{"name": "something", "version": "1.0"}')
    refused(tmp_path, "package.json")
    refused(tmp_path / "package.json", "not a capture", "name, version")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"frames": [\n  {"a": 1,,}]}', ("broken JSON", "line 2", "column 11")),
        (b"", ("broken JSON", "empty")),
        (b"\x89PNG\r\n\xff\xfe", ("not a text file",)),
        (b"[1, 2, 3]", ("not a capture", "list of 3")),
        (b'"hello"', ("not a capture", "hello")),
        (b"{}", ("not a capture", "empty object")),
        (b"[" * 100000, ("broken JSON",)),
    ],
)
def test_files_that_are_no_capture(tmp_path, content, words):
    file = tmp_path / "transforms.json"
    file.write_bytes(content)
    refused(file, *words)
    with pytest.raises(UserError) as caught:
        read_capture(tmp_path)
    one_line(caught.value, *words)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    file = write_transforms(tmp_path, transforms())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(read_capture(file).views) == 6


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", ("empty file",)), (b"GIF89a....", ("PNG, JPEG",)), (b"\x89PNG\r\n\x1a\n\x00", ("damaged",))],
)
def test_images_whose_header_cannot_be_read(tmp_path, content, words):
    file = write_transforms(tmp_path, transforms())
    (tmp_path / "images/3.png").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_capture(file)
    one_line(caught.value, "3.png", *words)


def test_a_mask_of_another_size_is_refused(tmp_path):
    data = transforms(3)
    for i, frame in enumerate(data["frames"]):
        frame["mask_path"] = f"masks/{i}.png"
        save(disc((32, 32 if i < 2 else 16)).getchannel("A"), tmp_path / f"masks/{i}.png")
    with pytest.raises(UserError) as caught:
        read_capture(write_transforms(tmp_path, data))
    one_line(caught.value, "masks/2.png", "32 x 32", "32 x 16")


def test_rotated_photographs_are_reported(tmp_path):
    data = transforms(3)
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].replace("png", "jpg")
    photo = disc((48, 32)).convert("RGB")
    exif = photo.getexif()
    exif[0x0112] = 6
    save(photo, tmp_path / "images/1.jpg", exif=exif)
    file = write_transforms(tmp_path, data, image=photo)
    capture = read_capture(file)
    assert (capture.views[1].camera.width, capture.views[1].camera.height) == (48, 32)
    assert len(capture.warnings) == 1 and "images/1" in capture.warnings[0] and "rotated" in capture.warnings[0]
    data["frames"][1] |= {"w": 32, "h": 48}
    file.write_text(json.dumps(data))
    with pytest.raises(UserError) as caught:
        read_capture(file)
    one_line(caught.value, "images/1.jpg", "EXIF", "rotate the pixels")


def test_readers_need_nothing_but_numpy():
    """Blender's Python has no Pillow, torch or OpenEXR."""
    program = (
        "import sys\n"
        "for name in ('PIL', 'torch', 'OpenEXR', 'scipy'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from backend.capture import read_capture\n"
        "print(len(read_capture(Path('demo')).views))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 40
