"""Files that say what a folder of results holds: written and read back equal, and found again when it was moved."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyama_dask.analysis import pyama_files
from pyama_dask.errors import ConfigError, TableError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
KEYS = st.dictionaries(TEXT, PLAIN, max_size=4)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@st.composite
def contents(draw):
    """Parts of what a `processing_results.yaml` holds, without its folder."""
    pc, *fl = draw(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=4))
    channels = [channel for channel in (pc, *fl) if draw(st.booleans())]
    places = st.tuples(st.none() | st.integers(0, 30), st.lists(NAMES, min_size=1, max_size=3))
    products = st.dictionaries(
        st.sampled_from(["pc", "seg", "traces", "traces_csv", "fl"]), st.lists(places, max_size=3)
    )
    return {
        "pc": draw(st.sampled_from([pc, None])),
        "fl": tuple(fl),
        "features": {
            channel: tuple(draw(st.lists(NAMES, min_size=1, max_size=3))) for channel in channels if channel in fl
        },
        "files": draw(st.dictionaries(st.integers(0, 5000), products, max_size=3)),
        "params": draw(KEYS),
        "time_units": draw(st.sampled_from([None, "min", "h"])),
        "more": {f"x{name}": value for name, value in draw(KEYS).items()},
    }


def older(folder, **changes):
    """A folder as an older program left it, with traces of two channels."""
    (folder / "fov_000").mkdir(parents=True)
    for channel in (1, 2):
        (folder / "fov_000" / f"movie_fov_000_traces_ch_{channel}.csv").write_text("cell,frame\n")
    document = {
        "output_dir": str(folder),
        "channels": {"pc": 0, "fl": [1, 2]},
        "results_paths": {
            "0": {
                "pc": [0, f"{folder}/fov_000/movie_fov_000_pc_ch_0.npy"],
                "fl": [[1, f"{folder}/fov_000/a.npy"], [2, f"{folder}/fov_000/b.npy"]],
                "seg": None,
                "traces_csv": [[k, f"{folder}/fov_000/movie_fov_000_traces_ch_{k}.csv"] for k in (1, 2)],
            }
        },
        "params": {"segmentation": {"min_size": 50}},
        "time_units": "min",
    }
    (folder / "processing_results.yaml").write_text(yaml.safe_dump(document | changes))
    return folder


class TestConfig:
    @given(document=KEYS)
    def test_what_is_written_is_read_back_equal(self, folder, document):
        document = {name: value for name, value in document.items() if name not in ("input", "output")}
        document["output"] = str(folder)
        pyama_files.write_processing_config(folder / "processing_config.yaml", document)
        read = pyama_files.read_processing_config(folder / "processing_config.yaml")
        assert read == document
        assert list(read) == list(document)

    def test_of_a_run_that_was_moved_with_its_movie(self, copied, tmp_path):
        home = tmp_path / "new"
        home.mkdir()
        before = pyama_files.read_processing_config(copied / "processing_config.yaml")
        assert before["metadata"]["file"] == "movie.czi"
        text = yaml.safe_dump(before | {"input": "/gone/data/movie.czi", "output": "/gone/data/results"})
        shutil.move(copied, home / "results")
        (home / "results" / "processing_config.yaml").write_text(text)
        read = pyama_files.read_processing_config(home / "results" / "processing_config.yaml")
        assert (read["input"], read["output"]) == ("/gone/data/movie.czi", str(home / "results"))
        (home / "movie.czi").touch()
        read = pyama_files.read_processing_config(home / "results" / "processing_config.yaml")
        assert read["input"] == str(home / "movie.czi")

    def test_paths_that_count_from_where_a_program_was_started(self, tmp_path, monkeypatch):
        for folder in (tmp_path / "elsewhere", tmp_path / "data" / "results"):
            folder.mkdir(parents=True)
            (folder.parent / "movie.czi").touch()
        path = tmp_path / "data" / "results" / "processing_config.yaml"
        path.write_text("input: movie.czi\noutput: results\n")
        monkeypatch.chdir(tmp_path)
        assert pyama_files.read_processing_config(path)["input"] == str(tmp_path / "data" / "movie.czi")
        (tmp_path / "data" / "movie.czi").unlink()
        assert pyama_files.read_processing_config(path)["input"] == "movie.czi"

    @pytest.mark.parametrize(
        ("text", "error"), [("[1, 2]", TableError), ("a: b: c", ConfigError), ("a: 1\na: 2", ConfigError)]
    )
    def test_what_is_no_config(self, tmp_path, text, error):
        path = tmp_path / "processing_config.yaml"
        path.write_text(text)
        with pytest.raises(error, match=re.escape(str(path))):
            pyama_files.read_processing_config(path)


class TestResults:
    @given(given=contents())
    def test_what_is_written_is_read_back_equal(self, folder, given):
        files = {
            fov: {
                name: tuple((channel, folder.joinpath(*parts)) for channel, parts in of)
                for name, of in products.items()
            }
            for fov, products in given["files"].items()
        }
        found = pyama_files.ProcessingResults(folder, **(given | {"files": files}))
        pyama_files.write_processing_results(folder / "processing_results.yaml", found)
        assert pyama_files.read_processing_results(folder / "processing_results.yaml") == found

    def test_as_older_programs_wrote_it(self, tmp_path):
        folder = older(tmp_path / "old")
        found = pyama_files.read_processing_results(folder / "processing_results.yaml")
        assert (found.pc, found.fl, found.time_units) == (0, (1, 2), "min")
        assert found.params == {"segmentation": {"min_size": 50}}
        assert found.files[0]["seg"] == ()
        assert found.traces(0) == tuple((k, folder / "fov_000" / f"movie_fov_000_traces_ch_{k}.csv") for k in (1, 2))
        assert found.traces(9) == ()

    def test_a_folder_that_was_moved(self, tmp_path):
        older(tmp_path / "old").rename(tmp_path / "new")
        found = pyama_files.read_processing_results(tmp_path / "new" / "processing_results.yaml")
        assert found.output_dir == tmp_path / "new"
        assert all(path.parent == tmp_path / "new" / "fov_000" and path.exists() for _, path in found.traces(0))

    def test_of_a_folder_that_was_copied_the_copy_counts(self, tmp_path):
        shutil.copytree(older(tmp_path / "old"), tmp_path / "new")
        found = pyama_files.read_processing_results(tmp_path / "new" / "processing_results.yaml")
        assert {path.parent.parent for _, path in found.traces(0)} == {tmp_path / "new"}

    def test_a_folder_from_windows_without_its_root(self, tmp_path):
        path = "D:\\lab\\old\\fov_000\\movie_fov_000_traces_ch_1.csv"
        changes = {"output_dir": None, "results": {0: {"traces": path}}, "results_paths": None}
        folder = older(tmp_path / "new", **changes)
        text = (folder / "processing_results.yaml").read_text().replace("results_paths: null\n", "")
        (folder / "processing_results.yaml").write_text(text)
        found = pyama_files.read_processing_results(folder / "processing_results.yaml")
        assert found.traces(0) == ((None, folder / "fov_000" / "movie_fov_000_traces_ch_1.csv"),)

    @pytest.mark.parametrize("root", ["night1", "data\\night1", "/home/lab/data/night1", None])
    def test_paths_that_count_from_where_a_program_was_started(self, tmp_path, monkeypatch, root):
        files = ["fov_000/movie_fov_000_traces_ch_1.csv", "all.csv", "gone.csv"]
        for listed, name in (("night1", "night1"), ("data/night1", "night1"), ("./night1", "renamed")):
            if root is None and name == "renamed":
                continue  # nothing tells then where the output was
            pairs = [[k, f"{listed}/{file}"] for k, file in enumerate(files)]
            if root and "\\" in root:
                pairs = [[k, file.replace("/", "\\")] for k, file in pairs]
            home = tmp_path / listed.replace("/", "_").replace(".", "_")
            folder = older(home / name, output_dir=root, results_paths={"0": {"traces_csv": pairs}})
            (folder / "all.csv").touch()
            monkeypatch.chdir(home)
            for output in (folder, Path(name)):
                found = pyama_files.read_processing_results(output / "processing_results.yaml").traces(0)
                assert [path for _, path in found if path.exists()] == [output / file for file in files[:2]]
                assert len(found) == 3

    def test_what_stayed_where_it_was(self, tmp_path):
        (tmp_path / "elsewhere.csv").touch()
        changes = {"results_paths": {"0": {"traces": str(tmp_path / "elsewhere.csv"), "more": "beside.npy"}}}
        folder = older(tmp_path / "old", **changes)
        found = pyama_files.read_processing_results(folder / "processing_results.yaml")
        assert found.files[0] == {
            "traces": ((None, tmp_path / "elsewhere.csv"),),
            "more": ((None, folder / "beside.npy"),),
        }

    def test_inspected_copies_are_preferred(self, tmp_path):
        folder = older(tmp_path / "old")
        copy = folder / "fov_000" / "movie_fov_000_traces_ch_2_inspected.csv"
        copy.touch()
        assert pyama_files.read_processing_results(folder / "processing_results.yaml").traces(0)[1] == (2, copy)

    @pytest.mark.parametrize(
        "channels",
        [
            {"pc": [0, ["area"]], "fl": [[1, ["intensity_total"]]]},
            {"pc": {"channel": 0, "features": ["area"]}, "fl": [{"channel": 1, "features": ["intensity_total"]}]},
            {"pc": 0, "pc_features": ["area"], "fl_features": {"1": ["intensity_total"]}},
            {"pc": 0, "pc_features": ["area"], "fl": [1], "fl_features": {1: ["intensity_total"]}},
        ],
    )
    def test_every_way_to_write_channels(self, tmp_path, channels):
        found = pyama_files.read_processing_results(
            older(tmp_path / "old", channels=channels) / "processing_results.yaml"
        )
        assert (found.pc, found.fl) == (0, (1,))
        assert found.features == {0: ("area",), 1: ("intensity_total",)}

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"results_paths": [1]}, "has neither 'results_paths'"),
            ({"results_paths": {"a": {}}}, "results of 'a'"),
            ({"results_paths": {"0": [1]}}, "results of '0'"),
            ({"results_paths": {"0": {"fl": [[1, 2]]}}}, "FOV 0, fl: must be a path, or channels with paths"),
            ({"channels": {"fl": ["GFP"]}}, "channels.fl: 'GFP' is not a channel"),
            ({"channels": {"pc": {"features": []}}}, "channels.pc"),
            ({"channels": [0, 1]}, "channels: must hold keys, not [0, 1]"),
            ({"params": [1]}, "params: must hold keys, not [1]"),
        ],
    )
    def test_what_is_not_right_is_refused(self, tmp_path, changes, said):
        path = older(tmp_path / "old", **changes) / "processing_results.yaml"
        with pytest.raises(TableError, match=re.escape(said)) as error:
            pyama_files.read_processing_results(path)
        assert str(error.value).startswith(str(path))

    def test_one_that_is_not_there(self, tmp_path):
        with pytest.raises(TableError, match="No such file"):
            pyama_files.read_processing_results(Path(tmp_path / "processing_results.yaml"))
