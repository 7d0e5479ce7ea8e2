"""Pipelines of a user's own steps: what they give, where it is stored, and what is done again."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import zarr
from support import steps
from support.movies import as_czi, as_nd2, config, differences, file_bytes, pixels, products, put_in_wells

import pyama_dask
from pyama_dask.errors import ConfigError
from pyama_dask.runs.verify import verify_output
from pyama_dask.steps import runner
from pyama_dask.steps.context import TaskContext

MINE = Path(steps.__file__).as_posix()
SMOOTH = {"do": "dask_image.ndfilters:gaussian_filter", "sigma": [0, 1, 1], "channels": ["GFP"]}
MEAN = {"do": f"{MINE}:mean_of_three", "channels": ["GFP"], "halo": 1}
BRIGHTER = {"do": f"{MINE}:brighter", "by": 7, "channels": ["GFP"]}
SEVEN = {"name": "cells", "steps": "seven"}


@pytest.fixture(scope="module")
def data():
    return pixels(fovs=2, frames=10, shape=(150, 170), cells=4)


@pytest.fixture(scope="module")
def movie(tmp_path_factory, data):
    return as_czi(tmp_path_factory.mktemp("pipelines") / "movie.czi", data)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, movie):
    """Output of the seven steps alone."""
    output = tmp_path_factory.mktemp("plain") / "out"
    assert not pyama_dask.run(config(movie, output)).exit_status
    return output


def run(movie, output, *pipelines, **changes):
    report = pyama_dask.run(config(movie, output, {"pipelines": list(pipelines), **changes}))
    assert not report.exit_status, (report.stopped, report.failed)
    return report


def image(output, path, fov=0):
    return zarr.open_array(output / f"fov_{fov:03}" / path, mode="r")[:]


def table(output, name, fov=0):
    (path,) = (output / f"fov_{fov:03}").glob(f"*_{name}.csv")
    return pd.read_csv(path)


def test_the_seven_as_a_pipeline_are_the_seven(movie, plain, tmp_path):
    run(movie, tmp_path / "out", SEVEN)
    assert differences(products(tmp_path / "out"), products(plain)) == []


def test_steps_before_the_seven_change_what_is_copied(movie, data, tmp_path):
    run(movie, tmp_path / "out", {"name": "prepare", "steps": [BRIGHTER, SMOOTH]}, SEVEN | {"input": "prepare"})
    raw = data[0, :, 1]
    expected = scipy.ndimage.gaussian_filter(raw + np.uint16(7), (0, 1, 1))
    assert np.array_equal(image(tmp_path / "out", "images.zarr/fl_ch_1/0"), expected)
    assert np.array_equal(image(tmp_path / "out", "images.zarr/pc_ch_0/0"), data[0, :, 0])
    assert not (tmp_path / "out/fov_000/prepare.zarr").exists()


@pytest.mark.parametrize("block", [1, 3, 10])
def test_functions_of_several_frames_see_across_blocks(movie, data, tmp_path, block):
    last = {"name": "smooth", "steps": [MEAN, SMOOTH | {"sigma": [1, 0, 0]}]}
    run(movie, tmp_path / "out", last, **{"storage.block_frames": block})
    expected = scipy.ndimage.gaussian_filter(steps.mean_of_three(data[1, :, 1]), (1, 0, 0))
    assert np.allclose(image(tmp_path / "out", "smooth.zarr/gaussian_filter_1/0", fov=1), expected, rtol=1e-6)


def test_a_checkpoint_is_stored_and_used(movie, data, tmp_path):
    prepare = {"name": "prepare", "steps": [MEAN | {"checkpoint": True}, BRIGHTER | {"do": f"{MINE}:bright_pixels"}]}
    prepare["steps"][1].pop("by")
    run(movie, tmp_path / "out", prepare)
    mean = steps.mean_of_three(data[0, :, 1])
    assert np.array_equal(image(tmp_path / "out", "prepare.zarr/mean_of_three_1/0"), mean)
    labels = image(tmp_path / "out", "prepare.zarr/bright_pixels_1/0")
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, mean > 120)


def test_tables_of_frames_and_fovs(movie, tmp_path):
    spots = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"}
    ends = {"do": f"{MINE}:last_frames", "to": "ends"}
    run(movie, tmp_path / "out", SEVEN, {"name": "more", "input": "cells", "steps": [spots, ends]})
    out = tmp_path / "out"
    found, traces = table(out, "more_light"), table(out, "traces")
    raw, tracked = image(out, "images.zarr/fl_ch_1/0"), image(out, "images.zarr/seg_tracked_ch_0/0")
    assert [*found.columns] == ["fov", "frame", "time", "cell", "largest"]
    assert len(found) == sum(len(np.unique(frame)) - 1 for frame in tracked)
    for row in found.itertuples():
        assert row.largest == raw[row.frame][tracked[row.frame] == row.cell].max()
    assert (
        table(out, "more_ends").set_index("cell")["frame"].to_dict() == traces.groupby("cell")["frame"].max().to_dict()
    )


def test_a_step_gets_frames_that_the_seven_need_no_more(movie, tmp_path):
    """The raw phase contrast of a block is not complete when its labels are there."""
    (tmp_path / "mine.py").write_text(
        "import pandas as pd\nfrom pyama_dask import Frame\n\ndef light(images: dict[str, Frame]) -> pd.DataFrame:\n"
        "    return pd.DataFrame({'light': [int(images['Phase'][images['labels'] > 0].sum())]})\n"
    )
    light = {"do": f"{tmp_path / 'mine.py'}:light", "of": ["Phase", "labels"], "to": "light"}
    run(movie, tmp_path / "out", SEVEN, {"name": "more", "input": "cells", "steps": [light]})
    raw, labels = (image(tmp_path / "out", f"images.zarr/{name}_ch_0/0") for name in ("pc", "seg_labeled"))
    assert table(tmp_path / "out", "more_light")["light"].tolist() == [
        pixels[found > 0].sum() for pixels, found in zip(raw, labels, strict=True)
    ]


def test_images_that_a_later_step_gets_are_not_stored(movie, tmp_path):
    light = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"}
    run(movie, tmp_path / "out", SEVEN, {"name": "more", "input": "cells", "steps": [BRIGHTER, light]})
    assert not (tmp_path / "out/fov_000/more.zarr").exists()
    raw = image(tmp_path / "out", "images.zarr/fl_ch_1/0")
    tracked = image(tmp_path / "out", "images.zarr/seg_tracked_ch_0/0")
    first = table(tmp_path / "out", "more_light").iloc[0]
    assert first["largest"] == raw[0][tracked[0] == first["cell"]].max() + 7


def test_steps_between_the_seven(movie, data, plain, tmp_path):
    """What comes after copying is seen by the steps after it, and the raw frames stay raw."""
    listed = ["copy", BRIGHTER | {"by": 100}, "segment", "track", "background", "crop", "extract", "cache"]
    run(movie, tmp_path / "out", {"name": "cells", "steps": listed})
    out = tmp_path / "out"
    assert np.array_equal(image(out, "images.zarr/fl_ch_1/0"), data[0, :, 1])
    more = image(out, "images.zarr/fl_background_ch_1/0") - image(plain, "images.zarr/fl_background_ch_1/0")
    assert np.allclose(more, 100, atol=1e-3)
    assert np.array_equal(image(out, "images.zarr/seg_tracked_ch_0/0"), image(plain, "images.zarr/seg_tracked_ch_0/0"))


EDITED = "from pyama_dask import Frame\n\ndef up(frame: Frame) -> Frame:\n    return frame + frame.dtype.type({})\n"


def test_a_file_that_is_edited_during_the_run_fails_what_is_left(movie, tmp_path):
    file = tmp_path / "steps.py"
    file.write_text(EDITED.format(1))
    prepare = {"name": "prepare", "steps": [{"do": f"{file}:up", "channels": ["GFP"]}]}
    given = config(movie, tmp_path / "out", {"pipelines": [prepare], "cluster.batch_size": 1})

    def edited(context, graph, real=runner.run_parts):
        if context.task.fov == 1:
            file.write_text(EDITED.format(2))
        return real(context, graph)

    with patch.object(runner, "run_parts", edited):
        first = pyama_dask.run(given, progress=False)
    assert [fov.status for fov in first.fovs] == ["done", "failed"]
    assert f"{file}: was changed since the run was planned. Fix: run again" in first.fovs[1].reason
    assert pyama_dask.run(given, progress=False).exit_status == 0
    raised = [image(tmp_path / "out", "prepare.zarr/up_1/0", fov) for fov in (0, 1)]
    file.write_text(EDITED.format(1))
    run(movie, tmp_path / "other", prepare)
    for fov, frames in enumerate(raised):
        assert (frames == image(tmp_path / "other", "prepare.zarr/up_1/0", fov) + 1).all()


def test_a_changed_step_redoes_itself_and_what_needs_it(movie, tmp_path):
    out = tmp_path / "out"
    spots = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "light"}
    bright = {"do": f"{MINE}:bright_pixels", "channels": ["GFP"], "to": "mask"}
    first = {"name": "prepare", "steps": [BRIGHTER]}
    pipelines = [first, SEVEN | {"input": "prepare"}, {"name": "more", "input": "cells", "steps": [spots, bright]}]
    run(movie, out, *pipelines)
    assert run(movie, out, *pipelines).tasks == 0
    before = file_bytes(out)
    pipelines[2]["steps"][1] = bright | {"above": 400}
    done = run(movie, out, *pipelines)
    assert {step.step for step in done.steps if step.seconds} == {"more.bright_pixels"}
    changed = {path for path, content in file_bytes(out).items() if before.get(path) != content}
    assert {path.split("/")[1] for path in changed if "/" in path} == {"more.zarr"}
    first["steps"] = [BRIGHTER | {"by": 8}]
    again = run(movie, out, *pipelines)
    assert {"copy", "segment", "extract", "more.light_in_cells"} <= {step.step for step in again.steps}


def test_a_renamed_image_is_made_under_its_new_name(movie, data, tmp_path):
    out = tmp_path / "out"
    run(movie, out, {"name": "more", "steps": [BRIGHTER | {"to": "one"}]})
    assert run(movie, out, {"name": "more", "steps": [BRIGHTER | {"to": "two"}]}).tasks
    assert np.array_equal(image(out, "more.zarr/brighter_two/0"), data[0, :, 1] + np.uint16(7))


def test_several_images_of_one_call(movie, data, tmp_path):
    run(movie, tmp_path / "out", {"name": "more", "steps": [{"do": f"{MINE}:halves", "channels": ["GFP"]}]})
    halves = steps.halves(data[0, :, 1])
    for name, expected in halves.items():
        assert np.array_equal(image(tmp_path / "out", f"more.zarr/halves_{name}/0"), expected)


def test_a_step_that_is_left_out_stays_as_it_was(movie, tmp_path):
    out = tmp_path / "out"
    run(movie, out, SEVEN, {"name": "more", "steps": [BRIGHTER]})
    before = file_bytes(out / "fov_000")
    assert run(movie, out, SEVEN).tasks == 0
    assert file_bytes(out / "fov_000") == before
    assert not verify_output(out, deep=True).faults


def test_wells_and_well_tables(tmp_path, data):
    movie = put_in_wells(as_czi(tmp_path / "wells.czi", data), ["A1", "A2"])
    only = BRIGHTER | {"wells": "A2"}
    well = {"do": f"{MINE}:cells_of_well", "to": "cells"}
    run(
        movie, tmp_path / "out", {"name": "prepare", "steps": [only]}, SEVEN | {"input": "prepare"},
        {"name": "wells", "input": "cells", "steps": [well]},
    )  # fmt: skip
    for fov, more in ((0, 0), (1, 7)):
        copied = image(tmp_path / "out", "images.zarr/fl_ch_1/0", fov)
        assert np.array_equal(copied, data[fov, :, 1] + np.uint16(more))
    (path,) = (tmp_path / "out/wells").glob("*_A1_wells_cells.csv")
    assert pd.read_csv(path)["cells"].tolist() == [table(tmp_path / "out", "traces")["cell"].nunique()]


def test_drift_is_not_measured_in_what_is_made_from_labels(movie, tmp_path):
    steps = [{"do": f"{MINE}:brighter", "channels": ["labels"], "to": "mask"}, {"do": "drift", "by": "mask"}]
    pipelines = [SEVEN, {"name": "more", "input": "cells", "steps": [steps[0], steps[1] | {"channels": ["GFP"]}]}]
    with pytest.raises(ConfigError, match=r"drift in 'mask', which is made from labels"):
        pyama_dask.run(config(movie, tmp_path / "out", {"pipelines": pipelines}))


@pytest.fixture(scope="module")
def deep(tmp_path_factory, data):
    """Movie with three planes, and its pixels (FOV, T, C, Z, H, W)."""
    planes = np.stack([data[:1, :4] // 2, data[:1, :4], data[:1, :4] // 3], axis=3)
    return as_nd2(tmp_path_factory.mktemp("deep") / "movie.nd2", planes), planes


def test_all_planes_of_a_frame(deep, tmp_path):
    """Functions of frames are applied plane by plane until a step makes one plane of them."""
    movie, planes = deep
    steps = [BRIGHTER | {"checkpoint": True, "channels": "all"}, {"do": "max_projection", "over": "z"}]
    changes = {"params.tracking_params": {"min_frames": 2, "border_margin": 5}}
    run(movie, tmp_path / "out", {"name": "prepare", "steps": steps}, SEVEN | {"input": "prepare"}, **changes)
    brighter = image(tmp_path / "out", "prepare.zarr/brighter_1/0")
    assert np.array_equal(brighter, planes[0, :, 1] + np.uint16(7))
    for channel, group in enumerate(("pc_ch_0", "fl_ch_1")):
        copied = image(tmp_path / "out", f"images.zarr/{group}/0")
        assert np.array_equal(copied, planes[0, :, channel].max(axis=1) + np.uint16(7))
    assert len(table(tmp_path / "out", "traces"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([{"do": f"{MINE}:stack_light", "of": ["GFP"], "halo": 1, "to": "light"}], "frames have 3 planes"),
        ([{"do": "composite", "of": ["GFP", "highest"], "to": "sum"}], "several planes and with one .'highest'."),
        ([{"do": f"{MINE}:deepest", "over": "z", "channels": ["highest"]}], "'highest' has one only"),
    ],
)
def test_planes_that_do_not_fit_are_refused(deep, tmp_path, more, message):
    highest = {"do": "max_projection", "over": "z", "channels": ["GFP"], "to": "highest"}
    with pytest.raises(ConfigError, match=message):
        pyama_dask.run(config(deep[0], tmp_path / "out", {"pipelines": [{"name": "some", "steps": [highest, *more]}]}))


def test_a_projection_of_planes_beside(deep, tmp_path):
    """Each step may get the images as the pipeline got them, and name its own."""
    movie, planes = deep
    steps = [
        {"do": "max_projection", "over": "z", "channels": ["GFP"], "to": "highest"},
        {"do": f"{MINE}:deepest", "over": "z", "channels": ["GFP"], "to": "lowest", "source": "start"},
    ]
    run(movie, tmp_path / "out", {"name": "both", "steps": steps})
    for name, expected in (("highest", planes[0, :, 1].max(axis=1)), ("lowest", planes[0, :, 1].min(axis=1))):
        (stored,) = (tmp_path / "out/fov_000/both.zarr").glob(f"*_{name}")
        assert np.array_equal(image(tmp_path / "out", f"both.zarr/{stored.name}/0"), expected)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"do": f"{MINE}:brighter", "channels": ["GPF"]}, "no image 'GPF'.*did you mean GFP"),
        ({"do": f"{MINE}:brihgter"}, "did you mean brighter"),
        ({"do": f"{MINE}:brighter", "bye": 3}, "'bye'.*did you mean by"),
        ({"do": f"{MINE}:brighter", "to": "new"}, "of 2 images"),
        ({"do": f"{MINE}:brighter", "wells": "A1", "channels": ["GFP"]}, "has no wells"),
        ({"do": f"{MINE}:deepest", "over": "z", "channels": ["GFP"]}, "Phase still has 1 planes"),
        ({"do": f"{MINE}:halves"}, "several images .dark, bright. of each of 2 channels"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(movie, tmp_path, step, message):
    pipelines = [{"name": "prepare", "steps": [step]}, SEVEN | {"input": "prepare"}]
    with pytest.raises(ConfigError, match=message):
        pyama_dask.run(config(movie, tmp_path / "out", {"pipelines": pipelines}))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def with_columns(movie, tmp_path_factory):
    """Output whose traces have columns of a function of frames, and of one of the traces."""
    out = tmp_path_factory.mktemp("columns") / "out"
    light = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "traces"}
    run(movie, out, SEVEN, {"name": "more", "input": "cells", "steps": [light, {"do": f"{MINE}:age", "to": "traces"}]})
    return out


def test_columns_of_the_traces(with_columns, plain):
    found, before = table(with_columns, "traces"), table(plain, "traces")
    pd.testing.assert_frame_equal(found.drop(columns=["largest", "age", "state"]), before)
    assert found["age"].equals(before["frame"] - before.groupby("cell")["frame"].transform("min"))
    raw, tracked = image(plain, "images.zarr/fl_ch_1/0"), image(plain, "images.zarr/seg_tracked_ch_0/0")
    for row in found.itertuples():
        assert row.largest == raw[row.frame][tracked[row.frame] == row.cell].max()


def test_columns_of_the_traces_are_merged_and_exported_like_features(with_columns, tmp_path):
    traces = pyama_dask.open_output(with_columns)[0].traces()
    assert {"largest", "age"} <= {*traces.columns}
    samples = {"samples": [{"name": "all", "fovs": "0-1"}]}
    report = pyama_dask.merge_samples(with_columns, samples, tmp_path)
    left_out = "FOV {0}: column 'state' of movie_fov_00{0}_traces.csv is not a feature and is left out"
    assert report.warnings == tuple(left_out.format(fov) for fov in (0, 1))
    merged = pyama_dask.read_analysis_csv(tmp_path / "all_largest_ch_1.csv")
    mine = merged[merged["fov"] == 0].sort_values(["cell", "time"])
    assert mine["value"].tolist() == traces.sort_values(["cell", "time"])["largest"].tolist()
    assert "# Channel: GFP" in (tmp_path / "all_largest_ch_1.csv").read_text()
    assert (tmp_path / "all_age_ch_0.csv").exists()
    assert {"largest_ch_1", "age_ch_0"} <= {*pd.read_parquet(tmp_path / "all_samples.parquet").columns}
    assert pyama_dask.inspect_traces(with_columns, tmp_path / "cells.csv").warnings == report.warnings


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"]}, "column 'largest', which the traces have already"),
        ({"do": f"{MINE}:cell_of_first_pixel", "channels": ["Phase", "GFP"]}, "same columns for 2 images"),
    ],
)
def test_columns_that_the_traces_cannot_take(movie, tmp_path, step, message):
    light = {"do": f"{MINE}:light_in_cells", "of": ["GFP", "tracked"], "to": "traces", "name": "first"}
    more = {"name": "more", "input": "cells", "steps": [light, step | {"to": "traces"}]}
    with pytest.raises(ConfigError, match=message):
        pyama_dask.run(config(movie, tmp_path / "out", {"pipelines": [SEVEN, more]}))


def test_a_task_frees_its_arrays_at_once(movie, tmp_path, monkeypatch):
    """They would stay until Python looks for circles of objects, beside those of the next task."""
    contexts, init = [], TaskContext.__init__
    monkeypatch.setattr(TaskContext, "__init__", lambda self, *of: (init(self, *of), contexts.append(self))[0])
    run(movie, tmp_path / "out", {"name": "prepare", "steps": [MEAN]}, SEVEN | {"input": "prepare"})
    assert contexts
    for context in contexts:
        assert not any(isinstance(held, np.ndarray) for held in context._held.values())
        assert not context.own_images._stacks
        assert not context.own_images._movie._read
