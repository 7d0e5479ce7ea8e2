"""Readers agree with the vendors' packages, and with what is known, on files from real microscopes."""

from pathlib import Path

import nd2
import numpy as np
import pytest
from pylibCZIrw import czi

from pyama_dask.readers import open_reader
from pyama_dask.readers.times import NOMINAL

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real files are not at hand")

# FOVs, frames, planes, shape of the first FOV, pixel size in um, interval and first times in minutes, the channels with
# their kinds. Times are from the first frame on, and of each plane where the file has them: the attachment of
# CellDivision has 59.978 and 119.991 s, its XML 60.075 and 120.15 s.
FACTS = {
    "real_nd2/example-timelapse.nd2": (
        1, 53, 1, (64, 64), 0.325, None, [0, 0.50016 / 60], {"GFP 488 nm": "fluorescence"},
    ),
    "real_nd2/example-multichannel.nd2": (
        1, 1, 1, (256, 256), 0.32339, None, [0],
        {"Mono": "other", "DAPI": "fluorescence", "FITC BP": "fluorescence", "TRITC BP": "fluorescence"},
    ),
    "real_nd2/example-pbmc.nd2": (
        1, 1, 1, (256, 256), 0.646781, None, [0],
        {"Mono": "other", "DAPI": "fluorescence", "FITC BP": "fluorescence", "TRITC BP": "fluorescence"},
    ),
    "real_nd2/example-cerevisiae.nd2": (
        1, 1, 1, (256, 256), 0.108333, None, [0], {"DIC": "other", "FITC BP": "fluorescence"},
    ),
    "real_nd2/example-zstack.nd2": (
        1, 1, 11, (128, 128), 0.32339, None, [0], {"FITC BP": "fluorescence"},
    ),
    "real_nd2/cluster.nd2": (
        1, 3, 10, (31, 38), 0.167809, None, [0, 10.641097 / 60],
        {"5-FAM/pH 9.0": "fluorescence", "FM 4-64/2% CHAPS": "fluorescence"},
    ),
    "real_nd2/t.nd2": (1, 1, 1, (250, 200), 1.840497, None, [0], {"GFP": "fluorescence"}),
    "real_czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi": (
        3, 2, 3, (122, 295), 1.6, 33.412 / 60, [0, 33.412 / 60],
        {"DAPI": "fluorescence", "EGFP": "fluorescence"},
    ),
    "real_czi/CellDivision_T3_Z5_CH2_X240_Y170.czi": (
        1, 3, 5, (170, 240), 0.0905767, None, [0, 60.0254 / 60, 120.0909 / 60],
        {"LED555": "fluorescence", "LED470": "fluorescence"},
    ),
    "real_czi/WellD6-7_S2.czi": (
        2, 1, 1, (440, 544), 0.1, None, [0], {"AF488": "fluorescence"},
    ),
    "real_czi/xyz__multiple_images.czi": (
        2, 1, 2, (251, 251), 0.195644, None, [0], {"ChA": "fluorescence"},
    ),
    "real_czi/Airyscan.czi": (
        1, 3, 1, (480, 480), 0.0439294, None, [0, 0.5233455 / 60, 1.0466909 / 60],
        {"ChA-T1": "fluorescence", "ChA-T2": "fluorescence"},
    ),
    "real_czi/LLS7_small.czi": (
        1, 2, 3, (64, 64), 0.144992, None, [0, 90.038 / 60],
        {"LatticeLightsheet 1-T1": "fluorescence", "LatticeLightsheet 2-T2": "fluorescence"},
    ),
    "composite/t98g.nd2": (
        2, 16, 1, (512, 512), 0.87, 10, [0, 10, 20], {"Phase": "phase", "GFP": "fluorescence"},
    ),
    "composite/t98g.czi": (
        2, 16, 1, (512, 512), 0.87, 10, [0, 10, 20], {"Phase": "phase", "GFP": "fluorescence"},
    ),
}  # fmt: skip


SOURCES = {
    "CellDivision_T3_Z5_CH2_X240_Y170.czi": "czi AcquisitionTime of planes",
    "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi": "czi AcquisitionTime of planes",
    "WellD6-7_S2.czi": "czi AcquisitionTime of planes",
    "xyz__multiple_images.czi": "czi attachment TimeStamps",
    "Airyscan.czi": "czi attachment TimeStamps",
    "LLS7_small.czi": "czi T/Positions/List/Offsets",
    "t98g.czi": NOMINAL,
}


def path_of(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    return path


def vendor_nd2(path):
    """(P, T, C, Z, Y, X)"""
    with nd2.ND2File(path) as file:
        pixels, axes = file.asarray(), list(file.sizes)
    for axis in "PTCZ":
        if axis not in axes:
            pixels, axes = pixels[np.newaxis], [axis, *axes]
    return pixels.transpose([axes.index(axis) for axis in "PTCZYX"])


def vendor_czi(document, fov):
    """(T, C, Z, Y, X)"""
    scenes = sorted(document.scenes_bounding_rectangle)
    where = {"scene": scenes[fov]} if scenes else {}
    sizes = [document.total_bounding_box[axis][1] for axis in "TCZ"]
    planes = [document.read(plane=dict(zip("TCZ", at, strict=True)), **where)[..., 0] for at in np.ndindex(*sizes)]
    return np.reshape(planes, (*sizes, *planes[0].shape))


@pytest.mark.parametrize("name", FACTS)
def test_what_is_known(name):
    n_fovs, n_frames, planes, shape, pixel_size, interval, times, channels = FACTS[name]
    with open_reader(path_of(name)) as reader:
        info = reader.metadata
    assert (len(info.fovs), info.n_frames, info.z_planes) == (n_fovs, n_frames, planes)
    assert info.fovs[0].shape == shape
    assert not any(fov.missing for fov in info.fovs)
    assert {channel.name: channel.kind for channel in info.channels} == channels
    assert {channel.dtype for channel in info.channels} == {"uint16"}
    assert info.pixel_size_um == pytest.approx(pixel_size, rel=1e-5)
    assert info.interval_min == (None if interval is None else pytest.approx(interval))
    assert info.times_min.shape == (n_fovs, n_frames)
    assert info.time_source == SOURCES.get(Path(name).name, "nd2 events (Time [s])")
    assert info.notes == ()
    assert info.times_min[0, : len(times)] == pytest.approx(times, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in FACTS if name.endswith(".nd2")])
def test_pixels_are_those_of_nd2(name):
    want = vendor_nd2(path_of(name))
    with open_reader(path_of(name)) as reader:
        for fov, frame, z in np.ndindex(want.shape[0], want.shape[1], want.shape[3]):
            assert np.array_equal(reader.read_frame(fov, frame, z=z), want[fov, frame, :, z])


@pytest.mark.parametrize("name", [name for name in FACTS if name.endswith(".czi")])
def test_pixels_are_those_of_pylibczirw(name):
    with open_reader(path_of(name)) as reader, czi.open_czi(str(path_of(name))) as document:
        for fov in range(len(reader.metadata.fovs)):
            want = vendor_czi(document, fov)
            for frame, z in np.ndindex(want.shape[0], want.shape[2]):
                assert np.array_equal(reader.read_frame(fov, frame, z=z), want[frame, :, z])


def test_scenes_of_unequal_size():
    with open_reader(path_of("real_czi/S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi")) as reader:
        fovs = reader.metadata.fovs
    assert [(fov.name, fov.shape) for fov in fovs] == [
        ("TR1", (122, 295)),
        ("P1", (64, 64)),
        ("TR2", (237, 352)),
    ]
    assert fovs[1].position_um == (37980, 13020)
    assert [fov.well for fov in fovs] == [None, None, None]


def test_scenes_in_wells():
    with open_reader(path_of("real_czi/WellD6-7_S2.czi")) as reader:
        fovs = reader.metadata.fovs
    assert [(fov.name, fov.well, fov.site) for fov in fovs] == [("D6", "D6", 1), ("D7", "D7", 1)]
    assert [fov.position_um for fov in fovs] == [(49500, 35500), (58500, 35500)]


def test_scenes_recorded_one_after_the_other():
    with open_reader(path_of("real_czi/WellD6-7_S2.czi")) as reader:
        assert reader.metadata.times_min * 60 == pytest.approx(np.array([[0], [0.3858889]]))


def test_the_same_movie_in_both_formats():
    with (
        open_reader(path_of("composite/t98g.nd2")) as one,
        open_reader(path_of("composite/t98g.czi")) as other,
    ):
        for fov, frame in [(0, 0), (0, 15), (1, 0), (1, 7)]:
            assert np.array_equal(one.read_frame(fov, frame), other.read_frame(fov, frame))
