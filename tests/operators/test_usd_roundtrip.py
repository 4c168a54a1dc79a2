# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporting the imported asset to USD with Blender's own exporter, with no edit in between."""

import re
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.operators import sample_result


@pytest.fixture(params=["packed", "beside the file"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = sample_result.write(tmp_path / "result", occlusion=True)
    if request.param != "packed":
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "file.blend"))
    bpy.ops.unrender.import_result(directory=str(folder))
    path = tmp_path / "usd" / "box.usda"
    path.parent.mkdir()
    bpy.ops.wm.usd_export(filepath=str(path), selected_objects_only=True)  # the import selects the asset
    return path


def test_the_preview_surface_reads_the_textures(exported: Path) -> None:
    text = exported.read_text()
    assert text.count('info:id = "UsdPreviewSurface"') == 1 and text.count('info:id = "UsdUVTexture"') == 3
    textures = dict(re.findall(r'def Shader "(\w+)"[^{]*\{(?:(?!def Shader).)*?inputs:file = @([^@]*)@', text, re.S))

    def source(name: str) -> tuple[str, str]:
        """The file and channel that an input of the surface reads."""
        found = re.search(rf"inputs:{name}\.connect = <[^>]*/(\w+)\.outputs:(\w+)>", text)
        assert found is not None, name
        return textures[found[1]], found[2]

    assert source("diffuseColor") == ("./textures/Box_BaseColor.png", "rgb")
    assert source("roughness") == ("./textures/Box_ORM.png", "g")
    assert source("metallic") == ("./textures/Box_ORM.png", "b")
    assert source("normal") == ("./textures/Box_Normal.png", "rgb")
    for name, raw in (("BaseColor", "sRGB"), ("ORM", "raw"), ("Normal", "raw")):
        shader = next(part for part in text.split("def Shader") if f"Box_{name}.png" in part)
        assert f'inputs:sourceColorSpace = "{raw}"' in shader
        written = exported.parent / "textures" / f"Box_{name}.png"
        assert written.read_bytes() == (exported.parents[1] / "result" / "textures" / f"Box_{name}.png").read_bytes()


def test_blenders_importer_reads_the_same_asset_back(exported: Path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.ops.wm.usd_import(filepath=str(exported))
    (item,) = (item for item in bpy.data.objects if item.type == "MESH")
    corners = np.array([item.matrix_world @ vertex.co for vertex in item.data.vertices])
    assert len(item.data.polygons) == 12
    assert np.allclose(corners.min(axis=0), sample_result.CENTER - sample_result.SIZE / 2, atol=1e-5)
    assert np.allclose(corners.max(axis=0), sample_result.CENTER + sample_result.SIZE / 2, atol=1e-5)
    nodes = item.active_material.node_tree.nodes
    (shader,) = (node for node in nodes if node.bl_idname == "ShaderNodeBsdfPrincipled")
    assert all(shader.inputs[name].is_linked for name in ("Base Color", "Roughness", "Metallic", "Normal"))
    images = {Path(node.image.filepath).name for node in nodes if node.bl_idname == "ShaderNodeTexImage"}
    assert images == {"Box_BaseColor.png", "Box_ORM.png", "Box_Normal.png"}
