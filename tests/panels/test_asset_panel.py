# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of an imported result."""

from pathlib import Path
from types import SimpleNamespace

import bpy
from bl_ext.dev.unrender.panels.asset_panel import UNRENDER_PT_asset

from tests.operators import sample_result
from tests.panels.test_sidebar import Recorder


def texts() -> list[str]:
    recorder = Recorder()
    UNRENDER_PT_asset.draw(SimpleNamespace(layout=recorder), bpy.context)
    return recorder.texts()


def test_it_offers_what_can_be_done(tmp_path: Path) -> None:
    assert not UNRENDER_PT_asset.poll(bpy.context)
    own = bpy.context.scene.world = bpy.data.worlds.new("Mine")
    own.color = (1, 0, 0)
    result = sample_result.write(tmp_path / "result")
    bpy.ops.unrender.import_result(directory=str(result), world="NEVER", asset_entry=False)
    assert UNRENDER_PT_asset.poll(bpy.context)
    assert texts() == ["Box", "Use Its World", "Box: 12 triangles", "Add to Asset Browser"]
    bpy.ops.unrender.use_world()
    bpy.ops.unrender.mark_asset()
    bpy.ops.unrender.make_lods(count=1)
    assert texts() == ["Box", 'Back to "Mine"', "Box: 12 triangles", "Box_LOD1: 6 triangles", "Renew Asset Entry"]
    bpy.data.worlds.remove(own)
    assert "Its World Is in Use" in texts()
    bpy.data.objects.remove(bpy.data.objects["Box"])
    assert texts() == ["Box", "Its World Is in Use"]
