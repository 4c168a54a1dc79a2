# SPDX-License-Identifier: GPL-3.0-or-later
"""The artist's whole way in a real window of Blender, with clicks, and a picture of each step.

Run by hand; no test needs it. Install and enable the extension's zip first, then, with ImageMagick's `import`:

    xvfb-run -s "-screen 0 1600x1200x24" blender --enable-event-simulate --window-geometry 0 0 1600 1200 \
        --python tests/window/click_through.py -- --capture CAPTURE --work EMPTY_FOLDER --pictures FOLDER \
        [--python BACKEND_PYTHON] [--preset draft] [--installed] [--finish-early] [--job JOB]

CAPTURE: any capture's folder, for instance a copy of `demo`. EMPTY_FOLDER gets the blend file and the job.
BACKEND_PYTHON: an interpreter that has the backend's packages; without it the backend must be installed already.

Clicked as a mouse does, where Blender drew them: Self-Test, Open Capture and the file browser's button, Check,
Reconstruct, Finish Now, Import Its Result, Make Levels of Detail, Match the Photographs, Compare and its line. Called
or set directly: the view's angle, the shading, the preset (a menu), the region's size, folders (typed by an artist),
Find Job, and the preferences' search.
Ends with code 0 when every step was there, else with 4 and a picture "error".
"""

import argparse
import os
import sys
import traceback
from math import radians
from pathlib import Path
from typing import Any

import addon_utils
import bpy
import mathutils

sys.path.insert(0, str(Path(__file__).parent))

from mouse import Camera, Mouse, Steps, area_of, until, window_with

FROM = mathutils.Euler((radians(75), 0.0, radians(25)))  # the view's angle: from the front, a little from above


class Way:
    """The steps, in the artist's order."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.window = bpy.context.window_manager.windows[0]
        self.camera = Camera(options.pictures, options.screen_height)
        self.module = next(m.__name__ for m in addon_utils.modules() if m.__name__.endswith(".unrender"))
        parts = sys.modules[self.module]
        self.follow, self.install_state = parts.operators.follow, parts.operators.install_state

    def walk(self) -> Steps:
        """All of it."""
        yield 1.0
        self.area = area_of(self.window, "VIEW_3D")
        self.space = self.area.spaces[0]
        self.sidebar = Mouse(self.window, self.area, "UI")
        if not self.options.installed:
            yield from self.install()
        yield from self.collect()
        yield from self.reconstruct()
        yield from self.bring_in()
        yield from self.compare()
        print("all steps were there")

    def install(self) -> Steps:
        """The preferences: not installed, testing, ready."""
        manager, preferences = bpy.context.window_manager, bpy.context.preferences
        preferences.active_section = "ADDONS"
        preferences.view.show_developer_ui = False
        bpy.ops.screen.userpref_show("INVOKE_DEFAULT")
        yield 1.0
        window = window_with("PREFERENCES")
        manager.addon_search = "Unrender"
        bpy.ops.preferences.addon_show(module=self.module)
        mouse = Mouse(window, area_of(window, "PREFERENCES"), "WINDOW")
        yield from until(lambda: self.install_state.state().status != "checking", 30, "a look at the backend")
        yield from mouse.rest()
        self.camera.take("install_offline", window)
        preferences.system.use_online_access = True
        yield 0.5
        self.camera.take("install_missing", window)
        ours = preferences.addons[self.module].preferences
        if self.options.python:
            ours.python = self.options.python
            yield from until(lambda: self.install_state.state().own_python, 60, "a look at that Python")
        yield from mouse.click("unrender.self_test")
        state = self.install_state.state
        yield from until(lambda: state().status == "installing" and state().fraction > 0.3, 300, "the test")
        yield from mouse.rest()
        self.camera.take("install_testing", window)
        yield from until(lambda: state().status != "installing", 600, "the self-test's end")
        yield 1.0
        yield from mouse.rest()
        self.camera.take("install_ready", window)
        if not state().ready:
            raise RuntimeError(f"the backend is {state().status}: {state().reason}")
        with bpy.context.temp_override(window=window):
            bpy.ops.wm.window_close()
        yield 0.5

    def collect(self) -> Steps:
        """An opened capture: cameras, photographs, region, and what was found."""
        for item in list(bpy.data.objects):
            bpy.data.objects.remove(item)
        bpy.ops.wm.save_as_mainfile(filepath=str(self.options.work / "helmet.blend"))
        self.space.show_region_ui = True
        self.space.overlay.show_relationship_lines = False
        yield 1.0
        self.sidebar.region.active_panel_category = "Unrender"
        yield 0.5
        yield from self.sidebar.click("unrender.open_capture")
        yield from self.choose(self.options.capture)
        scene = self.window.scene
        yield from until(lambda: bool(scene.unrender.capture), 60, "the opened capture")
        self.region().scale *= 0.85  # an artist would
        scene.camera = self.front_camera()
        self.look(distance=self.extent() * 3.0)
        bpy.ops.object.select_all(action="DESELECT")
        self.region().select_set(True)
        yield from self.sidebar.click("unrender.check_capture")
        yield 1.0
        yield from self.sidebar.rest()
        self.camera.take("capture", self.window, self.box(self.area))
        yield from self.preflight()
        self.space.region_3d.view_perspective = "CAMERA"
        yield 1.5
        self.camera.take("photograph", self.window, self.box(self.area))

    def preflight(self) -> Steps:
        """The list of what was found where a file has gone."""
        image = self.window.scene.camera.data.background_images[0].image
        path = image.filepath
        image.filepath = f"{path}.moved.png"
        yield from self.sidebar.click("unrender.check_capture")
        yield 1.0
        below: list[float] = []
        yield from self.sidebar.find("unrender.capture", below)
        yield from self.sidebar.rest()
        left, _, right, top = self.box(self.sidebar.region)
        self.camera.take("preflight", self.window, (left, below[1] + 60, right - 30, top))
        image.filepath = path
        yield from self.sidebar.click("unrender.check_capture")
        yield from self.sidebar.rest()

    def reconstruct(self) -> Steps:
        """A job, and its mesh while it grows."""
        settings = self.window.scene.unrender
        settings.preset = self.options.preset
        settings.import_when_finished = False
        if self.options.job:
            bpy.ops.unrender.find_job(directory=str(self.options.job))
        else:
            yield from self.sidebar.click("unrender.reconstruct")
        yield from until(lambda: self.follow.job_of(self.window.scene) is not None, 60, "the job")
        watch = self.follow.job_of(self.window.scene)
        bpy.ops.object.select_all(action="DESELECT")
        self.look(distance=self.extent() * 1.3)
        yield from self.fold("unrender.open_capture")
        yield from self.sidebar.rest()
        shares = {"growing_early": 0.04} if self.options.finish_early else {"growing_early": 0.04, "growing": 0.4}
        for name, share in shares.items():
            yield from self.growth(watch, share)
            if watch.active:
                self.camera.take(name, self.window, self.box(self.area))
        if self.options.finish_early and watch.active:
            yield from self.sidebar.click("request='finish'")
        yield from until(lambda: not watch.active, 3600, "the result")
        yield 1.0
        if watch.status != "finished":
            raise RuntimeError(f"the job {watch.status}: {watch.message}")
        self.camera.take("finished", self.window, self.box(self.area))

    def growth(self, watch: Any, share: float) -> Steps:
        """Wait until a job has done a share of the stage that makes the shape, and shows a mesh; or ended."""

        def grown() -> bool:
            return watch.stage == "shape" and watch.fraction >= share and watch.preview is not None

        yield from until(lambda: grown() or not watch.active, 3600, "a growing mesh")
        yield 2.0

    def bring_in(self) -> Steps:
        """The asset, lit by its own world, with its levels of detail."""
        scene, worlds = self.window.scene, len(bpy.data.worlds)
        yield from self.sidebar.click("unrender.import_result(directory")
        yield from until(lambda: len(bpy.data.worlds) > worlds, 60, "the asset")
        yield from self.sidebar.click("unrender.make_lods")
        yield from self.sidebar.click("unrender.match_view")
        scene.render.engine = "CYCLES"
        scene.cycles.preview_samples = 64
        self.space.overlay.show_overlays = False
        self.space.shading.type = "RENDERED"
        self.look(distance=self.extent() * 1.3)
        yield from self.sidebar.rest()
        yield self.options.render_seconds
        self.camera.take("asset", self.window, self.box(self.area))

    def compare(self) -> Steps:
        """Through a camera of the capture: half photograph, half the render."""
        scene = self.window.scene
        scene.camera = self.front_camera()
        self.space.region_3d.view_perspective = "CAMERA"
        yield 0.5
        yield from self.sidebar.click("unrender.wipe")
        yield from self.sidebar.click("unrender.drag_wipe")
        middle = self.area.x + self.area.width / 2, self.area.y + self.area.height / 2
        yield from self.sidebar.press(middle[0] - 20, middle[1])
        moved = scene.unrender.wipe_position - 0.5
        if not -0.2 < moved < -0.01:
            raise RuntimeError(f"the line did not follow the mouse: it moved by {moved}")
        yield from self.sidebar.rest()
        yield self.options.render_seconds
        self.camera.take("compare", self.window, self.box(self.area))

    def choose(self, path: Path) -> Steps:
        """The file browser that opened: go there, and click its button."""
        yield from until(lambda: window_with("FILE_BROWSER") is not None, 30, "the file browser")
        yield 1.0
        window = window_with("FILE_BROWSER")
        area = area_of(window, "FILE_BROWSER")
        area.spaces[0].params.directory = f"{path}{os.sep}".encode()
        yield 1.0
        self.camera.take("file_browser", window)
        yield from Mouse(window, area, "EXECUTE").click("file.execute")

    def fold(self, first: str) -> Steps:
        """Close the panel whose first button this is, by a click on its title."""
        place: list[float] = []
        yield from self.sidebar.find(first, place)
        yield from self.sidebar.press(self.sidebar.region.x + 60, place[1] + 28)
        yield 0.5

    def look(self, distance: float) -> None:
        """Turn the view around the middle of the region."""
        view = self.space.region_3d
        view.view_perspective = "PERSP"
        view.view_rotation = FROM.to_quaternion()
        view.view_location = self.region().matrix_world.translation
        view.view_distance = distance

    def front_camera(self) -> bpy.types.Object:
        """The camera that sees the region most nearly from where the view does."""
        toward = FROM.to_matrix() @ mathutils.Vector((0.0, 0.0, 1.0))
        middle = self.region().matrix_world.translation
        cameras = [item for item in self.window.scene.objects if item.type == "CAMERA"]
        return max(cameras, key=lambda item: (item.matrix_world.translation - middle).normalized().dot(toward))

    def region(self) -> bpy.types.Object:
        """The box of what is reconstructed."""
        return self.window.scene.unrender.collect.region

    def extent(self) -> float:
        """The longest side of the region."""
        return 2.0 * max(self.region().matrix_world.to_scale())

    def box(self, part: bpy.types.Area | bpy.types.Region) -> tuple[float, float, float, float]:
        """Where an area or region is in the window."""
        return part.x, part.y, part.x + part.width, part.y + part.height


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="click_through.py", description=__doc__)
    parser.add_argument("--capture", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--python", default="")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--installed", action="store_true", help="leave the preferences out")
    parser.add_argument("--finish-early", action="store_true", help="press Finish Now when the mesh was seen")
    parser.add_argument("--job", type=Path, help="find this job instead of starting a new one")
    parser.add_argument("--render-seconds", type=float, default=90.0, help="for the viewport's render to get clean")
    parser.add_argument("--screen-height", type=int, default=1200)
    found = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :])
    for folder in (found.work, found.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    return found


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    way = Way(options())
    steps = way.walk()

    def step() -> float | None:
        try:
            return next(steps)
        except StopIteration:
            os._exit(0)
        except Exception:
            traceback.print_exc()
            way.camera.take("error", way.window)
            os._exit(4)

    bpy.app.timers.register(step, first_interval=2.0)


main()
