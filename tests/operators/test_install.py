# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's installation from the preferences, in Blender, with the real backend unless it is to misbehave."""

import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest
from bl_ext.dev.unrender.backend.environment import STAMP
from bl_ext.dev.unrender.backend.processes import Claim
from bl_ext.dev.unrender.operators import follow, install_state, queue_jobs
from bl_ext.dev.unrender.operators.jobs import JobWatch
from bl_ext.dev.unrender.operators.queue_files import Entry

from tests.operators import extension, installed

GO_ON = 'while :; do echo \'{"text": "compiling kernels", "share": 0.5}\'; sleep 0.1; done'


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A data folder of the test's own; what is installing there when the test ends is ended."""
    preferences = bpy.context.preferences
    ours = preferences.addons[extension.MODULE].preferences
    install_state.unregister()
    ours.home = str(tmp_path / "home")
    preferences.system.use_online_access = True
    settle()
    yield tmp_path / "home"
    watch = install_state._known.watch
    if watch is not None and watch.process is not None:
        watch.process.terminate()
        watch.process.wait()
    settle()
    preferences.system.use_online_access = False
    ours.home = ours.python = ours.wheels = ours.torch_index = ""
    settle()
    install_state.unregister()


def preferences() -> Any:
    return bpy.context.preferences.addons[extension.MODULE].preferences


def pump(until: Callable[[], bool] = lambda: False, seconds: float = 300) -> None:
    """Calls the timer's function as Blender would, until nothing is left to wait for: timers never fire here."""
    deadline = time.monotonic() + seconds
    while install_state.pump() is not None and not until():
        assert time.monotonic() < deadline, install_state.state()
        time.sleep(0.01)


def settle() -> install_state.State:
    """What is there now."""
    install_state.refresh()
    pump()
    return install_state.state()


def settle_at_once() -> install_state.State:
    """What is there now, without waiting for what others install."""
    install_state.refresh()
    install_state._known.thread.join()
    return install_state.state()


def stand_in(tmp_path: Path, does: str) -> Path:
    """A Python of the user's own in which the self-test misbehaves."""
    program = tmp_path / "python"
    real = installed.real_python()
    program.write_text(f'#!/bin/sh\ncase "$*" in *selftest*) {does};; esac\nexec "{real}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def refusal(operator: Any, **arguments: Any) -> str:
    """Why a button is gray."""
    with pytest.raises(RuntimeError) as caught:
        operator(**arguments)
    return str(caught.value)


def test_states(base: Path) -> None:
    assert settle().status == "missing"
    environment = installed.write(base)
    found = settle()
    assert (found.status, found.torch, found.folder) == ("untested", "2.13.0", environment.folder)
    environment.note_self_test(installed.GPU)
    found = settle()
    assert found.ready and found.device == "NVIDIA GeForce RTX 4090" and found.memory == 25_757_220_864
    environment.note_self_test({"passed": False, "reason": "no kernel image"})
    found = settle()
    assert (found.status, found.reason) == ("broken", "the self-test failed: no kernel image")
    next(environment.folder.glob("*/*/site-packages/torch-*")).joinpath("RECORD").unlink()
    assert (settle().status, settle().reason) == ("broken", "torch is missing")
    environment.interpreter.unlink()
    assert settle().reason == "its Python is gone"
    (environment.folder / STAMP).write_text("{")
    assert settle().reason == "not complete"


def test_a_gpu_that_is_not_used_is_said(base: Path) -> None:
    installed.write(base, {"passed": True, "device": "cpu"}, note="RTX 3060 is not used: its driver is too old")
    assert settle().ready and "driver is too old" in settle().note


def test_sizes_and_installations_of_other_pythons(base: Path) -> None:
    environment = installed.write(base, installed.GPU)
    other = base / "environments" / "backend-3.9-0123456789"
    other.mkdir()
    (other / "file").write_bytes(b"x" * 5000)
    found = settle()
    assert found.others == (other,) and found.others_size == 5000
    assert found.size == sum(path.lstat().st_size for path in environment.folder.rglob("*") if not path.is_dir())


def test_offline_refuses_with_the_remedy(base: Path, tmp_path: Path) -> None:
    bpy.context.preferences.system.use_online_access = False
    assert "Allow Online Access" in refusal(bpy.ops.unrender.install)
    assert "Allow Online Access" in refusal(bpy.ops.unrender.repair)
    assert install_state.environ(bpy.context)["UNRENDER_OFFLINE"] == "1"
    preferences().wheels = str(tmp_path)
    assert bpy.ops.unrender.install.poll()
    environ = install_state.environ(bpy.context)
    assert environ["UNRENDER_WHEELS"] == str(tmp_path) and "UNRENDER_OFFLINE" not in environ


def test_a_wheels_folder_without_wheels_is_refused_by_the_backend(base: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    preferences().wheels = str(wheels)
    preferences().torch_index = "https://host/whl/cu130"
    assert bpy.ops.unrender.install() == {"FINISHED"}
    assert install_state.state().status == "installing"
    assert "being installed" in refusal(bpy.ops.unrender.install)
    pump()
    found = install_state.state()
    assert found.status == "missing" and "wheels are missing" in found.reason and "torch==" in found.reason
    assert found.reason == install_state.failure()
    assert found.reason in install_state.choices().log.read_text()
    install_state.unregister()  # as after a restart of Blender
    assert settle().reason == found.reason


def test_a_failed_repair_leaves_what_is_there(base: Path, tmp_path: Path) -> None:
    environment = installed.write(base, installed.GPU)
    (environment.folder / STAMP).unlink()
    (tmp_path / "wheels").mkdir()
    preferences().wheels = str(tmp_path / "wheels")
    assert settle().reason == "not complete"
    assert bpy.ops.unrender.repair() == {"FINISHED"}
    pump()
    assert install_state.state().status == "broken" and "wheels are missing" in install_state.state().reason
    assert environment.interpreter.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="uses links")
def test_an_updated_blender_repairs_without_installing_again(base: Path) -> None:
    environment = installed.link_real(base)
    installed.share_kernels(base)
    environment.interpreter.unlink()
    environment.interpreter.symlink_to(base / "blender-before-its-update" / "python")
    assert settle().reason == "its Python is gone"
    bpy.context.preferences.system.use_online_access = True
    assert bpy.ops.unrender.repair() == {"FINISHED"}
    pump()
    assert install_state.failure() == ""
    found = install_state.state()
    assert found.ready and found.device
    assert "putting" in install_state.choices().log.read_text()


def test_the_real_self_test_survives_loading_a_file(base: Path) -> None:
    installed.share_kernels(base)
    preferences().python = str(installed.real_python())
    found = settle()
    assert (found.status, found.own_python) == ("untested", True)
    for operator in (bpy.ops.unrender.install, bpy.ops.unrender.repair, bpy.ops.unrender.remove_backend):
        assert "'Backend Python'" in refusal(operator)
    assert bpy.ops.unrender.self_test() == {"FINISHED"}
    shares, longest = [], 0.0
    while True:
        began = time.thread_time()
        waiting = install_state.pump()
        longest = max(longest, time.thread_time() - began)
        if waiting is None:
            break
        if install_state.state().status == "installing":
            if not shares:
                bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
            shares.append(install_state.state().fraction)
        time.sleep(0.02)
    assert install_state.state().ready and install_state.failure() == ""
    assert shares == sorted(shares) and len(set(shares)) > 3
    assert longest < 0.05
    assert not list(extension.ROOT.glob("backend/**/events.jsonl"))


@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script")
def test_stopped(base: Path, tmp_path: Path) -> None:
    preferences().python = str(stand_in(tmp_path, "exec sleep 60"))
    settle()
    assert bpy.ops.unrender.self_test() == {"FINISHED"}
    pump(lambda: install_state.state().text == "loading libraries")
    assert bpy.ops.unrender.stop_install() == {"FINISHED"}
    assert install_state.state().text == "stopping"
    pump()
    assert (install_state.state().status, install_state.failure()) == ("untested", "")
    assert "Nothing is being installed" in refusal(bpy.ops.unrender.stop_install)


@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script")
@pytest.mark.parametrize(
    ("does", "said"),
    [("echo no such driver; exit 3", "no such driver"), ("kill -SEGV $$", "exit code -11")],
)
def test_a_self_test_that_fails_says_why(base: Path, tmp_path: Path, does: str, said: str) -> None:
    preferences().python = str(stand_in(tmp_path, does))
    settle()
    assert bpy.ops.unrender.self_test() == {"FINISHED"}
    pump()
    assert install_state.state().status == "broken"
    assert install_state.state().reason.startswith("the self-test failed") and said in install_state.state().reason


@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script")
def test_found_again_by_a_restarted_blender_and_its_crash_is_seen(base: Path, tmp_path: Path) -> None:
    preferences().python = str(stand_in(tmp_path, GO_ON))
    settle()
    assert bpy.ops.unrender.self_test() == {"FINISHED"}
    pump(lambda: install_state.state().fraction == 0.5)
    process = install_state._known.watch.process
    install_state.unregister()
    assert install_state.state().status == "checking"
    install_state.refresh()
    pump(lambda: install_state.state().fraction == 0.5)
    assert (install_state.state().status, install_state.state().text) == ("installing", "compiling kernels")
    process.kill()
    process.wait()
    pump()
    assert install_state.state().status == "untested" and install_state.failure()


def test_removed_with_the_installations_of_other_pythons(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_begin, remove = threading.Event(), install_state.disk.remove
    monkeypatch.setattr(install_state.disk, "remove", lambda folders: (may_begin.wait(10), remove(folders)))
    environment = installed.write(base, installed.GPU)
    other = base / "environments" / "backend-3.9-0123456789"
    unrelated = base / "environments" / "blender-3.11-0123456789"
    kernels = base / "cache" / "warp"
    for folder in (other, unrelated, kernels):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    settle()
    assert bpy.ops.unrender.remove_backend(only_others=True) == {"FINISHED"}
    assert install_state.state().status == "removing"
    assert "being removed" in refusal(bpy.ops.unrender.self_test)
    may_begin.set()
    pump()
    assert install_state.state().ready and not other.exists() and environment.folder.exists() and kernels.exists()
    other.mkdir()
    settle()
    assert bpy.ops.unrender.remove_backend() == {"FINISHED"}
    pump()
    assert install_state.state().status == "missing" and install_state.failure() == ""
    assert [path.name for path in (base / "environments").iterdir()] == [unrelated.name] and not kernels.exists()
    assert "nothing to remove" in refusal(bpy.ops.unrender.remove_backend)


def test_not_removed_while_a_reconstruction_uses_it(base: Path, tmp_path: Path) -> None:
    environment = installed.write(base, installed.GPU)
    settle()
    watch = JobWatch(tmp_path / "job")
    watch.status = "running"
    follow.WATCHES[watch.folder] = watch
    assert "reconstruction is running" in refusal(bpy.ops.unrender.remove_backend)
    assert "reconstruction is running" in refusal(bpy.ops.unrender.repair)
    assert environment.folder.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="puts a script in place of xdg-open")
def test_the_log_is_opened(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bpy.ops.unrender.open_install_log() == {"CANCELLED"}
    log = install_state.choices().log
    log.parent.mkdir(parents=True)
    log.write_text("said\n")
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert bpy.ops.unrender.open_install_log() == {"FINISHED"}
    assert (tmp_path / "opened").read_text().strip() == str(log)


def test_the_data_folder_may_be_changed(base: Path, tmp_path: Path) -> None:
    installed.write(base, installed.GPU)
    assert settle().ready
    preferences().home = str(tmp_path / "elsewhere")  # looks again by itself
    pump()
    assert install_state.state().status == "missing"


def test_what_others_install_is_seen(base: Path) -> None:
    """The first reconstruction installs what is missing, and so does another Blender."""
    assert settle().status == "missing"
    environment = installed.write(base)
    install_state._known.next_look = 0.0
    install_state.glance()
    pump()
    assert install_state.state().status == "untested"
    claim = Claim(environment.lock)
    assert claim.take()
    assert settle_at_once().status == "installing"
    assert "being installed" in refusal(bpy.ops.unrender.install)
    claim.release()
    environment.note_self_test(installed.GPU)
    pump()
    assert install_state.state().ready


@pytest.mark.skipif(sys.platform == "win32", reason="uses a shell script")
def test_a_reconstruction_installs_from_the_chosen_places(base: Path, tmp_path: Path) -> None:
    """What is missing comes from the wheels folder and the index of the preferences, then too."""
    told = tmp_path / "told"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nenv > "{told}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    preferences().python = str(program)
    preferences().wheels, preferences().torch_index = str(tmp_path), "https://example.org/whl"
    watch = queue_jobs.launch(Entry(str(tmp_path / "capture"), str(tmp_path / "job")))
    assert watch.process is not None
    watch.process.wait(timeout=20)
    variables = dict(line.split("=", 1) for line in told.read_text().splitlines() if "=" in line)
    assert variables["UNRENDER_WHEELS"] == str(tmp_path)
    assert variables["UNRENDER_TORCH_INDEX"] == "https://example.org/whl"
    assert variables["UNRENDER_HOME"] == str(base)
