# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a small result folder as DESIGN.md 3.4 describes it, with numpy and the standard library alone.

Independent of `backend.export` on purpose: that needs the backend's environment, and a reader tested only against its
own writer would agree with it about everything, mistakes included.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

NAME = "Box"
SIZE = np.array([2.0, 1.0, 0.5])  # of the box, x y z
CENTER = np.array([0.3, -0.2, 0.4])
VIEWS = (("front", 64, 48, "train"), ("side", 48, 64, "test"))
PHOTO = "photos/front.png"

# Each face of the box: its outward normal, and the axes of its texture (right, up), in the world.
_FACES = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
)


def write(folder: Path, occlusion: bool = False) -> Path:
    """A box with one chart for each face; a texture whose colors name the face; two cameras, one of them portrait."""
    (folder / "textures").mkdir(parents=True)
    (folder / "asset.glb").write_bytes(glb(*box(), occlusion=occlusion))
    for kind, pixels in textures().items():
        (folder / "textures" / f"{NAME}_{kind}.png").write_bytes(png(pixels))
    (folder / "environment.exr").write_bytes(exr(environment()))
    photo = folder.parent / PHOTO
    photo.parent.mkdir(exist_ok=True)
    photo.write_bytes(png(np.full((48, 64, 3), 90, np.uint8)))
    (folder / "cameras.json").write_text(json.dumps({"images": str(folder.parent), "views": cameras()}))
    report = {"versions": {"unrender": "0.1.0"}, "provenance": {"tool": "test"}, "metrics": {"psnr": 30.0}}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "contact_sheet.png").write_bytes(png(np.zeros((8, 24, 3), np.uint8)))
    return folder


def box() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, normals [24, 3] float32 in the world, UVs [24, 2] with v up, triangles [12, 3].

    Faces lie in a 3 by 2 grid of the texture with a margin; normals point to the corners, as on a smooth mesh.
    """
    positions, uvs, triangles = [], [], []
    for face, (normal, right, up) in enumerate(np.array(_FACES, np.float64)):
        first = len(positions)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            positions.append(CENTER + (normal + a * right + b * up) * SIZE / 2)
            uvs.append(((face % 3 + 0.5 + 0.4 * a) / 3, (face // 3 + 0.5 + 0.4 * b) / 2))
        triangles += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    corners = np.array(positions)
    normals = np.sign(corners - CENTER) / np.sqrt(3)
    return corners.astype(np.float32), normals.astype(np.float32), np.array(uvs, np.float32), np.array(triangles)


def textures() -> dict[str, np.ndarray]:
    """[16, 24, 3] uint8 each, row 0 at the top: one flat color for each face's cell."""
    cells = np.kron(np.array([[3, 4, 5], [0, 1, 2]]), np.ones((8, 8), int))  # face 0 is bottom left in the picture
    base = np.stack([cells * 40 + 30, 200 - cells * 30, np.full(cells.shape, 60)], axis=-1)
    orm = np.stack([np.full(cells.shape, 255), cells * 30 + 80, (cells % 2) * 255], axis=-1)
    normal = np.broadcast_to([128, 128, 255], base.shape)
    return {"BaseColor": base.astype(np.uint8), "ORM": orm.astype(np.uint8), "Normal": normal.astype(np.uint8)}


def environment() -> np.ndarray:
    """[16, 32, 3] float32: grey, with a bright patch towards +Y (u = 0.25) and a warm one towards the zenith."""
    light = np.full((16, 32, 3), 0.5, np.float32)
    light[6:10, 6:10] = 20.0
    light[:2] = (3.0, 1.0, 0.5)
    return light


def cameras() -> list[dict[str, Any]]:
    entries = []
    for index, (name, width, height, split) in enumerate(VIEWS):
        eye = CENTER + np.array([(0.0, -4.0, 1.0), (4.0, 0.5, 0.5)][index])
        entries.append(
            {
                "name": name,
                "image": PHOTO if index == 0 else "photos/not_here.png",
                "split": split,
                "width": width,
                "height": height,
                "fx": 80.0,
                "fy": 80.0,
                "cx": width / 2 + 3.0,
                "cy": height / 2 - 2.0,
                "cam_to_world": look_at(eye, CENTER).tolist(),
            }
        )
    return entries


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`cam_to_world` [4, 4], OpenGL axes, the world's z up in the picture."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :4] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return pose


def glb(
    positions: np.ndarray, normals: np.ndarray, uvs: np.ndarray, triangles: np.ndarray, occlusion: bool = False
) -> bytes:
    """A binary glTF 2.0 of one primitive with one material (its textures are left to the folder beside it)."""

    def y_up(vectors: np.ndarray) -> np.ndarray:
        return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], axis=1)

    arrays = [
        (y_up(positions).astype("<f4"), "VEC3", 5126),
        (y_up(normals).astype("<f4"), "VEC3", 5126),
        (np.stack([uvs[:, 0], 1 - uvs[:, 1]], axis=1).astype("<f4"), "VEC2", 5126),
        (triangles.astype("<u2").reshape(-1), "SCALAR", 5123),
    ]
    data, views, accessors = b"", [], []
    for index, (array, kind, component) in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": array.nbytes})
        accessors.append({"bufferView": index, "componentType": component, "count": len(array), "type": kind})
        data += array.tobytes() + b"\0" * (-array.nbytes % 4)
    accessors[0] |= {"min": arrays[0][0].min(axis=0).tolist(), "max": arrays[0][0].max(axis=0).tolist()}
    material: dict[str, Any] = {"name": NAME}
    if occlusion:
        material["occlusionTexture"] = {"index": 0}
    document = {
        "asset": {"version": "2.0", "generator": "test"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": NAME}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}]}
        ],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    return pack_glb(document, data)


def pack_glb(document: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def png(pixels: np.ndarray) -> bytes:
    """An 8-bit RGB PNG of [H, W, 3]."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


def exr(pixels: np.ndarray) -> bytes:
    """An uncompressed scan-line OpenEXR of [H, W, 3] float32."""
    height, width, _ = pixels.shape

    def attribute(name: str, kind: str, body: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(body)) + body

    channels = b"".join(name + b"\0" + struct.pack("<iBBBBii", 2, 0, 0, 0, 0, 1, 1) for name in (b"B", b"G", b"R"))
    box2i = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<2I", 20000630, 2) + b"".join(
        [
            attribute("channels", "chlist", channels + b"\0"),
            attribute("compression", "compression", b"\0"),
            attribute("dataWindow", "box2i", box2i),
            attribute("displayWindow", "box2i", box2i),
            attribute("lineOrder", "lineOrder", b"\0"),
            attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
            attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            attribute("screenWindowWidth", "float", struct.pack("<f", 1)),
            b"\0",
        ]
    )
    line = 8 + 12 * width
    first = len(header) + 8 * height
    offsets = struct.pack(f"<{height}Q", *(first + row * line for row in range(height)))
    rows = pixels[:, :, ::-1].astype("<f4").transpose(0, 2, 1)  # [H, 3, W]: B, G, R
    lines = b"".join(struct.pack("<2i", row, 12 * width) + rows[row].tobytes() for row in range(height))
    return header + offsets + lines
