# SPDX-License-Identifier: GPL-3.0-or-later
"""A hand for Blender's window: finds buttons by hovering, clicks them, and takes pictures of what is on the screen.

Blender does not say where it drew a button. It does say which one the mouse is over: what "Copy Python Command" and
"Copy Full Data Path" of the context menu would copy. So a region is hovered over, line by line, until the right one
answers. All of it is generators that yield the seconds to wait, for a step machine in a timer.
"""

import math
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy

Steps = Iterator[float]

HOVER_STEP = 8  # pixels: less than half of a button's height
HOVER_SECONDS = 0.03
COLUMNS = (0.5, 0.25, 0.75, 0.83, 0.92)  # of a region's width: buttons stand in halves, and small ones at the right
QUALITY = 85


class Mouse:
    """Events in one area of a window."""

    def __init__(self, window: bpy.types.Window, area: bpy.types.Area, region_type: str) -> None:
        self.window, self.area, self.region_type = window, area, region_type

    @property
    def region(self) -> bpy.types.Region:
        return next(region for region in self.area.regions if region.type == self.region_type)

    def move(self, x: float, y: float) -> None:
        """To a place in the window, in pixels from its lower left corner."""
        self.window.event_simulate(type="MOUSEMOVE", value="NOTHING", x=round(x), y=round(y))

    def press(self, x: float, y: float) -> Steps:
        """A click with the left button."""
        self.move(x, y)
        yield 0.15
        for value in ("PRESS", "RELEASE"):
            self.window.event_simulate(type="LEFTMOUSE", value=value, x=round(x), y=round(y))
            yield 0.1

    def under(self) -> str:
        """The command or the data path of the button under the mouse, "" where there is none."""
        manager = bpy.context.window_manager
        with bpy.context.temp_override(window=self.window, area=self.area, region=self.region):
            manager.clipboard = ""
            if bpy.ops.ui.copy_python_command_button.poll():
                bpy.ops.ui.copy_python_command_button()
            elif bpy.ops.ui.copy_data_path_button.poll():
                bpy.ops.ui.copy_data_path_button(full_path=True)
        return str(manager.clipboard)

    def find(self, what: str, place: list[float]) -> Steps:
        """Fills `place` with x and y of the button whose command or data path contains `what`."""
        place.clear()
        yield from self.leave()
        region = self.region
        for column in COLUMNS:
            x = region.x + region.width * column
            for y in range(region.y + region.height - HOVER_STEP, region.y, -HOVER_STEP):
                self.move(x, y)
                yield HOVER_SECONDS
                if what in self.under():
                    place.extend((x, y - HOVER_STEP / 2))
                    return
        raise LookupError(f"no button of {what} in the {self.region_type} of the {self.area.type}")

    def click(self, what: str) -> Steps:
        """Find a button and click it."""
        place: list[float] = []
        yield from self.find(what, place)
        print(f"clicking {what} at {place[0]:.0f}, {place[1]:.0f}")
        yield from self.press(*place)
        yield 0.3

    def leave(self) -> Steps:
        """To the region's edge, where no button is. A button that the mouse only jumped away from stays lit."""
        region = self.region
        for height in (0.5, 0.45):
            self.move(region.x + 3, region.y + region.height * height)
            yield 0.15
        yield from until(lambda: not self.under(), 5, "an edge without buttons")

    def rest(self) -> Steps:
        """Out of the way, so that no button is lit and no tooltip covers anything."""
        yield from self.leave()
        self.move(self.area.x + 4, self.area.y + 40)
        yield 0.4


def until(condition: Callable[[], bool], seconds: float, what: str) -> Steps:
    """Wait for something, and fail where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        yield 0.2


class Camera:
    """Pictures of the screen, by ImageMagick: Blender's own screenshots come out black under software OpenGL."""

    def __init__(self, folder: Path, screen_height: int) -> None:
        self.folder, self.screen_height = folder, screen_height

    def take(self, name: str, window: bpy.types.Window, box: tuple[float, float, float, float] | None = None) -> None:
        """A window, or the box left, bottom, right, top of it, as a JPEG."""
        left, bottom, right, top = box or (0, 0, window.width, window.height)
        width, height = math.ceil(right - left), math.ceil(top - bottom)
        across, down = round(window.x + left), round(self.screen_height - window.y - top)
        crop = ["-crop", f"{width}x{height}+{max(across, 0)}+{max(down, 0)}", "+repage", "-quality", str(QUALITY)]
        path = self.folder / f"{name}.jpg"
        subprocess.run(["import", "-window", "root", *crop, str(path)], check=True)
        print(f"{path.name}: {width} x {height}, {path.stat().st_size / 1000:.0f} kB")


def area_of(window: bpy.types.Window, kind: str) -> bpy.types.Area | None:
    """The first area of a kind in a window."""
    return next((area for area in window.screen.areas if area.type == kind), None)


def window_with(kind: str) -> bpy.types.Window | None:
    """The first window that shows an area of a kind."""
    return next((window for window in bpy.context.window_manager.windows if area_of(window, kind)), None)
