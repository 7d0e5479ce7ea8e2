"""Small movies with random pixels in formats that hold many planes per file, and the comparison with these pixels."""

import numpy as np
import pytest
import tifffile

from pyama_dask.errors import MissingFrameError
from pyama_dask.readers.registry import open_reader

CHANNELS = "Phase", "GFP"
PIXEL_UM = 0.65


def random_pixels(fovs=2, frames=3, channels=2, planes=1, shape=(20, 24)):
    """(P, T, C, Z, H, W) pixels."""
    rng = np.random.default_rng(0)
    return rng.integers(100, 4000, (fovs, frames, channels, planes, *shape)).astype(np.uint16)


def ome_options(name, pixels, fov):
    """Metadata of one image of an OME-TIFF file: a minute from frame to frame, 200 um from FOV to FOV."""
    frames, count = len(pixels), int(np.prod(pixels.shape[:3]))
    each = count // frames
    return {
        "axes": "TCZYX",
        "Name": name,
        "PhysicalSizeX": PIXEL_UM,
        "PhysicalSizeY": PIXEL_UM,
        "TimeIncrement": 1,
        "TimeIncrementUnit": "min",
        "Channel": {"Name": list(CHANNELS)},
        "Plane": {
            "DeltaT": [61.0 * (plane // each) + 0.5 * (plane % each) for plane in range(count)],
            "PositionX": [0.2 * fov] * count,
            "PositionXUnit": ["mm"] * count,
            "PositionY": [-30.0] * count,
            "PositionYUnit": ["µm"] * count,
        },
    }


def write_ome(path, pixels, **options):
    """Write all FOVs to one file."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for fov, movie in enumerate(pixels):
            writer.write(movie, photometric="minisblack", metadata=ome_options(f"P{fov}", movie, fov), **options)
    return path


def check_pixels(path, pixels, missing=()):
    """Compare every plane that a reader returns; those of `missing` (FOV, frame, channel, z) must be refused."""
    with open_reader(path) as reader:
        info = reader.metadata
        assert (len(info.fovs), info.n_frames, len(info.channels), info.z_planes) == pixels.shape[:4]
        for fov, frame, channel, z in np.ndindex(pixels.shape[:4]):
            if (fov, frame, channel, z) in set(missing):
                with pytest.raises(MissingFrameError):
                    reader.read_frame(fov, frame, channels=[channel], z=z)
            else:
                found = reader.read_frame(fov, frame, channels=[channel], z=z)[0]
                np.testing.assert_array_equal(found, pixels[fov, frame, channel, z])
    assert [fov.missing for fov in info.fovs] == [
        tuple(sorted({plane[1] for plane in missing if plane[0] == fov})) for fov in range(len(pixels))
    ]
    return info
