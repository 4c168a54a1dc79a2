# SPDX-License-Identifier: GPL-3.0-or-later
"""An artist's whole way in a Blender of its own, which knows nothing of this repository's extension but its zip.

`test_whole_way.py` starts it as a process: python -m tests.operators.whole_way EXTENSION.zip NEWER.zip PYTHON FOLDER,
where PYTHON starts the real backend with settings for a small job. Prints "done STEP" after each step; ends with a
traceback where something is not as it must be.
"""

import importlib
import json
import struct
import sys
import threading
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from tests.operators import scene_parts as parts

REPOSITORY = "user_default"
MODULE = f"bl_ext.{REPOSITORY}.unrender"
JOB_SECONDS = 180.0


def ours(name: str) -> Any:
    """A module of the installed extension, as it is at this moment: an upgrade brings others."""
    return importlib.import_module(f"{MODULE}.{name}")


def installed() -> Path:
    """The folder into which Blender unpacked the extension."""
    repository = next(item for item in bpy.context.preferences.extensions.repos if item.module == REPOSITORY)
    return Path(repository.directory) / "unrender"


def preferences() -> Any:
    return bpy.context.preferences.addons[MODULE].preferences


def settings() -> Any:
    return bpy.context.scene.unrender


def new_file() -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


def timers() -> list[Any]:
    """The functions that the extension may have registered as timers."""
    follow, install_state = ours("operators.follow"), ours("operators.install_state")
    return [follow.find_jobs, follow.pump, install_state.refresh, install_state.pump]


def tick() -> None:
    """Calls what waits to be called, as Blender's window does: in the module timers never fire."""
    for function in timers():
        if bpy.app.timers.is_registered(function) and function() is None:
            bpy.app.timers.unregister(function)


def wait(until: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, [
            (str(watch.folder), watch.status, watch.stage, watch.message, watch.said)
            for watch in ours("operators.follow").WATCHES.values()
        ]
        tick()
        time.sleep(0.02)


def refused(operator: Callable[..., set[str]], word: str) -> None:
    """An operator does not run now, and says why."""
    try:
        operator()
    except RuntimeError as error:
        assert word in str(error), error
        return
    raise AssertionError(f"{operator} was not refused")


def traces() -> dict[str, Any]:
    """Whatever an extension can leave in Blender."""
    handlers = {name: list(found) for name in dir(bpy.app.handlers) if isinstance(found := _handlers(name), list)}
    keys = [
        (keymap.name, item.idname)
        for config in bpy.context.window_manager.keyconfigs
        for keymap in config.keymaps
        for item in keymap.keymap_items
        if item.idname.startswith("unrender.")
    ]
    return {
        "classes": sorted(name for name in dir(bpy.types) if "unrender" in name.lower()),
        "operators": dir(bpy.ops.unrender),
        "properties": [kind for kind in ("Scene", "Object", "Camera") if hasattr(getattr(bpy.types, kind), "unrender")],
        "handlers": handlers,
        "keys": keys,
        "menu": [str(draw) for draw in bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()],
        "modules": sorted(name for name in sys.modules if name.startswith(MODULE)),
        "threads": sorted(thread.name for thread in threading.enumerate() if "unrender" in thread.name),
        "addons": sorted(name for name in bpy.context.preferences.addons.keys() if "unrender" in name),
    }


def _handlers(name: str) -> Any:
    return getattr(bpy.app.handlers, name)


class Way:
    """The steps, in their order."""

    def __init__(self, archive: Path, newer: Path, python: Path, folder: Path) -> None:
        self.archive, self.newer, self.python, self.folder = archive, newer, python, folder
        self.blend = folder / "work" / "statue.blend"
        self.before = traces()
        self.rendered = Path()
        self.job = Path()

    def install(self) -> None:
        install(self.archive)
        assert (installed() / "blender_manifest.toml").is_file() and not (installed() / "tests").exists()
        assert MODULE in bpy.context.preferences.addons and hasattr(bpy.types.Scene, "unrender")
        assert "torch" not in sys.modules

    def preferences(self) -> None:
        """Nothing is installed, and Blender may not ask the network; then a Python of the artist's own."""
        state = ours("operators.install_state")
        wait(lambda: state.state().status == "missing" and state.state().size is not None)
        assert not bpy.app.online_access
        refused(bpy.ops.unrender.install, "Online access is off")
        preferences().python = str(self.python)
        wait(lambda: state.state().own_python and state.state().status == "untested")
        refused(bpy.ops.unrender.install, "an interpreter of your own")

    def cameras_with_images(self) -> None:
        new_file()
        parts.ring(self.folder / "photos")
        assert self.collect("ring") == 4

    def animated_camera(self) -> None:
        new_file()
        camera = parts.tracked_camera(range(1, 7))
        image = bpy.data.images.load(str(parts.sequence(self.folder / "shot", range(11, 17))))
        image.source = "SEQUENCE"
        background = camera.data.background_images.new()
        background.image = image
        user = background.image_user
        user.frame_start, user.frame_duration, user.frame_offset = 1, 6, 10
        assert self.collect("sequence") == 6

    def cameras_and_a_folder(self) -> None:
        new_file()
        parts.set_size()
        for number in range(4):
            parts.add_camera(f"photo_{number}", parts.orbit(number * 1.5)).select_set(True)
        settings().collect.source, settings().collect.images = "FOLDER", str(self.folder / "photos")
        assert self.collect("matched") == 4

    def collect(self, name: str) -> int:
        """How many views the capture has that the open scene gives."""
        settings().collect.folder = str(self.folder / "captures" / name)
        assert bpy.ops.unrender.collect() == {"FINISHED"}
        return len(json.loads((self.folder / "captures" / name / "capture.json").read_text())["views"])

    def files_of_others(self) -> None:
        captures = self.folder / "captures"
        nerf, colmap = captures / "nerf", captures / "colmap"
        for folder in (nerf, colmap):
            folder.mkdir()
        for folder in (parts.nerf(nerf), parts.colmap(colmap), captures / "ring"):
            new_file()
            assert bpy.ops.unrender.open_capture(filepath=str(folder)) == {"FINISHED"}
            cameras = [item for item in bpy.context.scene.objects if item.type == "CAMERA"]
            assert len(cameras) == 4 and all(item.data.background_images[0].image for item in cameras), folder
            assert Path(settings().capture) == folder

    def objects(self) -> None:
        """The capture of the job: rendered in a file that was never saved."""
        new_file()
        parts.lit_world()
        bpy.ops.mesh.primitive_monkey_add()
        chosen = settings().render_capture
        chosen.views, chosen.size, chosen.samples, chosen.holdout = 12, 64, 2, 0
        assert bpy.ops.unrender.render_capture() == {"FINISHED"}
        self.rendered = Path(settings().capture)
        assert len(list(self.rendered.glob("**/*.png"))) == 12

    def without_backend_or_network(self) -> None:
        preferences().python = ""
        assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
        watch = self.watch()
        wait(lambda: bool(watch.settled))
        assert watch.status == "failed" and "Allow online access" in watch.message, (watch.status, watch.message)
        assert watch.folder.is_relative_to(self.folder / "home")  # not where uninstalling the extension removes it
        preferences().python = str(self.python)

    def reconstruct(self) -> None:
        self.blend.parent.mkdir()
        bpy.ops.wm.save_as_mainfile(filepath=str(self.blend))
        settings().preset = "draft"
        assert bpy.ops.unrender.reconstruct() == {"FINISHED"}
        self.job = self.watch().folder
        assert self.job.parent == self.blend.parent / "unrender"
        bpy.ops.wm.save_mainfile()
        wait(lambda: self.watch().status == "running" and self.watch().stage not in ("", "prepare"), JOB_SECONDS)
        process = ours("backend.job").JobFolder(self.job).running_pid()
        if sys.platform == "linux":  # elsewhere it is not told so easily
            assert not Path(f"/proc/{process}/cwd").resolve().is_relative_to(self.folder / "blender")
        assert bpy.ops.unrender.control(request="pause") == {"FINISHED"}
        wait(lambda: bool(self.watch().status == "paused"), JOB_SECONDS)

    def upgrade(self) -> None:
        """A newer version is installed over the one that the job was started with."""
        old = ours("operators.follow")
        version = tomllib.loads((installed() / "blender_manifest.toml").read_text())["version"]
        install(self.newer)
        assert tomllib.loads((installed() / "blender_manifest.toml").read_text())["version"] != version
        assert ours("operators.follow") is not old and not old.WATCHES
        assert Path(preferences().python) == self.python
        self.found_again()

    def off_and_on(self) -> None:
        bpy.ops.preferences.addon_disable(module=MODULE)
        assert not hasattr(bpy.types.Scene, "unrender")
        bpy.ops.preferences.addon_enable(module=MODULE)
        self.found_again()

    def another_file(self) -> None:
        new_file()
        tick()
        bpy.ops.wm.open_mainfile(filepath=str(self.blend))
        self.found_again()

    def found_again(self) -> None:
        """The paused job is the scene's, and will be imported."""
        tick()
        wait(lambda: ours("operators.follow").job_of(bpy.context.scene) is not None)
        wait(lambda: bool(self.watch().status == "paused"))
        assert self.watch().folder == self.job and self.watch().import_wanted

    def watch(self) -> Any:
        watch = ours("operators.follow").job_of(bpy.context.scene)
        assert watch is not None
        return watch

    def result(self) -> None:
        """The job goes on to its end, shows its mesh and is imported."""
        assert bpy.ops.unrender.control(request="resume") == {"FINISHED"}
        watch, shown, stages = self.watch(), set(), set()
        preview = ours("operators.preview_object")

        def ended() -> bool:
            stages.add(watch.stage)
            if (found := preview.find()) is not None:
                shown.add(len(found.data.polygons))
            return bool(watch.settled)

        wait(ended, JOB_SECONDS)
        assert watch.status == "finished" and not watch.message, (watch.status, watch.message, watch.log)
        assert len(stages) > 3  # short ones pass between two ticks
        assert watch.imported and min(shown) > 100 and preview.find() is None
        assert len(watch.curve.values) > 2 and watch.psnr is not None and watch.memory is not None
        self.check_asset()

    def check_asset(self) -> None:
        asset = self.asset()
        (material,) = asset.data.materials
        images = [node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE"]
        assert len(asset.data.polygons) > 100 and len(images) == 3
        assert all(image.size[0] and image.filepath.startswith("//textures") for image in images)
        assert len([item for item in bpy.data.objects if item.type == "CAMERA"]) == 12
        assert asset.asset_data is not None and "Suzanne" in bpy.data.objects

    def asset(self) -> Any:
        (found,) = [item for item in bpy.data.objects if item.type == "MESH" and "unrender_result" in item]
        return found

    def save_and_reload(self) -> None:
        bpy.ops.wm.save_mainfile()
        new_file()
        tick()
        bpy.ops.wm.open_mainfile(filepath=str(self.blend))
        self.check_asset()
        wait(lambda: bool(self.watch().status == "finished"))
        assert self.watch().folder == self.job and ours("operators.previews").is_imported(self.watch())
        assert ours("operators.follow").pump() is None and len(bpy.data.collections) == 4  # once is enough

    def export(self) -> None:
        bpy.ops.object.select_all(action="DESELECT")
        self.asset().select_set(True)
        path = self.folder / "asset.glb"
        bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
        data = path.read_bytes()
        (size,) = struct.unpack_from("<I", data, 12)
        document = json.loads(data[20 : 20 + size])
        assert len(document["meshes"]) == len(document["materials"]) == 1 and len(document["images"]) == 3

    def uninstall(self) -> None:
        left = timers()
        user_folder = Path(bpy.utils.extension_path_user(MODULE, create=True))
        folder = installed()
        repositories = [item.module for item in bpy.context.preferences.extensions.repos]
        done = bpy.ops.extensions.package_uninstall(repo_index=repositories.index(REPOSITORY), pkg_id="unrender")
        assert done == {"FINISHED"} and not folder.exists() and not user_folder.exists()
        assert not any(bpy.app.timers.is_registered(function) for function in left)
        now = traces()
        assert now == self.before, [(key, self.before[key], now[key]) for key in now if now[key] != self.before[key]]

    def without_it(self) -> None:
        """The artist's own work stays: the file with its asset, the capture, the job."""
        new_file()
        bpy.ops.wm.open_mainfile(filepath=str(self.blend))
        self.check_asset()
        bpy.ops.wm.save_mainfile()
        assert (self.rendered / "capture.json").is_file() and (self.job / "result" / "asset.glb").is_file()

    STEPS = (
        install,
        preferences,
        cameras_with_images,
        animated_camera,
        cameras_and_a_folder,
        files_of_others,
        objects,
        without_backend_or_network,
        reconstruct,
        upgrade,
        off_and_on,
        another_file,
        result,
        save_and_reload,
        export,
        uninstall,
        without_it,
    )


def install(archive: Path) -> None:
    """As 'Install from Disk' does."""
    operator: Any = bpy.ops.extensions.package_install_files
    done = operator(filepath=str(archive), repo=REPOSITORY, enable_on_install=True)
    assert done == {"FINISHED"} and MODULE in bpy.context.preferences.addons


def main(arguments: list[str]) -> None:
    # Blender's own add-ons may use what is on its way out; ours may not.
    warnings.filterwarnings("error", category=DeprecationWarning, module=r"bl_ext\..*")
    way = Way(*map(Path, arguments))
    for step in way.STEPS:
        began = time.monotonic()
        step(way)
        print(f"done {step.__name__} {time.monotonic() - began:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
