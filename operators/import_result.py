# SPDX-License-Identifier: GPL-3.0-or-later
"""File > Import > Unrender Result: a finished reconstruction becomes mesh, material, world and cameras."""

from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ..backend.errors import UserError
from .blender_context import scene_of
from .match_view import match
from .place_result import Options, Placed, place_result

if TYPE_CHECKING:
    from .blender_context import OperatorResult

WORLD_ITEMS = (
    (
        "AUTO",
        "If the Scene Has None",
        "Light the scene with it only where the scene still has the grey world of a new file",
    ),
    ("ALWAYS", "Use It", "Make it the scene's world. The world you had stays in the file"),
    ("NEVER", "Only Add It", "Add it to the file, leave the scene's light alone"),
)


class UNRENDER_OT_import_result(bpy.types.Operator):
    """Import a finished reconstruction as a mesh with one Principled material, its world and its cameras.
    Takes a second or two; one undo step removes all of it"""

    bl_idname = "unrender.import_result"
    bl_label = "Import Unrender Result"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(
        name="Result Folder",
        description="The 'result' folder of a job, or the job folder around it",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_glob: StringProperty(default="asset.glb", options={"HIDDEN", "SKIP_SAVE"})
    name: StringProperty(
        name="Name", description="What the collection, mesh and material are called; empty: as the result is"
    )
    world: EnumProperty(
        name="World", description="What becomes of the light that was found", items=WORLD_ITEMS, default="AUTO"
    )
    cameras: BoolProperty(name="Cameras", description="Add a camera for each photograph", default=True)
    photographs: BoolProperty(
        name="Photographs",
        description="Show each photograph behind its camera. The files stay where they are and load when first drawn",
        default=True,
    )
    pack: BoolProperty(
        name="Pack Textures",
        description=(
            "Keep the textures inside the blend file. Otherwise they go to a folder in 'textures' beside it, once the "
            "file was saved"
        ),
        default=False,
    )
    asset_entry: BoolProperty(
        name="Add to Asset Browser",
        description="Offer the mesh with its material in the asset browser, with a preview, tags and its origin",
        default=True,
    )
    match_view: BoolProperty(
        name="Match the Photographs",
        description=(
            "Set the scene's view transform to Standard, in which a render has the photographs' colors. A button in "
            "the sidebar brings your own settings back"
        ),
        default=False,
    )
    capture: StringProperty(
        name="Capture",
        description="Where the photographs are, if the result does not know",
        options={"HIDDEN", "SKIP_SAVE"},
    )
    scene: StringProperty(
        name="Scene", description="Where it goes; empty: the scene at hand", options={"HIDDEN", "SKIP_SAVE"}
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> "OperatorResult":
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> "OperatorResult":
        scene = bpy.data.scenes.get(self.scene) or scene_of(context)
        try:
            placed = place_result(Path(bpy.path.abspath(self.directory)), scene, self._options())
        except UserError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if self.match_view:
            try:
                match(scene)
            except UserError as error:
                placed.notes.append(str(error))
        select_only(context, placed.asset)
        for note in placed.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, summary(placed))
        return {"FINISHED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "name")
        layout.prop(self, "world")
        column = layout.column(heading="Add")
        column.prop(self, "cameras")
        row = column.row()
        row.enabled = self.cameras
        row.prop(self, "photographs")
        column = layout.column(heading="Options")
        column.prop(self, "pack")
        column.prop(self, "asset_entry")
        column.prop(self, "match_view")

    def _options(self) -> Options:
        return Options(
            name=self.name.strip(),
            world=self.world,
            cameras=self.cameras,
            photographs=self.photographs,
            pack=self.pack,
            asset_entry=self.asset_entry,
            capture=Path(bpy.path.abspath(self.capture)) if self.capture else None,
        )


def select_only(context: bpy.types.Context, asset: bpy.types.Object) -> None:
    """Selects the new asset alone, as importers do."""
    for other in context.view_layer.objects:
        if other.select_get():
            other.select_set(False)
    if context.view_layer.objects.get(asset.name) is asset:
        asset.select_set(True)
        context.view_layer.objects.active = asset


def summary(placed: Placed) -> str:
    """One line for the status bar."""
    mesh = placed.asset.data
    assert isinstance(mesh, bpy.types.Mesh)
    light = "" if placed.world is None else ", its world" if placed.world_assigned else ", its world (not in use)"
    return f"{placed.collection.name}: {len(mesh.polygons):,} triangles, {len(placed.cameras)} cameras{light}"


def draw_menu(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator(UNRENDER_OT_import_result.bl_idname, text="Unrender Result")
