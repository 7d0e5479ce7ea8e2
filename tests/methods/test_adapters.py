"""Ready plugins: with the packages they work with where these are installed, and with stand-ins for them anywhere."""

import json
import logging
import sys
import types
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from support.movies import config
from support.strategies import movie, plan_of

import pyama_dask
from pyama_dask.errors import ConfigError, PlanError
from pyama_dask.methods import optional
from pyama_dask.methods.adapters import btrack as our_btrack
from pyama_dask.methods.adapters import cellpose as our_cellpose
from pyama_dask.methods.device import gpu_owned
from pyama_dask.methods.optional import READY
from pyama_dask.methods.registry import BUILT_IN, find_method, is_plugin, known_methods, method_identity
from pyama_dask.plan.resolve import plugins
from pyama_dask.plan.resources import BLOCK_MEMORY, FORKED_BASE, PACKAGES, automatic_block, task_memory
from pyama_dask.runs.method_trial import try_methods

CELLPOSE = {"segmentation_method": "cellpose", "segmentation_params": {}}
BTRACK = {"tracking_method": "btrack"}
EVERY = [(kind, name) for kind, names in READY.items() for name in names]
GIB = 2**30


@pytest.fixture
def versions(monkeypatch):
    """Versions of packages, as if they were installed."""
    found = {"cellpose": "4.2.1", "btrack": "0.7.0"}
    monkeypatch.setattr(optional, "installed_version", lambda package: found.get(package, ""))
    return found


@pytest.fixture
def none_installed(versions):
    versions.clear()


def boxes_at(*centres, size=10):
    return np.array([[y - size, x - size, y + size, x + size] for y, x in centres], "int32").reshape(-1, 4)


# --------------------------------------------------------------------------------------- by name, before any work


class TestNames:
    @pytest.mark.parametrize(("kind", "name"), EVERY)
    def test_one_without_its_package_is_refused_with_the_command(self, none_installed, kind, name):
        said = rf"{kind} '{name}' needs a package that is not installed\. Fix: pip install 'pyama-dask\[{name}\]'"
        with pytest.raises(ConfigError, match=said):
            find_method(kind, name)
        key = {"segmenter": "segmentation_method", "tracker": "tracking_method"}[kind]
        with pytest.raises(ConfigError, match=f"^params: {said}"):
            plan_of(movie(), {key: name})

    @pytest.mark.parametrize(("kind", "name"), EVERY)
    def test_they_are_listed_with_what_they_need(self, versions, kind, name):
        assert known_methods()[kind][name] == f"pyama_dask, with {name} {versions[name]}"
        versions.clear()
        assert known_methods()[kind][name] == f"needs pip install 'pyama-dask[{name}]'"

    def test_they_are_among_the_names_that_are_known(self):
        with pytest.raises(
            ConfigError, match=r"'cellpos' is not a segmenter; known are: logstd, bright, unet, cellpose\. Fix: "
        ):
            find_method("segmenter", "cellpos")

    def test_the_command_line_lists_them(self, none_installed, capsys):
        from pyama_dask.cli.processing import plugins as command

        command(as_json=True)
        assert json.loads(capsys.readouterr().out)["tracker"]["btrack"] == "needs pip install 'pyama-dask[btrack]'"

    @pytest.mark.parametrize(("kind", "name"), EVERY)
    def test_no_built_in_method_has_their_name(self, kind, name):
        assert name not in BUILT_IN[kind]
        assert is_plugin(kind, name)

    @pytest.mark.parametrize(("kind", "name"), EVERY)
    def test_the_version_of_the_package_is_part_of_their_identity(self, versions, kind, name):
        assert method_identity(kind, name) == f"{name}@{versions[name]}"

    @pytest.mark.parametrize(("named", "step"), [(CELLPOSE, "segment"), (BTRACK, "track")])
    def test_an_upgrade_redoes_their_step_and_not_those_before(self, versions, named, step):
        before = plan_of(movie(), named)
        versions.update(cellpose="4.3", btrack="0.8")
        after = plan_of(movie(), named)
        changed = {
            one
            for a, b in zip(before.tasks, after.tasks, strict=True)
            for one in a.digests
            if a.digests[one] != b.digests[one]
        }
        assert step in changed
        assert "copy" not in changed
        assert ("segment" in changed) == (step == "segment")

    def test_their_parameters_are_checked(self, versions):
        filled = plan_of(movie(), CELLPOSE | BTRACK).job.config.params
        assert filled.segmentation_params["model"] == "cpsam_v2"
        assert filled.tracking_params["max_search_radius"] == 50
        for key, value in (("segmentation_params", {"diameter": 0}), ("tracking_params", {"max_lost": 11})):
            with pytest.raises(ConfigError, match=rf"params\.{key}\.{next(iter(value))}: "):
                plan_of(movie(), CELLPOSE | BTRACK | {key: value})

    def test_the_log_says_that_they_are_run(self, versions):
        said = plugins(plan_of(movie(), CELLPOSE | BTRACK).job.config)
        for line, (kind, name) in zip(said, EVERY, strict=True):
            assert line.startswith(f"{kind} {name} is run from ")
            assert line.endswith(f"adapters/{name}.py, with {name} {versions[name]}")


class TestMemory:
    def test_the_plan_knows_what_cellpose_needs(self, versions):
        shape = (1024, 1024)
        with_it, without = (plan_of(movie(shape=shape), params).job.config for params in (CELLPOSE, {}))
        more = [
            task_memory(with_it, kind, shape, 4) - task_memory(without, kind, shape, 4) for kind in ("ingest", "link")
        ]
        assert more == [READY["segmenter"]["cellpose"].memory + 120 * 2**20 + PACKAGES, PACKAGES]

    def test_a_worker_that_is_too_small_is_told_before_the_run(self, versions):
        with pytest.raises(PlanError, match=r"ingest-fov000-b000 would need 3\d\d\d MiB, but a worker has 2048 MiB"):
            plan_of(movie(), CELLPOSE, memory=2 * GIB)
        assert plan_of(movie(), CELLPOSE, memory=4 * GIB).tasks

    def test_blocks_stay_as_they_are_where_there_is_room(self, versions):
        shape = (2048, 2048)
        with_it, without = (plan_of(movie(shape=shape), params).job.config for params in (CELLPOSE, {}))
        blocks = [automatic_block(of, shape, 100, 16 * GIB) for of in (with_it, without)]
        assert blocks[0] == blocks[1] > 1
        assert task_memory(with_it, "ingest", shape, blocks[0]) > FORKED_BASE + BLOCK_MEMORY

    def test_nothing_of_it_is_needed_where_nothing_is_segmented(self, versions):
        assert plan_of(movie(), CELLPOSE | {"copy_only": True}, memory=GIB).tasks


# ---------------------------------------------------------------------------------------------------- cellpose


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of weights, with some that are none."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "cpsam_v2").touch()
    monkeypatch.setenv(our_cellpose.FOLDER, str(tmp_path / "models"))
    network = our_cellpose._network
    network.cache_clear()
    yield tmp_path / "models"
    network.cache_clear()


class TestWeights:
    def test_they_are_looked_for_where_cellpose_does(self, folder, monkeypatch, tmp_path):
        assert our_cellpose.weights("cpsam_v2") == folder / "cpsam_v2"
        monkeypatch.delenv(our_cellpose.FOLDER)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(ConfigError, match=f"cellpose has no weights {tmp_path}/.cellpose/models/cpsam_v2: "):
            our_cellpose.weights("cpsam_v2")

    def test_a_file_of_ones_own(self, folder, tmp_path, monkeypatch):
        (tmp_path / "mine").touch()
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in (str(tmp_path / "mine"), "~/mine"):
            assert our_cellpose.weights(name) == tmp_path / "mine"

    def test_without_them_a_run_is_refused_and_says_what_to_do(self, versions, folder):
        config_of = plan_of(movie(), CELLPOSE).job.config
        assert try_methods(config_of, movie()) == []
        (folder / "cpsam_v2").unlink()
        url = "https://huggingface.co/mouseland/cellpose-sam/resolve/main/cpsam_v2"
        said = rf"^params\.segmentation_method: segmenter 'cellpose': model: .* curl .*{folder}/cpsam_v2 {url}; "
        with pytest.raises(ConfigError, match=said):
            try_methods(config_of, movie())

    def test_a_name_that_is_none_is_refused_with_those_there_are(self, folder):
        with pytest.raises(ConfigError, match=r"no weights .*/cpsma: name an existing file, or one of cpsam_v2, "):
            our_cellpose.weights("cpsma")


class TestCellpose:
    """With a stand-in for the package."""

    @pytest.fixture
    def made(self, monkeypatch, folder):
        """Networks that were made, and what they were given."""
        calls = []

        class CellposeModel:
            def __init__(self, **given):
                calls.append(given)

            def eval(self, frame, **given):
                calls.append(given)
                warnings.warn("for programmers", UserWarning, stacklevel=1)
                return (np.asarray(frame) > 0).astype("uint16").squeeze(), [], []

        threads = []
        modules = {
            "cellpose": types.ModuleType("cellpose"),
            "cellpose.models": SimpleNamespace(CellposeModel=CellposeModel),
            "torch": SimpleNamespace(set_num_threads=threads.append),
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return SimpleNamespace(calls=calls, threads=threads)

    def test_its_labels_have_the_shape_of_the_frame(self, made):
        for shape in ((1, 5), (5, 1), (4, 5)):
            assert our_cellpose.segment(np.ones(shape, "uint16")).tolist() == np.ones(shape).tolist()

    def test_the_network_is_made_once_with_one_thread(self, made, folder):
        for _ in range(3):
            our_cellpose.segment(np.ones((4, 5), "uint16"))
        assert made.calls[0] == {"gpu": False, "pretrained_model": str(folder / "cpsam_v2")}
        assert len(made.calls) == 4
        assert made.threads == [1]

    def test_parameters_are_passed_on(self, made):
        our_cellpose.segment(np.ones((4, 5), "uint16"), diameter=20.0, min_object_size=7, flow_threshold=0.1)
        given = made.calls[1]
        assert (given["diameter"], given["min_size"], given["flow_threshold"]) == (20.0, 7, 0.1)

    @pytest.mark.parametrize(("owned", "tiles"), [(True, 8), (False, 1)])
    def test_it_uses_the_gpu_of_a_worker_that_owns_one_and_no_other(self, made, owned, tiles):
        for asked in (True, False):
            with gpu_owned(owned):
                our_cellpose.segment(np.ones((4, 5), "uint16"), gpu=asked)
        assert made.calls[0]["gpu"] is owned
        assert [given["batch_size"] for given in made.calls[1:]] == [tiles, tiles]

    def test_warnings_for_programmers_do_not_reach_reports(self, made):
        with warnings.catch_warnings(action="error"):
            our_cellpose.segment(np.ones((4, 5), "uint16"))


class TestRealCellpose:
    """With the package, and in place of its weights a network that knows the answer."""

    @pytest.fixture(autouse=True)
    def package(self):
        self.models = pytest.importorskip("cellpose.models")

    def test_weights_are_named_as_the_package_names_them(self):
        assert set(our_cellpose.NAMES) <= set(self.models.MODEL_NAMES)
        assert self.models._MODEL_URL == our_cellpose.URL
        assert our_cellpose.NAMES[0] == self.models.CellposeModel.__init__.__defaults__[1]

    def test_cells_are_found(self, monkeypatch, folder):
        import torch

        class Knowing(torch.nn.Module):
            """Gives flows towards the middle of what is bright."""

            dtype, device = torch.float32, torch.device("cpu")

            def forward(self, x):
                found = np.stack([_flows(tile) for tile in x[:, 0].numpy() > 0.5])
                return torch.from_numpy(found), torch.zeros(len(x), 256)

        def _flows(bright):
            labels, n = ndimage.label(bright)
            middle = np.array([(0, 0), *ndimage.center_of_mass(bright, labels, range(1, n + 1))])[labels]
            away = middle.transpose(2, 0, 1) - np.indices(bright.shape)
            unit = away / np.maximum(np.hypot(*away), 1)
            return np.stack([*(5 * unit * bright), np.where(bright, 5, -5)]).astype("float32")

        network = self.models.CellposeModel.__new__(self.models.CellposeModel)
        network.device, network.gpu, network.backbone, network.net = torch.device("cpu"), False, "sam_vitl", Knowing()
        monkeypatch.setattr(our_cellpose, "_network", lambda *_: network)
        y, x = np.indices((200, 240))
        truth = sum(
            k * ((y - cy) ** 2 + (x - cx) ** 2 < 15**2)
            for k, (cy, cx) in enumerate([(40, 50), (90, 120), (150, 200)], 1)
        )
        noise = np.random.default_rng(0).integers(0, 500, truth.shape)
        labels = our_cellpose.segment(((truth > 0) * 20000 + noise).astype("uint16"))
        assert (labels.shape, labels.dtype.kind) == (truth.shape, "u")
        assert np.unique(labels).tolist() == [0, 1, 2, 3]
        for k in (1, 2, 3):
            mine = labels == labels[truth == k][0]
            assert (mine & (truth == k)).sum() > 0.9 * (mine | (truth == k)).sum()
        assert not our_cellpose.segment(np.full((64, 64), 9, "uint16")).any()


# ------------------------------------------------------------------------------------------------------- btrack


class StandIn:
    """In place of btrack's tracker: links what is within 9 pixels in x, and leaves out what is at x = 0."""

    def __init__(self, verbose):
        assert verbose is False
        self.log = logging.getLogger("btrack")
        self.tracks, self.optimised = {}, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def configure(self, configuration):
        self.configuration = configuration

    def append(self, objects):
        for number, one in enumerate(objects):
            if one.x:
                self.tracks.setdefault(round(one.x / 9), []).append(number)

    def track(self):
        self.log.error("found %d", len(self.tracks))

    def optimise(self, options):
        assert options == {"msg_lev": "GLP_MSG_OFF"}
        self.optimised = True

    @property
    def n_tracks(self):
        return len(self.tracks)

    @property
    def refs(self):
        return [[-1, *track, -2] for track in reversed(list(self.tracks.values()))]


class TestBtrack:
    """With a stand-in for the package."""

    @pytest.fixture
    def made(self, monkeypatch):
        """Trackers that were made."""
        trackers = []

        def tracker(verbose):
            trackers.append(StandIn(verbose))
            return trackers[-1]

        modules = {
            "btrack": SimpleNamespace(BayesianTracker=tracker),
            "btrack.config": SimpleNamespace(TrackerConfig=SimpleNamespace),
            "btrack.models": SimpleNamespace(MotionModel=SimpleNamespace, HypothesisModel=SimpleNamespace),
            "btrack.btypes": SimpleNamespace(PyTrackObject=SimpleNamespace),
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return trackers

    def test_ids_count_tracks_in_the_order_in_which_they_begin(self, made):
        frames = [boxes_at((50, 90), (50, 18)), boxes_at((50, 18), (50, 90), (50, 45)), boxes_at((50, 45))]
        assert [ids.tolist() for ids in our_btrack.link(frames)] == [[1, 2], [2, 1, 3], [3]]

    def test_what_is_in_no_track_has_an_id_of_its_own(self, made):
        frames = [boxes_at((50, 0), (50, 90)), boxes_at((50, 90), (50, 0))]
        assert [ids.tolist() for ids in our_btrack.link(frames)] == [[1, 2], [2, 3]]

    @pytest.mark.parametrize("frames", [[], [0], [0, 0, 0], [2], [0, 2, 0], [2, 0, 0, 0, 0, 0, 0, 2]])
    def test_where_nothing_can_be_linked_every_box_is_a_track(self, made, frames):
        found = our_btrack.link([boxes_at(*[(50, 90 * k) for k in range(n)]) for n in frames])
        assert [len(ids) for ids in found] == frames
        assert [number for ids in found for number in ids] == list(range(1, sum(frames) + 1))
        assert not made  # btrack calls that an error

    def test_the_models_are_those_of_the_parameters(self, made):
        frames = [boxes_at((50, 90)), boxes_at((70, 95))]
        changed = {"max_search_radius": 7.0, "motion_noise": 3.0, "max_lost": 3, "prob_not_assign": 0.2}
        our_btrack.link(frames, **changed, join_distance=9.0, join_frames=4)
        given = made[0].configuration
        assert (given.max_search_radius, given.motion_model.max_lost, given.motion_model.prob_not_assign) == (7, 3, 0.2)
        assert given.motion_model.G.tolist() == [[1.5, 1.5, 1.5, 3.0, 3.0, 3.0]]
        assert (given.hypothesis_model.dist_thresh, given.hypothesis_model.time_thresh) == (9, 4)
        assert given.volume[:2] == ((0, 105), (0, 80))
        assert made[0].optimised
        our_btrack.link(frames, join_frames=0)
        assert not made[1].optimised

    def test_it_says_nothing(self, made, capfd):
        our_btrack.link([boxes_at((50, 90)), boxes_at((70, 95))])
        assert capfd.readouterr() == ("", "")

    def test_no_tracks_at_all_is_an_error(self, made):
        with pytest.raises(RuntimeError, match="btrack found no tracks"):
            our_btrack.link([boxes_at((50, 0)), boxes_at((70, 0))])

    def test_a_library_that_does_not_load_is_told_when_the_run_is_planned(self, made, monkeypatch, versions):
        def fail(**_):
            raise RuntimeError from OSError("GLIBCXX_3.4.32 not found")

        monkeypatch.setattr(sys.modules["btrack"], "BayesianTracker", fail)
        said = r"^params\.tracking_method: tracker 'btrack': btrack cannot load its library: GLIBCXX.* of GCC 13"
        with pytest.raises(ConfigError, match=said):
            try_methods(plan_of(movie(), BTRACK).job.config, movie())


class TestRealBtrack:
    """With the package."""

    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("btrack")
        try:
            our_btrack.check()
        except ConfigError as error:
            pytest.skip(str(error))

    @pytest.fixture
    def cells(self):
        """Boxes of 30 frames, and which cell each is: 25 that drift, and are not seen in some frames."""
        rng = np.random.default_rng(3)
        centres = 100 + 80.0 * np.indices((5, 5)).reshape(2, -1).T
        speed, frames, truth = rng.normal(0, 1.5, centres.shape), [], []
        for _ in range(30):
            centres = centres + speed + rng.normal(0, 0.7, centres.shape)
            seen = rng.permutation(25)[rng.random(25) > 0.04]
            frames.append(boxes_at(*centres[seen].astype(int)))
            truth.append(seen)
        return frames, truth

    def test_cells_are_followed_over_gaps(self, cells):
        frames, truth = cells
        ids = our_btrack.link(frames)
        pairs = {
            (int(a), int(b)) for found, true in zip(ids, truth, strict=True) for a, b in zip(found, true, strict=True)
        }
        assert len(pairs) == 25
        assert sorted(np.unique(np.concatenate(ids))) == list(range(1, 26))
        assert all(len(set(found.tolist())) == len(found) for found in ids)

    def test_it_is_deterministic_and_quiet(self, cells, capfd):
        first, second = (our_btrack.link(cells[0]) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert capfd.readouterr() == ("", "")

    def test_cells_that_cross_at_speed_keep_their_ids(self):
        frames = [boxes_at((100, 50 + 12 * t), (104, 290 - 12 * t)) for t in range(20)]
        assert [ids.tolist() for ids in our_btrack.link(frames)] == [[1, 2]] * 20

    @pytest.mark.parametrize(
        ("step", "given", "tracks"),
        [
            (12, {}, 1),
            (12, {"max_search_radius": 5.0, "join_frames": 0}, 4),
            (40, {}, 4),
            (40, {"motion_noise": 60.0}, 1),
        ],
    )
    def test_how_far_a_cell_may_step(self, step, given, tracks):
        ids = our_btrack.link([boxes_at((100, 100 + step * t)) for t in range(4)], **given)
        assert len(np.unique(np.concatenate(ids))) == tracks

    def test_a_run(self, small_czi, tmp_path, finished):
        import pandas as pd

        report = pyama_dask.run(config(small_czi, tmp_path / "out", {"params.tracking_method": "btrack"}))
        assert report.exit_status == 0
        mine, theirs = (
            pd.concat(pd.read_csv(path) for path in sorted(output.glob("fov_*/*.csv")))
            for output in (tmp_path / "out", finished)
        )
        pd.testing.assert_frame_equal(mine, theirs)


def test_planning_loads_none_of_their_packages(versions, monkeypatch, folder):
    for name in ("torch", "cellpose"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would fail
    assert plan_of(movie(), CELLPOSE | BTRACK).tasks
    assert try_methods(plan_of(movie(), CELLPOSE).job.config, movie()) == []
