"""The plan: who writes what, what is made from what, what changes with which key, and what it all needs."""

import hashlib
import itertools
import json
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.graphs import USUAL
from support.movies import config, data_files, listing
from support.strategies import CHANNELS, movie, plan_of, plans

import pyama_dask
from pyama_dask.config.load import parse_config
from pyama_dask.errors import PlanError
from pyama_dask.files.checksums import MISSING
from pyama_dask.plan.plan import make_plan
from pyama_dask.plan.resolve import resolve
from pyama_dask.plan.resources import FORKED_BASE, GATHERING, LONGEST_BLOCK, WORKER_BASE, task_memory, worker_base
from pyama_dask.plan.resume import remaining
from pyama_dask.readers.base import Channel, FovInfo
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import LEDGER
from pyama_dask.steps import graphs, standard
from pyama_dask.steps.standard import GRAPH
from pyama_dask.store.layout import layout
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Receipt

MIB = 2**20


def writer_of(spec):
    """Kind and step that make an array, as the design says."""
    if spec.level == 1:
        return "finish", "cache"
    for start, writer in (
        ("seg_labeled", ("ingest", "segment")),
        ("seg_tracked", ("finish", "track")),
        ("fl_background", ("ingest", "background")),
    ):
        if spec.group.startswith(start):
            return writer
    return "ingest", "copy"


class TestProperties:
    @given(plans())
    def test_every_shard_has_exactly_one_writer(self, plan):
        job = plan.job
        for fov in plan.fovs:
            specs = layout(job, fov.tasks[0].shape)
            for spec in specs.values():
                kind, step = writer_of(spec)
                writers = [task for task in fov.stage(kind) if step in task.digests]
                file = spec.shards or spec.chunks
                frames, *rest = (-(-n // s) for n, s in zip(spec.shape, file, strict=True))
                assert all(n <= 1 for n in rest)  # a shard holds whole frames
                assert [task.block for task in writers] == list(range(frames))
                for task in writers:
                    first = task.block * file[0]
                    assert (task.start, task.stop) == (first, min(first + file[0], spec.shape[0]))

    @given(plans())
    def test_blocks_cover_every_frame_once(self, plan):
        covered = [frame for start, stop in plan.job.blocks for frame in range(start, stop)]
        assert covered == list(range(plan.job.n_frames))

    @given(plans())
    def test_what_a_task_needs_is_made_before_it(self, plan):
        for fov in plan.fovs:
            made = set()
            for stage in fov.stages:
                kind = stage[0].kind
                for step in stage[0].digests:
                    part = GRAPH.by_kind[kind, step]
                    assert all(need in made or not GRAPH.parts[need].active(plan.job.config) for need in part.needs)
                    made.add(part.name)

    @given(plans())
    def test_keys_are_unique_and_tasks_of_a_kind_do_the_same_steps(self, plan):
        assert max(Counter(task.key for task in plan.tasks).values()) == 1
        for fov in plan.fovs:
            assert [stage[0].kind for stage in fov.stages] == [k for k in GRAPH.kinds if fov.stage(k)]
            for stage in fov.stages:
                assert len({tuple(task.digests) for task in stage}) == 1

    @given(plans())
    def test_every_step_of_the_run_is_done_by_some_task(self, plan):
        assert {step for task in plan.tasks for step in task.digests} == set(plan.steps)
        assert {task.fov for task in plan.tasks} == {fov.fov for fov in plan.fovs}

    @given(plans())
    def test_the_document_is_json_and_counts_the_tasks(self, plan):
        document = json.loads(json.dumps(plan.document()))
        assert document["tasks"] == len(plan.tasks)
        assert sum(k["tasks"] for fov in document["fovs"] for k in fov["kinds"].values()) == len(plan.tasks)


class TestBlocks:
    @given(
        shape=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
        frames=st.integers(1, 400),
        memory=st.integers((WORKER_BASE + GATHERING) // MIB, 8000),
        channels=st.integers(2, 4),
    )
    def test_automatic_blocks_fit_and_are_about_equal(self, shape, frames, memory, channels):
        metadata = movie(frames=frames, shape=shape, channels=channels)
        one = max(task_memory(_config(metadata), kind, shape, 1) for kind in ("ingest", "finish"))
        assume(one <= memory * MIB)
        plan = plan_of(metadata, memory=memory * MIB)
        sizes = [stop - start for start, stop in plan.job.blocks]
        assert plan.memory <= memory * MIB
        assert max(sizes) <= LONGEST_BLOCK
        assert max(sizes) - min(sizes) < max(len(sizes), 2)

    def test_a_cluster_without_workers_yet_has_blocks(self):
        none, one = (plan_of(movie(frames=40, shape=(100, 100)), workers=of) for of in (0, 1))
        assert none.job.blocks == one.job.blocks

    def test_the_memory_of_reading_counts_where_the_movie_is_read(self):
        plain, together = (
            plan_of(movie(read_memory=of * MIB), memory=900 * MIB, storage={"block_frames": 5}) for of in (0, 200)
        )
        more = {task.kind: task.memory - other.memory for task, other in zip(together.tasks, plain.tasks, strict=True)}
        assert more == {kind: 200 * MIB * (kind == "ingest") for kind in more}
        assert len(more) > 2
        big = (2000, 2000)
        with_less = [plan_of(movie(shape=big, read_memory=of * MIB), memory=900 * MIB) for of in (0, 200)]
        assert len(with_less[0].job.blocks) < len(with_less[1].job.blocks)

    @given(plans(), st.integers(1, 64))
    @settings(max_examples=20)
    def test_longer_blocks_need_more_memory(self, plan, frames):
        shape = plan.tasks[0].shape
        for kind in ("ingest", "finish"):  # crops of all frames are held
            needs = [task_memory(plan.job.config, kind, shape, n) for n in (frames, frames + 1)]
            assert worker_base(plan.job.config.cluster) < needs[0] <= needs[1]

    @given(plans(), st.integers(2, 64))
    @settings(max_examples=20)
    def test_frames_are_held_one_by_one_unless_a_task_holds_more(self, plan, frames):
        config, shape = plan.job.config, plan.tasks[0].shape
        for kind in ("ingest", "finish"):
            needs = [task_memory(config, kind, shape, frames, n) for n in range(1, frames)]
            assert all(one < more for one, more in itertools.pairwise(needs))
            assert needs[0] == task_memory(config, kind, shape, frames)
            assert {task.at_once for task in plan.tasks if task.kind == kind} <= {1}

    @pytest.mark.parametrize("storage", [{"chunks": "block"}, {"chunks": "block", "block_frames": 5}])
    def test_chunks_of_whole_blocks_are_held_as_a_whole(self, storage):
        big = movie(frames=10, shape=(2000, 2000))
        plan = plan_of(big, storage=storage)
        block = plan.job.block_frames
        assert {task.at_once for task in plan.tasks} == {block, None}
        assert plan.memory > plan_of(big, storage={"block_frames": block}).memory

    @pytest.mark.parametrize(
        ("shape", "fovs", "frames", "workers", "block"),
        [
            ((2048, 2048), 1, 180, 1, 15),
            ((2048, 2048), 4, 16, 2, 8),
            ((2048, 2048), 1, 16, 2, 2),
            ((2048, 2048), 1, 64, 2, 8),
            ((2048, 2048), 2, 200, 6, 14),
            ((2048, 2048), 1, 4, 8, 2),
            ((2048, 2048), 100, 180, 8, 15),
            ((200, 240), 1, 48, 8, 16),
        ],
    )
    def test_local_workers_have_a_few_blocks_each_unless_these_are_very_short(
        self, shape, fovs, frames, workers, block
    ):
        assert plan_of(movie(fovs=fovs, shape=shape, frames=frames), workers=workers).job.block_frames == block

    @pytest.mark.parametrize(
        ("shape", "fovs", "frames", "workers", "block"),
        [
            ((2048, 2048), 100, 180, 16, 90),
            ((2048, 2048), 20, 180, 16, 60),
            ((2048, 2048), 4, 64, 16, 4),
            ((2048, 2048), 4, 64, 64, 2),
            ((2048, 2048), 4, 64, 1, 64),
            ((200, 240), 1, 480, 64, 96),
        ],
    )
    def test_workers_of_a_queue_have_a_few_blocks_each_of_up_to_a_minute(self, shape, fovs, frames, workers, block):
        queue = {"kind": "slurm", "jobs": 4, "cores": workers // 4 or 1, "memory": "64GiB", "walltime": "04:00:00"}
        plan = plan_of(movie(fovs=fovs, shape=shape, frames=frames), workers=workers, cluster=queue, memory=2**32)
        assert plan.job.block_frames == block

    def test_forked_workers_hold_less_than_those_of_a_queue(self):
        queue = {"kind": "slurm", "jobs": 1, "memory": "4GiB", "walltime": "04:00:00"}
        one = {"block_frames": 1}
        forked, queued = (plan_of(movie(), cluster=of, storage=one).memory for of in ({"kind": "local"}, queue))
        assert queued - forked == (WORKER_BASE - FORKED_BASE if sys.platform == "linux" else 0)

    def test_more_memory_gives_longer_blocks(self):
        metadata = movie(frames=200, shape=(2048, 2048))
        small, large = (plan_of(metadata, memory=m * MIB).job.block_frames for m in (700, 4000))
        assert small < large

    def test_a_block_is_never_longer_than_the_movie(self):
        assert plan_of(movie(frames=7), storage={"block_frames": 100}).job.block_frames == 7

    @pytest.mark.parametrize(("frames", "at_once"), [(7, 2), (3, 6)])
    def test_as_many_tasks_run_at_once_as_all_fovs_have_blocks(self, frames, at_once):
        assert plan_of(movie(fovs=2, frames=7), storage={"block_frames": frames}).at_once == at_once

    def test_the_block_is_written_into_the_config(self):
        assert plan_of(movie(frames=7)).job.config.storage.block_frames == 7

    def test_a_task_that_does_not_fit_is_refused_with_a_remedy(self):
        with pytest.raises(
            PlanError, match=r"ingest-fov000-b000 would need \d+ MiB, but a worker has 300 MiB"
        ) as refused:
            plan_of(movie(shape=(2000, 2000), frames=50), storage={"block_frames": 50}, memory=300 * MIB)
        for remedy in ("cluster.memory", "cluster.workers", "storage.block_frames, now 50"):
            assert remedy in str(refused.value)


def _config(metadata):
    return plan_of(metadata).job.config


# -------------------------------------------------------------------------------------------------- digests

ALL = {(kind, step) for kind, step in GRAPH.by_kind if step in USUAL}
COPY = {("ingest", "copy")}
SEGMENT = {("ingest", "segment")}
BACKGROUND = {("ingest", "background")}
LEVELS = {("link", "cache")}
TRACK = {("link", "track"), ("finish", "track")}
EXTRACT = {("finish", "extract"), ("gather", "extract"), ("gather", "summary")}
TIMES = {("gather", "extract"), ("gather", "summary")}
CROP = {("finish", "crop"), ("gather", "crop")}
CROP_LEVELS = {("ingest", "crop"), ("link", "crop")}
CACHE = {("finish", "cache")}
IMAGES = COPY | SEGMENT | BACKGROUND | {("finish", "track")}

CHANGES = {
    "morph_size": ({"params": {"segmentation_params": {"morph_size": 5}}}, ALL - COPY),
    "preprocess": ({"params": {"preprocess": ["os.path:basename"]}}, ALL - COPY),
    "background_weight": ({"params": {"background_weight": 0.5}}, CROP_LEVELS | CROP | EXTRACT),
    "tile_size": ({"params": {"background_params": {"tile_size": 50}}},
                  BACKGROUND | LEVELS | CROP_LEVELS | CROP | EXTRACT | CACHE),
    "min_frames": ({"params": {"tracking_params": {"min_frames": 3}}}, TRACK | CROP | EXTRACT | CACHE),
    "min_iou": ({"params": {"tracking_params": {"min_iou": 0.5, "min_frames": 5}}}, TRACK | CROP | EXTRACT | CACHE),
    "time_mapping": ({"params": {"time_mapping": {9: 95.0}}}, TIMES),
    "crop_padding": ({"params": {"crop_padding": 3}}, CROP),
    "codec": ({"storage": {"codec": "zstd", "block_frames": 4}}, ALL),
    "level": ({"storage": {"level": 9, "block_frames": 4}}, IMAGES),
    "shuffle": ({"storage": {"shuffle": "off", "block_frames": 4}}, IMAGES),
    "chunks": ({"storage": {"chunks": "block", "block_frames": 4}}, IMAGES),
    "defaults": ({"storage": {"level": 5, "shuffle": "on", "chunks": "tiles of 1024", "block_frames": 4}}, set()),
    "block_frames": ({"storage": {"block_frames": 5}}, ALL),
    "frames": ({"params": {"frames": "0-8"}}, ALL),
    "cluster": ({"cluster": {"kind": "serial", "retries": 4, "batch_size": 3}}, set()),
    "output": ({"output": "elsewhere"}, set()),
    "fovs": ({"params": {"fovs": "0"}}, set()),
}  # fmt: skip
BASE = {"storage": {"block_frames": 4}}


def digests(plan):
    return {(task.kind, step): digest for task in plan.fovs[0].tasks for step, digest in task.digests.items()}


def changed(before, after):
    a, b = digests(before), digests(after)
    assert a.keys() == b.keys() == ALL
    return {part for part in a if a[part] != b[part]}


class TestDigests:
    @pytest.mark.parametrize("name", CHANGES)
    def test_a_key_changes_the_steps_that_depend_on_it(self, name):
        change, expected = CHANGES[name]
        assert changed(plan_of(movie(), **BASE), plan_of(movie(), **(BASE | change))) == expected

    def test_the_interval_counts_where_the_file_has_no_stamps(self):
        without = movie(times_min=None)
        for metadata, expected in ((movie(), set()), (without, TIMES)):
            pair = [plan_of(metadata, {"frame_interval": minutes}) for minutes in (10.0, 5.0)]
            assert changed(*pair) == expected

    def test_stamps_of_the_file_change_the_tables_only(self):
        other = movie(times_min=np.tile(np.arange(10) * 11.0, (2, 1)))
        assert changed(plan_of(movie()), plan_of(other)) == TIMES

    def test_features_change_extraction_only(self):
        one, two = (
            plan_of(movie(), channels={"pc": {"channel": 0, "features": f}, "fl": [{"channel": 1}]})
            for f in (["area"], ["area", "circularity"])
        )
        assert changed(one, two) == EXTRACT

    def test_registered_frames_change_tracks_and_what_is_made_from_them(self):
        plain, drifting = digests(plan_of(movie(), **BASE)), digests(plan_of(movie(), {"register": "drift"}, **BASE))
        assert drifting.keys() - plain.keys() == {("ingest", "drift"), ("link", "drift")}
        assert {part for part in plain if plain[part] != drifting[part]} == TRACK | CROP | EXTRACT | CACHE
        times = {"register": "drift", "time_mapping": {9: 95.0}}
        later = digests(plan_of(movie(), times, **BASE))
        assert {part for part in later if later[part] != drifting[part]} == TIMES | {("link", "drift")}

    def test_another_movie_changes_everything(self):
        assert changed(plan_of(movie()), plan_of(movie(), identity="other")) == ALL

    def test_another_plane_changes_everything(self):
        deep = movie(z_planes=3)
        assert changed(plan_of(deep, {"z": 1}), plan_of(deep, {"z": "max"})) == ALL

    def test_a_parameter_at_its_default_changes_nothing(self):
        assert not changed(plan_of(movie()), plan_of(movie(), {"background_params": {"tile_size": 100}}))

    def test_fovs_have_digests_of_their_own(self):
        plan = plan_of(movie())
        assert not set(plan.fovs[0].tasks[0].digests.values()) & set(plan.fovs[1].tasks[0].digests.values())

    def test_channels_by_name_or_by_index_are_the_same(self):
        named = {"pc": {"channel": "C0"}, "fl": [{"channel": "C1"}]}
        numbered = {"pc": {"channel": 0}, "fl": [{"channel": 1}]}
        assert not changed(*(plan_of(movie(), channels=channels) for channels in (named, numbered)))


# ------------------------------------------------------------------------------------ steps, problems, remains

STEPS_OF = {
    "all": USUAL,
    "phase only": tuple(step for step in USUAL if step != "background"),
    "fluorescence only": ("copy", "cache", "summary"),
    "no features": USUAL,
}


class TestSteps:
    @pytest.mark.parametrize("name", CHANNELS)
    def test_channels_decide_which_steps_there_are(self, name):
        plan = plan_of(movie(), channels=CHANNELS[name])
        assert plan.steps == STEPS_OF[name]
        assert any("no phase-contrast channel" in w for w in plan.warnings) == (name == "fluorescence only")

    @pytest.mark.parametrize("name", CHANNELS)
    def test_copy_only_stops_after_copying(self, name):
        plan = plan_of(movie(), {"copy_only": True}, channels=CHANNELS[name])
        assert plan.steps == ("copy", "cache", "summary")
        assert not plan.warnings

    @pytest.mark.parametrize("params", [{}, {"copy_only": True}])
    def test_a_channel_that_the_file_describes_otherwise_is_warned_of(self, params):
        for kinds in itertools.product(["phase", "fluorescence", "other"], repeat=2):
            channels = tuple(Channel(f"C{k}", "uint16", kind) for k, kind in enumerate(kinds))
            keys = [warning.partition(":")[0] for warning in plan_of(movie(channels=channels), params).warnings]
            wrong = {"channels.pc": kinds[0] == "fluorescence", "channels.fl.0": kinds[1] == "phase"}
            assert keys == [key for key, is_wrong in wrong.items() if is_wrong]

    def test_the_same_warning_of_several_fovs_is_there_once(self):
        assert [w for w in plan_of(movie(fovs=9, times_min=None)).warnings if "time stamps" in w] == [
            "FOVs 0-8: the file has no time stamps; times count from frame_interval (default), 10 min"
        ]
        stamps = np.tile(np.arange(10) * 10.0, (3, 1))
        stamps[1, 4] = np.nan
        (warning,) = plan_of(movie(fovs=3, times_min=stamps)).warnings[-1:]
        assert warning.startswith("FOV 1: 1 time stamps are missing (frame 4)")


class TestMissingFrames:
    def test_a_fov_without_some_frames_has_a_problem_and_no_tasks(self):
        plan = plan_of(movie(missing={1: (6, 7)}))
        assert plan.fovs[0].problem is None
        assert plan.fovs[0].tasks
        assert plan.fovs[1].tasks == ()
        assert plan.fovs[1].problem == (
            "FOV 1: 2 of its frames are missing in movie.nd2, the first is 6; it has 0-5, 8-9. Fix: "
            "take --frames 0-5,8-9 for all FOVs, or --fovs 1 --frames 0-5,8-9 for this one"
        )

    def test_frames_with_many_gaps_are_taken_until_the_first(self):
        problem = plan_of(movie(frames=100, missing={1: range(2, 100, 2)})).fovs[1].problem
        assert (
            "49 of its frames are missing in movie.nd2, the first is 2; it has 0-1. Fix: take --frames 0-1 " in problem
        )

    def test_frames_that_no_chosen_fov_has_are_left_out_at_the_end(self):
        metadata = movie(missing={0: (8, 9), 1: (3, 7, 8, 9)})
        plan = plan_of(metadata)
        assert plan.job.frames == tuple(range(8))
        assert [bool(fov.problem) for fov in plan.fovs] == [False, True]
        (warning,) = [warning for warning in plan.warnings if "announces" in warning]
        assert warning.startswith("movie.nd2 announces 10 frames, but no chosen FOV has any after frame 7; these are")
        assert plan_of(metadata, {"fovs": "1"}).job.frames == tuple(range(7))
        assert plan_of(metadata, {"frames": "0-9"}).job.frames == tuple(range(10))

    def test_a_problem_of_a_fov_by_its_name(self):
        problems = {"Pos1": "B03 cannot be stitched"}
        plan = plan_of(movie(), problems=problems)
        assert [fov.problem for fov in plan.fovs] == [None, "FOV 1: B03 cannot be stitched"]

    def test_frames_that_are_not_chosen_may_be_missing(self):
        plan = plan_of(movie(missing={1: (6, 7)}), {"frames": "0-5"})
        assert plan.fovs[1].problem is None

    def test_only_the_chosen_channels_and_planes_count(self):
        """Of frame 3, channel 1 has only plane 1; channel 0 is whole."""
        held = tuple((channel, z, (3,)) for channel, z in [(0, 0), (0, 1), (0, 2), (1, 1)])
        fov = FovInfo("a", (200, 240), missing=(3,), partial=held)
        metadata = replace(movie(fovs=1, z_planes=3), fovs=(fov,))
        phase = CHANNELS["phase only"]
        for z, channels, whole in [
            (0, phase, True), (1, phase, True), ("max", phase, True), (0, None, False), (1, None, True),
            ("max", None, False), (2, {"fl": [{"channel": 1}]}, False),
        ]:  # fmt: skip
            problem = plan_of(metadata, {"z": z}, channels=channels).fovs[0].problem
            assert (
                problem is None
                if whole
                else "1 of its frames are missing in movie.nd2, the first is 3; it has 0-2, 4-9. Fix: " in problem
            )

    def test_a_fov_without_any_frame_must_be_left_out(self):
        problem = plan_of(movie(missing={1: range(10)})).fovs[1].problem
        assert problem.endswith("the first is 0; it has none. Fix: leave it out with --fovs")


def receipt(task, steps=None):
    done = {s: d for s, d in task.digests.items() if steps is None or s in steps}
    return Receipt(task.key, done, {}, 0.0, 0, 0, 0)


class TestRemaining:
    @pytest.fixture
    def ledger(self, tmp_path):
        with Ledger(tmp_path / "ledger.jsonl") as ledger:
            yield ledger

    @pytest.fixture
    def plan(self):
        return plan_of(movie(), storage={"block_frames": 4})

    def left(self, plan, ledger, steps=None, spent=False):
        return remaining(plan, ledger, steps, lambda task, with_parts: MISSING if spent and with_parts else None)

    def test_with_an_empty_ledger_all_is_left(self, plan, ledger):
        assert self.left(plan, ledger).tasks == plan.tasks

    def test_with_all_recorded_nothing_is_left(self, plan, ledger):
        for task in plan.tasks:
            ledger.record(receipt(task))
        assert self.left(plan, ledger, spent=True).tasks == ()

    @given(done=st.sets(st.integers(0, 15)))
    def test_what_is_recorded_is_not_left(self, tmp_path_factory, done):
        plan = plan_of(movie(), storage={"block_frames": 4})
        with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.jsonl") as ledger:
            for k in done:
                ledger.record(receipt(plan.tasks[k]))
            left = {task.key for task in self.left(plan, ledger).tasks}
        assert left == {task.key for k, task in enumerate(plan.tasks) if k not in done}

    def test_a_changed_parameter_leaves_what_depends_on_it(self, plan, ledger):
        for task in plan.tasks:
            ledger.record(receipt(task))
        other = plan_of(movie(), {"crop_padding": 3}, storage={"block_frames": 4})
        left = self.left(other, ledger)
        assert {(task.kind, step) for task in left.tasks for step in task.digests} == CROP

    def test_to_gather_crops_again_spent_parts_are_cut_again(self, plan, ledger):
        for task in plan.tasks:
            ledger.record(receipt(task))
        ledger.void({"gather-fov000": ["crop"]})
        assert [task.key for task in self.left(plan, ledger, spent=False).tasks] == ["gather-fov000"]
        kinds = Counter(task.kind for task in self.left(plan, ledger, spent=True).tasks)
        assert kinds == {"finish": 3, "gather": 1}

    def test_chosen_steps_only(self, plan, ledger):
        left = self.left(plan, ledger, ["copy", "segment"])
        assert {step for task in left.tasks for step in task.digests} == {"copy", "segment"}
        assert {task.kind for task in left.tasks} == {"ingest"}

    def test_a_step_without_what_it_needs_is_refused(self, plan, ledger):
        with pytest.raises(PlanError, match=r"step 'track' of FOV 0 needs 'segment'.*add it to --steps"):
            self.left(plan, ledger, ["copy", "track"])

    def test_an_unknown_step_is_refused(self, plan, ledger):
        with pytest.raises(PlanError, match=r"step 'fly' is not one of this run's: copy, segment"):
            self.left(plan, ledger, ["fly"])

    def test_a_step_that_the_channels_do_not_allow_is_refused(self, ledger):
        with pytest.raises(PlanError, match="step 'segment' is not one of this run's: copy, cache"):
            self.left(plan_of(movie(), {"copy_only": True}), ledger, ["segment"])


# --------------------------------------------------------------------------------- what is said and what is so

RUNS = {
    "all": {},
    "phase only": {"channels": {"pc": {"channel": 0, "features": ["area"]}}},
    "fluorescence only": {"channels": {"fl": [{"channel": 1, "features": ["intensity_mean"]}]}},
    "no features": {"channels": {"pc": {"channel": 0}, "fl": [{"channel": 1}]}},
    "copy only": {"params.copy_only": True},
    "raw copy only": {"params.copy_only": True, "storage.display": "off"},
    "background as tiles": {"storage.background": "grid"},
    "cells in a zip": {"storage.cells": "zip"},
    "no cells": {"storage.cells": "off"},
    "nothing to look at": {"storage.display": "off"},
    "tables": {"storage.background": "grid", "storage.display": "off", "storage.cells": "off"},
}


class TestAgainstARun:
    @pytest.mark.parametrize("name", RUNS)
    def test_files_and_bytes_are_as_planned(self, small_czi, tmp_path, name):
        document = config(small_czi, tmp_path / "out", RUNS[name])
        plan, _ = plan_run(parse_config(document))
        report = pyama_dask.run(document)
        for fov in report.fovs:
            files = [p for p in plan.job.fov_dir(fov.fov).rglob("*") if p.is_file()]
            assert len(files) == plan.files_per_fov + (fov.cells or 0) * plan.files_per_cell
        entries = [json.loads(line) for line in (tmp_path / "out" / LEDGER).read_text().splitlines()]
        done = {entry["done"]["key"]: entry["done"] for entry in entries if "done" in entry}
        assert done.keys() == {task.key for task in plan.tasks}
        for task in plan.tasks:
            if task.kind in ("ingest", "finish"):
                assert (task.bytes_read, task.bytes_written) == tuple(
                    done[task.key][name] for name in ("bytes_read", "bytes_written")
                ), task.key

    def test_every_shard_is_in_exactly_one_receipt(self, finished):
        entries = [json.loads(line) for line in (finished / LEDGER).read_text().splitlines()]
        receipts = [entry["done"] for entry in entries if "done" in entry]
        written = Counter(file for receipt in receipts for of in receipt["files"].values() for file in of)
        stores = finished.glob("fov_*/images.zarr")
        shards = {file.relative_to(finished).as_posix() for store in stores for file in data_files(store)}
        assert shards == {file for file in written if "/images.zarr/" in file}
        assert {written[shard] for shard in shards} == {1}

    def test_planning_writes_nothing(self, small_czi, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        beside = listing(small_czi.parent)
        plan, _ = plan_run(parse_config(config(small_czi, tmp_path / "a" / "out")))
        assert plan.tasks
        assert listing(tmp_path) == set()
        assert listing(small_czi.parent) == beside

    def test_planning_on_a_finished_output_changes_nothing(self, small_czi, copied):
        before = {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
        plan_run(parse_config(config(small_czi, copied)))
        assert {p: p.stat().st_mtime_ns for p in copied.rglob("*")} == before

    def test_automatic_blocks_stay_those_of_the_output(self, small_czi, copied):
        document = config(small_czi, copied, {"storage.block_frames": "auto"})
        assert plan_run(parse_config(document))[0].job.block_frames == 4
        report = pyama_dask.run(document)
        assert report.tasks == 0


def test_a_plan_is_made_of_config_and_metadata_alone():
    """The same plan wherever it is made: equal for equal inputs, and of a movie that is not there."""
    metadata = movie()
    resolved = resolve(parse_config(config("movie.nd2", "out")), metadata)
    once, again = (make_plan(resolved, metadata, "id", 2**34) for _ in range(2))
    assert once.tasks == again.tasks
    assert once.document() == again.document()


def test_what_fovs_have_in_common_is_found_once(monkeypatch):
    """A plan of a whole plate must not look at functions again for each FOV, nor make a digest twice."""
    steps = [{"do": "gaussian", "channels": ["C1"]}, {"do": "scipy.ndimage:median_filter", "size": 3, "channels": [1]}]
    more = {
        "pipelines": [{"name": "a", "steps": steps}, {"name": "b", "input": "a", "steps": "seven"}],
        "storage": {"block_frames": 4},
    }
    made, looked = [], []
    blake2b = hashlib.blake2b
    monkeypatch.setattr(hashlib, "blake2b", lambda *of, **size: made.append(1) or blake2b(*of, **size))
    for module in (graphs, standard):
        identity = module.method_identity
        monkeypatch.setattr(module, "method_identity", lambda *of, i=identity: looked.append(of) or i(*of))
    counts = []
    for fovs in (1, 3):
        made.clear(), looked.clear()
        plan = plan_of(movie(fovs=fovs, frames=40), **more)
        counts.append((len(made), len(looked), len(plan.tasks)))
    (one, looked_once, tasks), (three, looked_thrice, _) = counts
    assert looked_thrice == looked_once > 4
    assert (three - one) / (2 * tasks) < 9


def test_memory_of_images_of_pipelines():
    """Stacks are held with the frames around them, at most all of the movie; frames one by one are not."""

    def memory(*steps, frames=40, at_once=None):
        pipelines = [{"name": "a", "steps": list(steps)}, {"name": "b", "input": "a", "steps": "seven"}]
        more = {"pipelines": pipelines, "storage": {"block_frames": 8}}
        config = plan_of(movie(fovs=1, frames=frames, shape=(1000, 1000)), **more).job.config
        return task_memory(config, "ingest", (1000, 1000), 8, at_once) / 1e6

    frame = {"do": "gaussian", "channels": ["C1"]}
    stack = {"do": "dask_image.ndfilters:gaussian_filter", "channels": ["C1"], "sigma": [1, 0, 0]}
    plain, of_frames, of_stacks = memory({"do": "channel_shift"}), memory(frame, frame), memory(stack)
    assert of_frames - plain < 30
    assert of_stacks - plain > 8 * 2 + 16 * (2 + 2)  # the stack and what it is made of, with 4 frames on both sides
    assert memory(stack, frames=8) < of_stacks - 8 * (2 + 2)
    assert memory(stack, at_once=2) < of_stacks
