# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, checking and repairing environments, on a tiny package of our own instead of gigabytes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backend import blender, environment, provision
from backend.console import Console
from backend.environment import STAMP, Environment, Recipe
from backend.errors import UserError
from backend.packages import Source

CHECK = 'import tiny_unrender_part, json; print("CHECK " + json.dumps({"tiny": tiny_unrender_part.VERSION}))'


VARIABLES = ("TORCH_INDEX", "WHEELS", "OFFLINE")


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with one module that says its version."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": f'VERSION = "{version}"\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD,,\n"
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """An environment of one tiny package, installed by pip from a folder without any registry."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "tiny-unrender-part", "1.0")
    write_wheel(wheels, "tiny-unrender-test", "2.0")
    (tmp_path / "requirements.txt").write_text("tiny-unrender-part==1.0  # ours\n")
    (tmp_path / "requirements-test.txt").write_text("tiny-unrender-test==2.0\n")
    monkeypatch.setenv("UNRENDER_HOME", str(tmp_path / "home"))
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", *(f"UNRENDER_{name}" for name in VARIABLES)):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return Recipe(
        "tiny", tmp_path / "requirements.txt", tmp_path / "requirements-test.txt", CHECK, ("json",), "TINY_PYTHON", 1e6
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes environments without pip, by unpacking the wheel, and lists what was done."""
    done: list[str] = []

    def make_venv(python: str, folder: Path, log: Path) -> None:
        done.append("venv")
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)

    def run(self: provision.PipRun, arguments: list[str]) -> None:
        if "-r" not in arguments:
            return
        requirements = Path(arguments[arguments.index("-r") + 1])
        done.append(requirements.name)
        wheels = Path(os.environ["PIP_FIND_LINKS"])
        for name, version in environment.pins(requirements).items():
            with zipfile.ZipFile(wheels / f"{name.replace('-', '_')}-{version}-py3-none-any.whl") as wheel:
                wheel.extractall(provision.site_packages(self.python.parent.parent)[0])

    monkeypatch.setattr(provision, "make_venv", make_venv)
    monkeypatch.setattr(provision.PipRun, "run", run)
    return done


def quiet() -> Console:
    return Console(io.StringIO())


def test_made_by_pip_then_left_alone_then_extended(recipe: Recipe) -> None:
    console = quiet()
    tiny = Environment(recipe)
    assert tiny.defect() == "not there"
    python = tiny.ensure(console)
    assert python == tiny.interpreter and tiny.defect() == ""
    assert tiny.stamp()["check"] == {"tiny": "1.0"}
    output = console.stream.getvalue()  # type: ignore[attr-defined]
    assert "ready after" in output and str(tiny.folder) in output
    before = (tiny.folder / STAMP).stat().st_mtime_ns
    tiny.ensure(console)
    assert (tiny.folder / STAMP).stat().st_mtime_ns == before
    assert tiny.defect(tests=True) == "tiny-unrender-test is missing"
    tiny.ensure(console, tests=True)
    assert tiny.defect(tests=True) == ""
    assert (tiny.folder / STAMP).stat().st_mtime_ns == before
    assert not list(tiny.folder.parent.glob("*.lock"))


@pytest.mark.skipif(os.name != "posix", reason="uses a shell script in place of Python")
def test_pip_failure_is_one_line_with_the_log_and_nothing_that_looks_complete(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_venv(python: str, folder: Path, log: Path) -> None:
        script = provision.interpreter(folder)
        script.parent.mkdir(parents=True)
        script.write_text('#!/bin/sh\necho "ERROR: No matching distribution found for $(echo $* | wc -w)"\nexit 1\n')
        script.chmod(0o755)

    monkeypatch.setattr(provision, "make_venv", make_venv)
    tiny = Environment(recipe)
    with pytest.raises(UserError) as caught:
        tiny.ensure(quiet())
    # The second run of pip has ten arguments; the first, which may fail, has other ones.
    assert "the package registry has no 10 for this Python" in str(caught.value)
    assert str(tiny.log) in str(caught.value) and tiny.log.is_file()
    assert tiny.defect() == "not complete"
    assert not list(tiny.folder.parent.glob("*.lock"))


def remove_stamp(tiny: Environment) -> None:
    (tiny.folder / STAMP).unlink()


def spoil_stamp(tiny: Environment) -> None:
    (tiny.folder / STAMP).write_text("{")


def move_stamp(tiny: Environment) -> None:
    stamp = json.loads((tiny.folder / STAMP).read_text())
    (tiny.folder / STAMP).write_text(json.dumps({**stamp, "folder": "/elsewhere"}))


def remove_python(tiny: Environment) -> None:
    tiny.interpreter.unlink()


def remove_package(tiny: Environment) -> None:
    next(provision.site_packages(tiny.folder)[0].glob("tiny*.dist-info/RECORD")).unlink()


@pytest.mark.parametrize("damage", [remove_stamp, spoil_stamp, move_stamp, remove_package])
def test_damage_is_seen_and_repaired(recipe: Recipe, made: list[str], damage: Callable[[Environment], None]) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    assert made == ["venv", "requirements.txt"]
    damage(tiny)
    assert tiny.defect()
    tiny.ensure(quiet())
    assert made == ["venv", "requirements.txt"] * 2
    assert tiny.defect() == ""


def move_base(tiny: Environment) -> None:
    """As when Blender, whose Python the environment was made with, is updated into another folder."""
    config = tiny.folder / "pyvenv.cfg"
    config.write_text(f"home = {tiny.folder / 'gone'}\ninclude-system-site-packages = false\n")
    if os.name == "posix":
        tiny.interpreter.unlink()
        tiny.interpreter.symlink_to(tiny.folder / "gone" / "python")


@pytest.mark.parametrize("damage", [remove_python, move_base])
def test_another_python_takes_the_place_of_one_that_is_gone(
    recipe: Recipe, made: list[str], damage: Callable[[Environment], None]
) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    damage(tiny)
    assert tiny.defect() == "its Python is gone"
    tiny.ensure(quiet())
    assert made == ["venv", "requirements.txt"]  # nothing was installed again
    assert tiny.defect() == "" and tiny.check() == {"tiny": "1.0"}
    assert "gone" not in (tiny.folder / "pyvenv.cfg").read_text()


def test_where_packages_are_broken_too_it_is_made_anew(recipe: Recipe, made: list[str]) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    remove_python(tiny)
    (provision.site_packages(tiny.folder)[0] / "tiny_unrender_part.py").unlink()
    tiny.ensure(quiet())
    assert made == ["venv", "requirements.txt"] * 2 and tiny.defect() == ""


def test_a_self_test_is_forgotten_with_what_it_tested(recipe: Recipe, made: list[str]) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    assert tiny.self_test() == {}
    tiny.note_self_test({"passed": True, "device": "cpu"})
    assert Environment(recipe).self_test() == {"passed": True, "device": "cpu"}
    tiny.ensure(quiet(), spoiled="its self-test fails")
    assert len(made) == 4 and tiny.self_test() == {} and tiny.defect() == ""


def test_from_a_folder_of_wheels_without_any_index(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # where nothing answers
    tiny = Environment(recipe)
    began = time.monotonic()
    tiny.ensure(quiet(), source=Source(wheels=tmp_path / "wheels"))
    assert tiny.defect() == "" and tiny.stamp()["check"] == {"tiny": "1.0"}
    assert time.monotonic() - began < 30
    command = next(line for line in tiny.log.read_text().splitlines() if " pip install " in line)
    assert f"--no-index --find-links {tmp_path / 'wheels'} -r {recipe.requirements}" in command


def test_a_folder_without_the_wheels_is_refused_before_anything_is_removed(
    recipe: Recipe, made: list[str], tmp_path: Path
) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    (tiny.folder / STAMP).unlink()
    (tmp_path / "wheels" / "tiny_unrender_part-1.0-py3-none-any.whl").unlink()
    with pytest.raises(UserError, match=r"found none of tiny-unrender-part==1\.0.*pip download"):
        tiny.ensure(quiet(), source=Source(wheels=tmp_path / "wheels"))
    with pytest.raises(UserError, match="no such folder"):
        tiny.ensure(quiet(), source=Source(wheels=tmp_path / "none"))
    assert tiny.interpreter.exists() and len(made) == 2


def test_offline_nothing_is_asked_for(recipe: Recipe, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNRENDER_OFFLINE", "1")
    tiny = Environment(recipe)
    with pytest.raises(UserError, match="nothing may be downloaded.*Allow online access"):
        tiny.ensure(quiet())
    assert made == [] and not tiny.folder.exists()
    tiny.ensure(quiet(), source=Source())
    tiny.ensure(quiet(), verify=True)  # what is there needs no network
    assert made == ["venv", "requirements.txt"]


def test_verify_finds_what_only_an_import_shows(recipe: Recipe, made: list[str]) -> None:
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    module = provision.site_packages(tiny.folder)[0] / "tiny_unrender_part.py"
    module.write_text("import no_such_module\n")
    tiny.ensure(quiet())
    assert len(made) == 2  # the quick look cannot see it
    tiny.ensure(quiet(), verify=True)
    assert len(made) == 4 and "VERSION" in module.read_text()
    tiny.ensure(quiet(), verify=True)
    assert len(made) == 4


def test_a_failing_self_test_leaves_no_stamp(recipe: Recipe, made: list[str]) -> None:
    broken = Recipe(**{**vars(recipe), "check": "raise RuntimeError('no luck')"})
    with pytest.raises(UserError, match="RuntimeError: no luck"):
        Environment(broken).ensure(quiet())
    assert Environment(broken).defect() == "not complete"


def test_another_index_for_torch_means_another_build(recipe: Recipe, made: list[str], tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", "torch", "2.0")
    recipe.requirements.write_text("tiny-unrender-part==1.0\ntorch==2.0\n")
    tiny = Environment(recipe)
    tiny.ensure(quiet())
    tiny.ensure(quiet(), verify=True, source=Source(torch_index="file:///one"))
    assert len(made) == 4 and tiny.stamp()["torch_index"] == "file:///one"
    tiny.ensure(quiet(), verify=True)
    assert len(made) == 4


def test_other_pins_or_another_python_mean_another_folder(recipe: Recipe) -> None:
    first = Environment(recipe).folder
    assert Environment(recipe, version=(3, 99)).folder != first
    recipe.requirements.write_text("tiny-unrender-part==1.1\n")
    assert Environment(recipe).folder != first


def test_two_processes_make_it_once(recipe: Recipe, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Environment(recipe)
    lock = tiny.folder.with_name(tiny.folder.name + ".lock")
    lock.parent.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from backend.processes import Claim\n"
        "assert Claim(Path(sys.argv[1])).take(); print('taken', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "taken\n"
    thread = threading.Thread(target=tiny.ensure, args=(quiet(),))
    thread.start()
    thread.join(1.0)
    assert thread.is_alive() and made == []  # waits
    other.kill()
    other.communicate()
    thread.join(30.0)
    assert made == ["venv", "requirements.txt"]  # goes on: the other one died without giving its lock up


def test_too_little_room_is_said_before_the_download(recipe: Recipe, made: list[str]) -> None:
    greedy = Recipe(**{**vars(recipe), "room": 1e18})
    with pytest.raises(UserError, match="not enough room on the disk"):
        Environment(greedy).ensure(quiet())
    assert made == []


def test_a_home_that_cannot_be_written(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNRENDER_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UserError, match="set UNRENDER_HOME"):
        Environment(recipe).ensure(quiet())


def test_a_python_without_venv(recipe: Recipe, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'The virtual environment was not created: ensurepip is not available'\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"apt-get install python3\.\d+-venv"):
        Environment(recipe, str(python)).ensure(quiet())


def test_pins_of_the_repository_agree() -> None:
    backend = environment.pins(environment.BACKEND.requirements)
    tests = environment.pins(environment.BACKEND.test_requirements)
    assert backend["torch"] and backend["warp-lang"]
    assert {name for name in backend if name in tests and backend[name] != tests[name]} == set()
    for version in environment.BLENDER_PYTHONS:
        assert environment.pins(environment.blender_recipe(version).requirements)["bpy"].startswith("5.")


def test_named_interpreters(recipe: Recipe, tmp_path: Path) -> None:
    named = {"TINY_PYTHON": sys.executable}
    assert environment.named_interpreter(recipe, {}) is None
    assert environment.named_interpreter(recipe, named) == Path(sys.executable)
    assert environment.named_interpreter(recipe, {"TINY_PYTHON": "python3"}) is not None
    with pytest.raises(UserError, match="not a working Python"):
        environment.named_interpreter(recipe, {"TINY_PYTHON": str(tmp_path / "none")})
    lacking = Recipe(**{**vars(recipe), "modules": ("json", "no_such_module_xyz")})
    with pytest.raises(UserError, match="without no_such_module_xyz"):
        environment.named_interpreter(lacking, named)


def test_find_python_and_the_command_lines_for_blender() -> None:
    assert blender.find_python((sys.version_info[0], sys.version_info[1])) == sys.executable
    assert blender.find_python((3, 99)) == ""
    module = blender.Blender(Path("py"), True, "bpy")
    assert module.command(Path("s.py"), ["a"]) == ["py", "s.py", "a"]
    program = blender.Blender(Path("blender"), False, "Blender")
    assert program.command(Path("s.py"), ["a"])[-3:] == ["s.py", "--", "a"]


@pytest.mark.parametrize(("version", "found"), [("4.5.3 LTS", True), ("5.2.0", True), ("3.4.1", False), ("x", False)])
@pytest.mark.skipif(os.name != "posix", reason="uses a shell script")
def test_a_blender_on_the_path_counts_if_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, found: bool
) -> None:
    program = tmp_path / "blender"
    program.write_text(f"#!/bin/sh\necho Blender {version}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (blender.installed_blender() is not None) == found
