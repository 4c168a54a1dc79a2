# SPDX-License-Identifier: GPL-3.0-or-later
"""Unrender: photographs with cameras become a native Blender asset."""


def register() -> None:
    # Imported here and not above: tests and the backend's tools see this package too, where there is no Blender.
    from . import operators, panels

    operators.register()
    panels.register()


def unregister() -> None:
    from . import operators, panels

    panels.unregister()
    operators.unregister()
