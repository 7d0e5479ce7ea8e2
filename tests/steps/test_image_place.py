"""Pixel sizes, positions and sizes of frames after steps that change them."""

from pathlib import Path

import pytest
from support import steps
from support.movies import config

from pyama_dask.config.load import parse_config
from pyama_dask.config.pipelines import SEVEN as SEVEN_STEPS
from pyama_dask.errors import ConfigError
from pyama_dask.plan.resolve import resolve
from pyama_dask.readers.base import Channel, FovInfo, Metadata
from pyama_dask.steps.flow import flow_of
from pyama_dask.steps.image_place import frames_of, placed, resizing_step

MINE = Path(steps.__file__).as_posix()
SEVEN = {"name": "cells", "input": "prepare", "steps": "seven"}
CROP = {"do": "crop", "top": 20, "left": 40, "height": 201, "width": 260}
HALF = {"do": "resample", "factor": 0.5}


def resolved(before, *further, shape=(301, 340), **changes):
    fov = FovInfo("P1", shape, (1000.0, 2000.0))
    channels = (Channel("Phase", "uint8"), Channel("GFP", "uint16"))
    metadata = Metadata(Path("movie.czi"), "czi", (fov,), 6, channels, pixel_size_um=0.65)
    pipelines = [{"name": "prepare", "steps": before}, SEVEN, *further]
    document = config(metadata.path, Path("out"), {"pipelines": pipelines} | changes)
    return resolve(parse_config(document), metadata), metadata


@pytest.mark.parametrize(
    ("steps_before", "shape", "pixel", "position"),
    [
        ([CROP], (201, 260), 0.65, (1000.0, 2000.0 - 30 * 0.65)),
        ([HALF], (151, 170), 1.3, (1000.0, 2000.0 + 0.5 * 0.65)),  # the last row of squares reaches beyond the frame
        ([CROP, HALF], (101, 130), 1.3, (1000.0, 2000.0 - 29.5 * 0.65)),
        ([HALF, CROP | {"height": 31, "width": 50}], (31, 50), 1.3, (1000 - 20 * 1.3, 2000 + 0.325 - 40 * 1.3)),
        ([{"do": "resample", "factor": 0.2}], (61, 68), 3.25, (1000.0, 2000.0 + 2 * 0.65)),
        ([{"do": "resample", "factor": 2}], (602, 680), 0.325, (1000.0, 2000.0)),
        ([{"do": "gaussian"}], (301, 340), 0.65, (1000.0, 2000.0)),
    ],
)
def test_pixels_after_crop_and_resample(steps_before, shape, pixel, position):
    seen = frames_of("copy", *resolved(steps_before))
    assert seen.fovs[0].shape == shape
    assert seen.pixel_size_um == pytest.approx(pixel)
    assert seen.fovs[0].position_um == pytest.approx(position)
    assert seen.channels[0].dtype == "uint8"


def test_lengths_in_micrometres_become_the_pixels_that_are_segmented():
    bright = {"params.segmentation_method": "bright", "params.segmentation_params": {"diameter": "13 um"}}
    assert resolved([HALF], **bright)[0].params.segmentation_params["diameter"] == pytest.approx(10)
    assert resolved([CROP], **bright)[0].params.segmentation_params["diameter"] == pytest.approx(20)
    with pytest.raises(ConfigError, match=r"frames the step 'prepare.every_other' resizes, states no pixel size"):
        resolved([{"do": f"{MINE}:every_other"}], **bright)


def test_a_function_that_resizes_leaves_pixels_without_a_size():
    found, metadata = resolved([{"do": f"{MINE}:every_other"}])
    seen = frames_of("segment", found, metadata)
    assert (seen.fovs[0].shape, seen.pixel_size_um, seen.fovs[0].position_um) == ((151, 170), None, None)
    assert resizing_step(found, metadata) == "prepare.every_other"
    assert resizing_step(*resolved([HALF])) is None


def test_images_after_the_seven_have_the_size_of_what_was_copied():
    more = {"name": "more", "input": "cells", "steps": [{"do": "gaussian", "channels": ["GFP", "tracked"][:1]}]}
    (own,) = (own for own in flow_of(resolved([CROP, HALF], more)[0]).own if own.pipeline == "more")
    assert placed(own.gives[0], (301, 340)).shape == (101, 130)
    assert placed(own.gives[0], (301, 340)).pixel == 2


def test_frames_keep_their_size_after_they_were_copied():
    listed = ["copy", CROP, "segment", "track", "background", "crop", "extract", "cache"]
    with pytest.raises(ConfigError, match=r"step 'segment' gets frames of 201 x 260 pixels.*have 301 x 340.*before 'c"):
        resolved([{"do": "gaussian"}, *listed], pipelines=[{"name": "cells", "steps": listed}])


def test_an_image_beside_the_channels_may_have_another_size():
    small = {"do": "resample", "channels": ["GFP"], "to": "small"}
    assert frames_of("copy", *resolved([small])).fovs[0].shape == (301, 340)


@pytest.mark.parametrize(
    ("step", "said"),
    [({"do": "segment", "channels": ["GFP"]}, "channels"), ({"do": "track", "radius": 3}, "radius")],
)
def test_the_seven_take_no_keys(step, said):
    listed = [step if step["do"] == name else name for name in SEVEN_STEPS]
    with pytest.raises(ConfigError, match=rf"one of the seven steps, and takes no keys here \({said}\)"):
        resolved([HALF], pipelines=[{"name": "cells", "steps": listed}])
