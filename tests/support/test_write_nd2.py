"""Files made by write_nd2 open in the nd2 package with the right content."""

from datetime import UTC, datetime

import nd2
import numpy as np
import pytest

from support.write_nd2 import Nd2Channel, Nd2Period, Nd2Position, Nd2Writer, write_nd2

START = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


def random(shape, dtype=np.uint16):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape, dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype)


def test_multi_position_time_lapse(tmp_path):
    data = random((10, 4, 2, 32, 32))
    path = write_nd2(
        tmp_path / "a.nd2",
        data,
        "TPCYX",
        channels=[
            Nd2Channel("Phase", "phase"),
            Nd2Channel("GFP", color=(0, 255, 0), excitation_nm=488, emission_nm=520),
        ],
        pixel_size_um=0.325,
        positions=[Nd2Position(100 * i, 200 * i, 3000, f"Pos{i}") for i in range(4)],
        period_ms=600_000,
        frame_interval_ms=500,
        start=START,
    )
    assert np.array_equal(nd2.imread(path), data)
    with nd2.ND2File(path) as f:
        assert dict(f.sizes) == {"T": 10, "P": 4, "C": 2, "Y": 32, "X": 32}
        assert f.voxel_size()[:2] == (0.325, 0.325)
        assert np.array_equal(f.asarray(position=2)[:, 0], data[:, 2])
        assert np.array_equal(f.asarray(position="Pos3")[:, 0], data[:, 3])
        assert np.array_equal(f.to_dask()[3, 2].compute(), data[3, 2])
        assert np.array_equal(f.read_frame(13), data[3, 1])
        phase, gfp = f.metadata.channels
        assert (phase.channel.name, gfp.channel.name) == ("Phase", "GFP")
        assert "phaseContrast" in phase.microscope.modalityFlags
        assert gfp.channel.excitationLambdaNm == 488
        assert gfp.channel.emissionLambdaNm == 520
        frame = f.frame_metadata(13).channels[0]
        assert frame.time.relativeTimeMs == 3 * 600_000 + 500
        assert frame.position.name == "Pos1"
        assert tuple(frame.position.stagePositionUm) == (100, 200, 3000)
        event = f.events()[13]
        assert event["Time [s]"] == 1800.5
        assert (event["T Index"], event["P Index"]) == (3, 1)
        assert f.text_info["date"] == "3/4/2025  5:06:07 AM"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("width", [16, 17, 19])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("compression", [None, "lossless"])
def test_pixels_survive(tmp_path, dtype, width, channels, compression):
    data = random((2, 3, channels, 7, width), dtype)
    path = write_nd2(tmp_path / "a.nd2", data, "TPCYX", compression=compression)
    assert np.array_equal(nd2.imread(path).reshape(data.shape), data)


@pytest.mark.parametrize("axes", ["YX", "CYX", "TYX", "PYX", "TZCYX", "PTCYX", "TPZCYX"])
def test_axis_orders(tmp_path, axes):
    data = random(tuple(range(2, 2 + len(axes))))
    path = write_nd2(tmp_path / "a.nd2", data, axes)
    with nd2.ND2File(path) as f:
        assert "".join(f.sizes) == axes
        assert np.array_equal(f.asarray(), data)


def test_position_outermost_takes_whole_time_loop_per_position(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", random((2, 3, 8, 8)), "PTYX", period_ms=1000)
    with nd2.ND2File(path) as f:
        times = [f.frame_metadata(i).channels[0].time.relativeTimeMs for i in range(6)]
    assert times == [0, 1000, 2000, 3000, 4000, 5000]


def test_uneven_time_loop(tmp_path):
    periods = [Nd2Period(2, 1000), Nd2Period(3, 60_000)]
    path = write_nd2(tmp_path / "a.nd2", random((5, 8, 8)), "TYX", periods=periods)
    with nd2.ND2File(path) as f:
        assert f.experiment[0].type == "NETimeLoop"
        times = [f.frame_metadata(i).channels[0].time.relativeTimeMs for i in range(5)]
    assert times == [0, 1000, 2000, 62_000, 122_000]


def test_unticked_position_is_left_out(tmp_path):
    data = random((2, 8, 8))
    path = write_nd2(
        tmp_path / "a.nd2",
        data,
        "PYX",
        positions=[(1, 2), (3, 4), (5, 6)],
        position_valid=[True, False, True],
    )
    with nd2.ND2File(path) as f:
        assert f.sizes["P"] == 2
        assert f.frame_metadata(1).channels[0].position.stagePositionUm.x == 5
        assert np.array_equal(f.asarray(), data)


def test_aborted_acquisition(tmp_path):
    data = random((5, 3, 2, 16, 16))
    frames = data.reshape(15, 2, 16, 16)
    path = tmp_path / "a.nd2"
    with Nd2Writer(path, {"T": 5, "P": 3, "C": 2, "Y": 16, "X": 16}) as writer:
        for i in range(8):
            writer.write_frame(i, frames[i])
    with nd2.ND2File(path) as f:
        assert f.sizes["T"] == 5
        assert f.attributes.sequenceCount == 8
        got = f.asarray().reshape(frames.shape)
    assert np.array_equal(got[:8], frames[:8])
    assert not got[8:].any()


def test_pixels_beyond_the_significant_bits_are_refused(tmp_path):
    data = np.full((2, 8, 8), 4096, np.uint16)
    write_nd2(tmp_path / "a.nd2", data - 1, "TYX", bits_significant=12)
    with pytest.raises(ValueError, match="12 bits"):
        write_nd2(tmp_path / "b.nd2", data, "TYX", bits_significant=12)


def test_streaming_by_loop_position(tmp_path):
    data = random((2, 3, 2, 8, 8))
    path = tmp_path / "a.nd2"
    with Nd2Writer(path, {"T": 2, "P": 3, "C": 2, "Y": 8, "X": 8}) as writer:
        for p in reversed(range(3)):
            for t in range(2):
                writer.write(data[t, p], T=t, P=p, time_ms=10.0 * t + p)
    with nd2.ND2File(path) as f:
        assert np.array_equal(f.asarray(), data)
        assert f.frame_metadata(5).channels[0].time.relativeTimeMs == 12


@pytest.mark.parametrize(
    ("axes", "dtype", "options", "message"),
    [
        ("TPCY", np.uint16, {}, "do not fit"),
        ("PCTYX", np.uint16, {}, "loops first"),
        ("TPCYX", np.int32, {}, "dtype must be"),
        ("TPCYX", np.uint16, {"channels": ["one"]}, "1 channels given"),
        ("TPCYX", np.uint16, {"positions": [(0, 0)]}, "1 positions given"),
        ("TPCYX", np.uint16, {"periods": [Nd2Period(1, 1)]}, "counts of periods"),
        ("TPCYX", np.uint16, {"frame_times_ms": [0.0]}, "1 times for"),
    ],
)
def test_bad_input_is_refused(tmp_path, axes, dtype, options, message):
    with pytest.raises(ValueError, match=message):
        write_nd2(tmp_path / "a.nd2", np.zeros((2, 3, 2, 8, 8), dtype), axes, **options)
