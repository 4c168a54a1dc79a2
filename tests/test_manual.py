# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual against what it describes: its pictures and links are there, its buttons and messages exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MANUAL = ROOT / "docs" / "manual.md"
PICTURE_BYTES, ALL_BYTES = 200_000, 1_500_000
# Blender's own labels.
BLENDER = """Edit|Preferences|Get Extensions|⌄|Install from Disk|System|Network|Allow Online Access|Add-ons|File|Export|
glTF 2.0|Universal Scene Description|Include|Selected Objects|Selection Only|Relationship Lines""".replace("\n", "")


def strings() -> str:
    """Every text in the sources, the literal parts of f-strings too, one a line."""
    found = []
    for part in ("operators", "panels", "backend"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


@pytest.fixture(scope="module")
def said() -> str:
    return strings().lower()


@pytest.mark.parametrize("page", [MANUAL, ROOT / "README.md"], ids=["manual", "README"])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines()}
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http"):
            assert (page.parent / target).is_file(), target


def test_pictures_are_small_and_used() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    texts = MANUAL.read_text(encoding="utf-8") + (ROOT / "README.md").read_text(encoding="utf-8")
    assert pictures and not [path.name for path in pictures if f"pictures/{path.name}" not in texts]
    sizes = {path.name: path.stat().st_size for path in pictures}
    assert max(sizes.values()) <= PICTURE_BYTES and sum(sizes.values()) <= ALL_BYTES, sizes


def test_messages_and_labels_exist(said: str) -> None:
    text = MANUAL.read_text(encoding="utf-8")
    wrong = []
    for quoted in re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", text):
        for label in re.split(r" ▸ |: | / |…|\d+", quoted):
            label = label.strip()
            if len(label) > 2 and label not in BLENDER.split("|") and label.lower() not in said:
                wrong.append(label)
    assert not wrong, wrong
