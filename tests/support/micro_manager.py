"""Datasets as Micro-Manager writes them, byte by byte: stacks with a map of their images, and NDTiff with its index."""

import json
import struct

import numpy as np

from support.stacks import CHANNELS, PIXEL_UM

LABELS = "A1-Site_0", "B02-Site_1"


def about(fov, frame, channel, z):
    """Metadata of an image: a minute from frame to frame, 200 um from FOV to FOV."""
    return {
        "PositionIndex": fov,
        "FrameIndex": frame,
        "ChannelIndex": channel,
        "SliceIndex": z,
        "PositionName": LABELS[fov],
        "Channel": CHANNELS[channel],
        "ElapsedTime-ms": 61_000 * frame + 500 * channel + 10 * fov,
        "XPositionUm": 200.0 * fov,
        "YPositionUm": -30.5,
        "PixelSizeUm": PIXEL_UM,
    }


def summary(frames, **changes):
    return {
        "MicroManagerVersion": "2.0.1",
        "Prefix": "acq",
        "Frames": frames,
        "ChNames": list(CHANNELS),
        "PixelSize_um": PIXEL_UM,
        "Interval_ms": 60_000,
    } | changes


def _write_images(file, images):
    """Write images with their directories, and return the place of each: of its directory, its pixels and metadata."""
    places = []
    for number, (at, pixels) in enumerate(images):
        text = json.dumps(about(*at)).encode()
        height, width = pixels.shape
        start = file.tell()
        data = start + 2 + 10 * 12 + 4
        end = data + pixels.nbytes + len(text)
        tags = [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 1, 16),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, data),
            (277, 3, 1, 1),
            (278, 3, 1, height),
            (279, 4, 1, pixels.nbytes),
            (51123, 2, len(text), data + pixels.nbytes),
        ]
        file.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags))
        file.write(struct.pack("<I", 0 if number == len(images) - 1 else end) + pixels.tobytes() + text)
        places.append((start, data, data + pixels.nbytes, len(text)))
    return places


def write_stacks(folder, pixels, *, without=(), images_per_file=4, has_map=True, frames=None):
    """Write one stack per position, in several files each; planes of `without` were not recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary(frames or pixels.shape[1])).encode()
    for fov in range(len(pixels)):
        planes = [(fov, *place) for place in np.ndindex(pixels.shape[1:4]) if (fov, *place) not in set(without)]
        for part, start in enumerate(range(0, len(planes), images_per_file)):
            suffix = f"_{part}" if part else ""
            _write_stack(folder / f"acq_MMStack_{LABELS[fov]}{suffix}.ome.tif", text, [
                (at, pixels[at]) for at in planes[start : start + images_per_file]
            ], has_map)  # fmt: skip
    return folder


def _write_stack(path, text, images, has_map):
    with path.open("wb") as file:
        file.write(bytes(40) + text)
        places = _write_images(file, images)
        index = file.tell()
        if has_map:
            file.write(struct.pack("<II", 3453623, len(images)))
            for ((p, t, c, z), _), (start, *_) in zip(images, places, strict=True):
                file.write(struct.pack("<5I", c, z, t, p, start))
        file.seek(0)
        file.write(struct.pack("<2sHI", b"II", 42, 40 + len(text)))
        file.write(struct.pack("<II", 54773648, index if has_map else 0))
        file.write(struct.pack("<6I", 483765892, 0, 0, 0, 2355492, len(text)))


def write_ndtiff(folder, pixels, *, without=(), names=True, images_per_file=10, **changes):
    """Write a dataset, time by time; without `names`, channels are numbers in the index."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary(pixels.shape[1], **changes)).encode()
    places = sorted(np.ndindex(pixels.shape[:4]), key=lambda at: (at[1], at[0], *at[2:]))
    planes = [at for at in places if at not in set(without)]
    entries = b""
    for part, start in enumerate(range(0, len(planes), images_per_file)):
        name = f"acq_NDTiffStack{f'_{part}' if part else ''}.tif"
        chosen = planes[start : start + images_per_file]
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<2sHI", b"II", 42, 28 + len(text)))
            file.write(struct.pack("<5I", 483729, 3, 2, 2355492, len(text)) + text)
            written = _write_images(file, [(at, pixels[at]) for at in chosen])
        for at, (_, data, *rest) in zip(chosen, written, strict=True):
            entries += _entry(at, name, data, pixels.shape[-2:], rest, names)
    (folder / "NDTiff.index").write_bytes(entries)
    return folder


def _entry(at, name, data, shape, about, names):
    fov, frame, channel, z = at
    axes = {"position": fov, "time": frame, "channel": CHANNELS[channel] if names else channel, "z": z}
    key, (height, width) = json.dumps(axes).encode(), shape
    parts = struct.pack("<I", len(key)), key, struct.pack("<I", len(name)), name.encode()
    return b"".join(parts) + struct.pack("<IiiiiIii", data, width, height, 1, 0, *about, 0)
