"""Files and folders that are there whole or not at all."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from datamodules.core.files import nearby, replaced, sweep


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_takes_the_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with suppress(KeyboardInterrupt), replaced(target) as scratch:
        scratch.write_text("half")
        assert target.read_text() == "old"
        raise KeyboardInterrupt
    assert (target.read_text(), names(tmp_path)) == ("old", {"file"})
    with replaced(target, durable=True) as scratch:
        scratch.write_text("new")
    assert (target.read_text(), names(tmp_path)) == ("new", {"file"})


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with replaced(target) as scratch:
        scratch.mkdir()
        (scratch / "file").touch()
    assert names(target) == {"file"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_others_may_read_what_the_umask_lets_them(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with replaced(tmp_path / "file", durable=True) as scratch:
            scratch.touch()
        with replaced(tmp_path / "folder") as scratch:
            scratch.mkdir()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "folder")]
    assert modes == [0o666 & ~umask, 0o777 & ~umask]


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    killed = replaced(tmp_path / "file")
    killed.__enter__().write_text("half")
    (tmp_path / ".file.mine").touch()
    sweep(tmp_path, older_s=60)
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == {".file.mine"}


def test_windows_opens_no_folders_and_has_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.open

    def refuses_folders(path: Any, *args: Any, **kwargs: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *args, **kwargs)

    def no_way(path: Any) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os, "open", refuses_folders)
    with replaced(tmp_path / "file", durable=True) as scratch:
        scratch.write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    monkeypatch.setattr(os.path, "relpath", no_way)
    assert nearby(tmp_path) == str(tmp_path)
