# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything an artist can point at says what it does: operators, their settings, ours, and each choice of a menu.

What is walked is what Blender itself knows of our classes (bl_rna), so that nothing new escapes.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest
from bl_ext.dev.unrender import panels
from bl_ext.dev.unrender.operators import queue_operators, reconstruct

ROOT = Path(__file__).resolve().parents[2]
LEAST = 20  # characters of what deserves to be called a description
LEAST_OF_OPERATORS = 60  # what it does, and what it costs


def operators() -> list[bpy.types.Struct]:
    """What Blender knows of every operator of ours."""
    return [getattr(bpy.ops.unrender, name).get_rna_type() for name in dir(bpy.ops.unrender)]


def settings_of(struct: bpy.types.Struct) -> Iterator[tuple[str, bpy.types.Property]]:
    """The properties that an artist can see, of one of our classes and of those that hang on it."""
    for found in struct.properties:
        inherited = found.identifier == "rna_type" or struct.base and found.identifier in struct.base.properties
        if inherited or found.is_hidden:
            continue
        yield f"{struct.identifier}.{found.identifier}", found
        further = getattr(found, "fixed_type", None)
        if further is not None and further.identifier.startswith("UNRENDER"):
            yield from settings_of(further)


def all_settings() -> Iterator[tuple[str, bpy.types.Property]]:
    """All of ours, with a name for messages."""
    scene = bpy.types.Scene.bl_rna.properties["unrender"].fixed_type
    for struct in (*operators(), panels.UNRENDER_AP_preferences.bl_rna, scene):
        yield from settings_of(struct)


def flaws(text: str, least: int) -> str:
    """What is wrong with a description, "" if nothing. Blender ends them itself with a full stop."""
    if len(text) < least:
        return f"{text!r} is too short"
    if text != text.strip() or text.endswith("."):
        return f"{text!r} ends with a full stop or a space"
    return "" if text[0].isupper() or text[0] in "'\"" else f"{text!r} begins with a small letter"


def test_the_walk_finds_what_there_is() -> None:
    names = [name for name, _ in all_settings()]
    assert len(operators()) > 20 and len(names) == len(set(names)) > 50
    for name in ("PG_scene.preset", "PG_collect.masks", "PG_render_capture.views", "OT_import_result.pack"):
        assert f"UNRENDER_{name}" in names
    assert "UNRENDER_AP_preferences.home" in names and "UNRENDER_OT_control.folder" not in names
    assert flaws("Too short", LEAST) and flaws("It ends with what Blender adds.", LEAST) and flaws("", LEAST)
    assert not flaws("Folder of the photographs", LEAST)


def test_operators() -> None:
    wrong = []
    for struct in operators():
        if problem := flaws(struct.description, LEAST_OF_OPERATORS):
            wrong.append(f"{struct.identifier}: {problem}")
    assert not wrong, wrong


def test_settings() -> None:
    wrong = []
    for name, found in all_settings():
        if not found.name or found.name == found.identifier:
            wrong.append(f"{name}: it has no name")
        if problem := flaws(found.description, LEAST):
            wrong.append(f"{name}: {problem}")
    assert not wrong, wrong


def test_choices() -> None:
    wrong = []
    for name, found in all_settings():
        for item in found.enum_items if found.type == "ENUM" else ():
            if problem := flaws(item.description, LEAST):
                wrong.append(f"{name}, {item.name}: {problem}")
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("cls", "setting", "items"),
    [
        (reconstruct.UNRENDER_OT_control, "request", reconstruct.REQUEST_ITEMS),
        (queue_operators.UNRENDER_OT_queue_entry, "action", queue_operators.ACTION_ITEMS),
    ],
)
def test_one_operator_behind_several_buttons_describes_each(cls: Any, setting: str, items: tuple) -> None:
    texts = [cls.description(bpy.context, SimpleNamespace(**{setting: item[0]})) for item in items]
    assert len(set(texts)) == len(items) and not any(flaws(text, LEAST) for text in texts)


def refusals() -> Iterator[tuple[str, str]]:
    """Every literal text that a poll gives as its reason, with its place."""
    for path in (ROOT / "operators").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if named and node.func.attr == "poll_message_set" and isinstance(node.args[0], ast.Constant):
                yield f"{path.name}:{node.lineno}", node.args[0].value


def test_refusals_say_why() -> None:
    found = list(refusals())
    assert len(found) > 5
    assert not [f"{place}: {text!r}" for place, text in found if len(text) < LEAST]


def test_every_poll_that_refuses_says_why() -> None:
    wrong = []
    for path in (ROOT / "operators").glob("*.py"):
        for cls in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(cls, ast.ClassDef) or not cls.name.startswith("UNRENDER_OT"):
                continue
            for poll in cls.body:
                if (
                    isinstance(poll, ast.FunctionDef)
                    and poll.name == "poll"
                    and "poll_message_set" not in ast.unparse(poll)
                ):
                    wrong.append(f"{path.name}: {cls.name}")
    assert not wrong, wrong
