"""A command replaces only files that it has written, and a killed one leaves nothing that nobody owns."""

import json
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.movies import file_bytes, listing
from support.processes import end_of

from pyama_dask.errors import OutputError
from pyama_dask.files.manifest import MANIFEST, check_free, read_manifest, writing_into


def write(folder, files, by="merge", **options):
    with writing_into(folder, by, **options) as stage:
        for name, content in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_text(content)


def contents(folder):
    return {name: content.decode() for name, content in file_bytes(folder, {MANIFEST}).items()}


def test_files_take_their_places_together_and_only_their_own_are_replaced(tmp_path):
    folder = tmp_path / "a" / "b"
    write(folder, {"x": "1", "sub/y": "1"})
    (folder / "sub" / "mine").write_text("mine")
    write(folder, {"z": "1"}, by="fit")
    write(folder, {"x": "2", "sub/new": "2"}, replace_all=True)
    assert contents(folder) == {"x": "2", "sub/new": "2", "sub/mine": "mine", "z": "1"}
    assert {name: entry.by for name, entry in read_manifest(folder).items()} == {
        "x": "merge", "sub/new": "merge", "z": "fit",
    }  # fmt: skip
    assert listing(tmp_path / "a") == {"b", "b/sub", *(f"b/{name}" for name in {*contents(folder), MANIFEST})}
    with pytest.raises(TypeError):
        write(tmp_path / "c" / "d", {"x": "1", "y": None})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_in_the_way_is_named_and_stays(tmp_path):
    write(tmp_path, {"x": "1", "old": "1"})
    (tmp_path / "x").write_text("edited")
    (tmp_path / "old").write_text("edited")
    (tmp_path / "notes").write_text("mine")
    before = file_bytes(tmp_path, set())
    for names in (["x"], ["notes"], ["new", "notes", "x"]):
        with pytest.raises(
            OutputError, match=r"was changed since\. Fix: move it, choose another folder, or .* --force"
        ):
            check_free(tmp_path, names)
        with pytest.raises(OutputError, match="was changed since"):
            write(tmp_path, dict.fromkeys(names, "2"))
        assert file_bytes(tmp_path, set()) == before
    write(tmp_path, {"notes": "mine"})  # the same bytes do not make it ours
    assert "notes" not in read_manifest(tmp_path)
    write(tmp_path, {"x": "2", "notes": "2"}, force=True, replace_all=True)
    assert contents(tmp_path) == {"x": "2", "notes": "2", "old": "edited"}
    assert set(read_manifest(tmp_path)) == {"x", "notes"}


def test_links_and_folders_are_not_followed_or_replaced(tmp_path):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "x").write_text("mine")
    (folder := tmp_path / "folder").mkdir()
    (folder / "sub").symlink_to(elsewhere)
    (folder / "x").symlink_to(elsewhere / "x")
    (folder / "y").mkdir()
    before = listing(tmp_path)
    for name in ("sub/x", "x", "y", "x/z"):
        with pytest.raises(OutputError, match="is a folder or a link"):
            write(folder, {name: "2"}, force=True)
    assert (listing(tmp_path), (elsewhere / "x").read_text()) == (before, "mine")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"files": 3}', '{"files": {"../mine": {"by": "m", "contents": [[4, 1]]}}}']
)
def test_a_damaged_record_owns_nothing(tmp_path, content):
    (tmp_path / "mine").write_text("mine")
    write(folder := tmp_path / "folder", {"x": "1"})
    (folder / MANIFEST).write_text(content)
    with pytest.raises(OutputError, match="was not written by pyama_dask"):
        check_free(folder, ["x"])
    write(folder, {"y": "1"}, replace_all=True)
    assert (contents(folder), (tmp_path / "mine").read_text()) == ({"x": "1", "y": "1"}, "mine")


def killed_at(folder, number):
    """Write, and die before the given file takes its place."""
    replace, done = Path.replace, []

    def dying(path, target):
        if target.name != MANIFEST and not done.append(target) and len(done) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = dying
    write(folder, {"a": "2", "sub/b": "2", "new": "2"}, replace_all=True)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_killed_command_leaves_whole_files_that_the_next_one_replaces(tmp_path, number):
    write(tmp_path, {"a": "1", "sub/b": "1", "old": "1"})
    process = get_context("fork").Process(target=killed_at, args=(tmp_path, number))
    process.start()
    assert end_of(process) == -signal.SIGKILL
    files = {path for path in tmp_path.iterdir() if ".partial" not in path.name}
    there = contents(tmp_path)
    assert {name for name, content in there.items() if "/" not in name and content == "1"} >= {"old"}
    assert len([path for path in tmp_path.iterdir() if path not in files]) == 1
    with writing_into(tmp_path, "fit") as stage:  # while it is in use, nobody else removes it
        write(tmp_path, {"a": "3", "sub/b": "3"}, replace_all=True)
        (stage / "fits").write_text("3")
    assert contents(tmp_path) == {"a": "3", "sub/b": "3", "fits": "3"}
    assert json.loads((tmp_path / MANIFEST).read_text())["files"].keys() == {"a", "sub/b", "fits"}
