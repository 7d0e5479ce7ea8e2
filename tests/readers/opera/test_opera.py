"""Plates of Opera Phenix and Operetta: synthetic ones agree with their truth, real ones with what is known of them."""

import os
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.plates import REAL, generator, needs_generator, needs_real, state_of, truth_of

from pyama_dask.config.well_names import parse_well
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.opera import plate as opera
from pyama_dask.readers.opera.index import read_index

# Of each layout: the scene, the options of the writer, and planes that are missing (well, site, channel, frame, z), or
# the number of planes at the end that an aborted run lacks.
LAYOUTS = {
    "version 4": ({"frames": 2, "planes": 2}, {"version": 4, "plate": "A & B <1>"}, ()),
    "version 5": ({"frames": 3, "order": "centre", "grid": (3, 3)}, {"version": 5, "bom": True}, ()),
    "version 6": ({"planes": 3, "z_step_um": 0.5, "interval_s": 1.5, "frames": 2}, {"version": 6, "bom": False}, ()),
    "version 7": (
        {"channels": ("Brightfield", "DAPI", "mCherry", "Cy5"), "frames": 2},
        {"version": 7, "first_timepoint": 1, "compression": "lzw"},
        (),
    ),
    "no byte order mark": ({}, {"bom": False, "version": 5, "compression": "zlib"}, ()),
    "time points from 1": ({"frames": 3, "wells": ("C03", "B11", "B02")}, {"first_timepoint": 1, "version": 4}, ()),
    "fields with three digits": ({"grid": (1, 103), "wells": ("P24",), "channels": ("GFP",)}, {"version": 6}, ()),
    "rows of two letters": ({"wells": ("AA05", "C11", "C03", "Z48", "AF48"), "grid": (1, 2)}, {"version": 7}, ()),
    "selected fields": (
        {"grid": (3, 3), "selected": (0, 2, 4, 7), "order": "centre", "overlap": 0.0, "frames": 2},
        {"version": 7, "bom": False},
        (),
    ),
    "long interval": ({"frames": 4, "interval_s": 90_000.0, "stage_error_px": 0}, {"version": 5}, ()),
    "dropped planes are listed": (
        {"frames": 3, "planes": 2},
        {"version": 5, "list_missing": True},
        (("B02", 2, 1, 1, 0), ("B03", 1, 0, 2, 0), ("B03", 1, 1, 2, 0)),
    ),
    "dropped planes are not listed": (
        {"frames": 3, "planes": 2},
        {"version": 7, "list_missing": False, "first_timepoint": 1},
        (("B02", 2, 1, 1, 0), ("B03", 1, 1, 2, 0), ("B03", 1, 1, 2, 1), ("B03", 1, 0, 2, 1)),
    ),
    "aborted, listed": ({"frames": 4}, {"version": 6, "list_missing": True}, 21),
    "aborted, not listed": ({"frames": 4, "planes": 2}, {"version": 4, "list_missing": False}, 37),
    "aborted in the first frame": ({"wells": ("B02", "B03", "B04")}, {"version": 7, "list_missing": False}, 9),
}


def written(folder, layout):
    """Plate of a layout, and its scene."""
    scene, options, gone = LAYOUTS[layout]
    module = generator()
    scene = module.Scene(**({"tile": (12, 16), "cells": 0, "jitter_px": 2, "stage_error_px": 1.5} | scene))
    gone = [tuple(plane) for plane, _ in module.Planes.of(scene).all()][-gone:] if isinstance(gone, int) else gone
    scene = module.replace(scene, missing=set(gone).__contains__)
    plate = folder / "screen" / "plate__2026-01-01T10_00_00-Measurement_1"
    module.write_opera(plate, scene, **options)
    return plate, scene


@needs_generator
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_agrees_with_its_truth(tmp_path, layout):
    plate, scene = written(tmp_path, layout)
    options = LAYOUTS[layout][1]
    before = state_of(plate)
    found = opera.scan(plate)
    assert state_of(plate) == before

    info, file = found.metadata, found.planes.file
    truth = [
        (row["well"], *(int(row[name]) for name in ("site", "channel", "t", "z")), row["file"], row["written"] == "1")
        for row in truth_of(plate, "planes")
    ]
    listed = [row for row in truth if row[-1] or options.get("list_missing", True)]
    sites = sorted({row[:2] for row in listed}, key=lambda of: (parse_well(of[0]), of[1]))
    assert [(fov.well, fov.site, fov.name) for fov in info.fovs] == [(*of, f"{of[0]} s{of[1]}") for of in sites]
    assert {fov.plate for fov in info.fovs} == {options.get("plate", "synthetic")}
    assert file.shape == (len(sites), 1 + max(row[3] for row in listed), len(scene.channels), scene.planes)
    assert file.shape[1:] == (info.n_frames, len(info.channels), info.z_planes)

    held = np.zeros(file.shape, bool)
    for well, site, channel, t, z, name, is_there in truth:
        if is_there:
            at = sites.index((well, site)), t, channel, z
            held[at] = True
            assert found.planes.files[file[at]] == name
    assert (held == (file != ABSENT)).all()
    for fov, channel, z in np.ndindex(len(sites), *file.shape[2:]):
        assert info.fovs[fov].lacking([channel], [z]) == set(np.flatnonzero(~held[fov, :, channel, z]))
    check_description(plate, scene, found, sites, held)
    check_notes(plate, found, truth, listed)


def check_description(plate, scene, found, sites, held):
    """Compare channels, pixels, positions and times with the truth."""
    info = found.metadata
    assert tuple(channel.name for channel in info.channels) == scene.channels
    assert {channel.dtype for channel in info.channels} == {"uint16"}
    kinds = {"Phase": "phase", "Brightfield": "other"}
    assert [channel.kind for channel in info.channels] == [kinds.get(name, "fluorescence") for name in scene.channels]
    assert {fov.shape for fov in info.fovs} == {scene.tile}
    assert info.pixel_size_um == scene.pixel_um
    assert info.plate_shape in {(8, 12), (16, 24), (32, 48)}
    places = {(row["well"], int(row["site"])): row for row in truth_of(plate, "tiles")}
    for fov, of in zip(info.fovs, sites, strict=True):
        stated = [float(places[of][f"stage_{axis}_um"]) for axis in "xy"]
        assert np.abs(np.subtract(fov.position_um, stated)).max() < 0.01

    module = generator()
    planes = module.Planes.of(scene)
    seconds = np.full(held.shape[:2], np.nan)
    for (fov, t), _ in np.ndenumerate(seconds):
        if held[fov, t].any():
            # A plane that is listed has a time even if its file is missing.
            seconds[fov, t] = planes.time(module.Plane(*sites[fov], 0, t, 0)).timestamp()
    assert info.times_min == pytest.approx((seconds - np.nanmin(seconds)) / 60, abs=1e-5, nan_ok=True)
    assert info.time_source == "AbsTime of images"
    assert len(found.planes.sizes) == len(found.planes.written) == len(found.planes.files)


def check_notes(plate, found, truth, listed):
    """All that is missing is said."""
    absent = [row for row in listed if not row[-1]]
    notes = [note.removeprefix(f"{plate.name}: ") for note in found.metadata.notes]
    expected = []
    if absent:
        example = f"{len(absent)} of {len(listed)} images in the index are not on disk, such as r"
        assert notes[0].startswith(example)
        expected = notes[:1]
    if empty := sorted({row[0] for row in truth} - {row[0] for row in listed}):
        expected.append(f"{len(empty)} well without images: {', '.join(empty)}")
    assert notes == expected


@needs_generator
def test_every_way_to_a_measurement_leads_to_its_folder(tmp_path):
    plate, _ = written(tmp_path, "version 5")
    images = plate / "Images"
    for path in (tmp_path, plate.parent, plate, images, images / "Index.idx.xml"):
        assert opera.find(path) == [plate]
    assert opera.find(tmp_path.parent / "nothing") == []
    assert opera.find(images / "r02c02f01p01-ch1sk1fk1fl1.tiff") == []
    (images / "Index.idx.xml").rename(images / "INDEX.REF.XML")
    assert opera.find(plate) == opera.find(images) == [plate]
    (images / "INDEX.REF.XML").rename(plate / "index.xml")
    assert opera.find(plate) == opera.find(images) == opera.find(plate / "index.xml") == [plate]
    found = opera.scan(plate)
    assert (found.planes.file != ABSENT).all()
    assert found.planes.path_of(0).is_file()


@needs_generator
def test_folder_without_write_permission(tmp_path):
    plate, _ = written(tmp_path, "no byte order mark")
    for folder in (plate / "Images", plate):
        folder.chmod(0o555)
    assert len(opera.scan(plate).metadata.fovs) == 8


# ------------------------------------------------------------------ indexes by hand

V7 = "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
CONSTANTS = {"ChannelName": "GFP", "ChannelType": "Fluorescence", "ImageResolutionX": "6.5E-07", "ImageSizeX": "8",
             "ImageSizeY": "6", "MaxIntensity": "65535"}  # fmt: skip


def image(url="a.tiff", **changed):
    """Record of an image; None leaves an element out."""
    record = {
        "State": "Ok", "URL": url, "Row": 2, "Col": 3, "FieldID": 1, "PlaneID": 1, "TimepointID": 0, "ChannelID": 1,
        "FlimID": 0, "PositionX": "1E-05", "PositionY": "2E-05", "MeasurementTimeOffset": 0,
        "AbsTime": "2026-01-01T10:00:00.1234567+01:00",
    } | changed  # fmt: skip
    return "<Image>" + "".join(f"<{k}>{v}</{k}>" for k, v in record.items() if v is not None) + "</Image>"


def channel(number=1, **changed):
    """Entry of a map."""
    texts = "".join(f"<{k}>{v}</{k}>" for k, v in (CONSTANTS | changed).items())
    return f'<Map><Entry ChannelID="{number}">{texts}</Entry></Map>'


def write_index(path, images, maps=(), head="", namespace=V7, encoding="utf-8"):
    """Write an index, and the files that it names unless they are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    maps = "".join(maps or [channel()])
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<EvaluationInputData xmlns="{namespace}">{head}'
        f"<Maps>{maps}</Maps><Images>{''.join(images)}</Images></EvaluationInputData>"
    )
    path.write_bytes(text.encode(encoding))
    return path


def write_tiff(path, shape=(6, 8), dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.ones(shape, dtype), metadata=None)


def scanned(tmp_path, images, files=("a.tiff",), **options):
    root = tmp_path / "plate"
    for name in files:
        write_tiff(root / "Images" / name)
    write_index(root / "Images/Index.xml", images, **options)
    return opera.scan(root)


def notes(found):
    return [note.removeprefix("plate: ") for note in found.metadata.notes]


def test_description_of_a_channel_is_merged_from_maps_and_images(tmp_path):
    split = [
        '<Map><Entry ChannelID="2"><FlatfieldProfile>{x: [1]}</FlatfieldProfile></Entry></Map>',
        channel(1),
        channel(2, ChannelName="Phase", ChannelType="BrightField"),
        channel(7, ChannelName="Cy5"),
        channel(3).replace("<ChannelName>GFP</ChannelName>", ""),
    ]
    images = [image(), image("b.tiff", ChannelID=2, ChannelName="DIC"), image("c.tiff", ChannelID=3)]
    found = scanned(tmp_path, images, ["a.tiff", "b.tiff", "c.tiff"], maps=split)
    channels = [(one.name, one.kind) for one in found.metadata.channels]
    assert channels == [
        ("GFP", "fluorescence"), ("DIC", "other"), ("Channel 3", "fluorescence"), ("Cy5", "fluorescence"),
    ]  # fmt: skip
    assert found.planes.file.tolist() == [[[[0], [1], [2], [ABSENT]]]]
    assert found.metadata.pixel_size_um == 0.65


@pytest.mark.parametrize("namespace", ["http://www.perkinelmer.com/PEHH/HarmonyV4", "", "of-another-time/HarmonyV9"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_namespace_and_encoding_is_read(tmp_path, namespace, encoding):
    root = tmp_path / "Images"
    write_tiff(root / "a.tiff")
    index = write_index(root / "Index.xml", [image()], namespace=namespace, encoding=encoding.removesuffix("-sig"))
    if encoding == "utf-8-sig":
        index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
    assert opera.find(root) == [tmp_path]
    (fov,) = opera.scan(tmp_path).metadata.fovs
    assert (fov.name, fov.position_um, fov.missing) == ("B03 s1", (10.0, -20.0), ())


def test_planes_that_were_not_recorded_are_missing(tmp_path):
    images = [
        image(), image("", TimepointID=1), image("c.tiff", TimepointID=2, State="Error"),
        image("e.tiff", TimepointID=4), image(None, TimepointID=5), image("../a.tiff", TimepointID=6),
        image("/a.tiff", TimepointID=7), image("http://host/a.tiff", TimepointID=8),
    ]  # fmt: skip
    found = scanned(tmp_path, images, ["a.tiff", "c.tiff", "e.tiff", "other.tiff"])
    assert found.metadata.fovs[0].missing == (1, 2, 3, 5, 6, 7, 8)
    assert found.planes.files == ["Images/a.tiff", "Images/e.tiff"]
    assert notes(found) == [
        "3 of 8 images in the index were not recorded",
        "3 of 8 images in the index are not on disk, such as ../a.tiff",
        "1 frame between the first and the last one have no images",
    ]


def test_names_of_files_are_those_of_the_index(tmp_path):
    images = [image("b/r01c01.tiff"), image("b\\r02c02.tiff", FieldID=12, FlimID=1)]
    found = scanned(tmp_path, images, ["b/r01c01.tiff", "b/r02c02.tiff"])
    assert [fov.name for fov in found.metadata.fovs] == ["B03 s1", "B03 s12"]
    assert [found.planes.files[n] for n in found.planes.file.ravel()] == [
        "Images/b/r01c01.tiff",
        "Images/b/r02c02.tiff",
    ]


def test_channel_with_one_plane_stands_for_all(tmp_path):
    images = [image(), image("b.tiff", PlaneID=2), image("c.tiff", ChannelID=2, PlaneID=2)]
    found = scanned(tmp_path, images, ["a.tiff", "b.tiff", "c.tiff"], maps=[channel(), channel(2, ChannelName="Phase")])
    assert found.planes.file.tolist() == [[[[0, 1], [2, 2]]]]
    assert notes(found) == ["one z plane only, which stands for all: Phase"]


def test_times_are_those_of_the_first_image_of_each_frame(tmp_path):
    images = [
        image(f"{t}{c}{f}.tiff", TimepointID=t, ChannelID=c, FieldID=f, MeasurementTimeOffset=60 * t,
              AbsTime=f"2026-01-01T10:0{t}:{10 * f + c:02}+01:00")
        for t in (0, 1) for c in (2, 1) for f in (1, 2)
    ]  # fmt: skip
    names = [f"{t}{c}{f}.tiff" for t in (0, 1) for c in (1, 2) for f in (1, 2)]
    maps = [channel(), channel(2, ChannelName="Phase")]
    info = scanned(tmp_path, images, names, maps=maps).metadata
    assert info.times_min == pytest.approx(np.array([[0, 1], [1 / 6, 7 / 6]]))
    without = [text.replace("AbsTime", "Other") for text in images]
    info = scanned(tmp_path, without, names, maps=maps).metadata
    assert info.times_min.tolist() == [[0, 1], [0, 1]]
    assert info.time_source == "MeasurementTimeOffset of images"
    assert opera.scan(tmp_path / "plate", times=False).metadata.times_min is None


def test_pixels_of_another_type_and_size_than_the_index_says(tmp_path):
    images = tmp_path / "plate" / "Images"
    write_tiff(images / "a.tiff", (3, 4), np.uint8)
    found = scanned(tmp_path, [image()], ())
    assert (found.metadata.channels[0].dtype, found.metadata.fovs[0].shape) == ("uint8", (3, 4))
    assert notes(found) == ["GFP: the index states 8 x 6 pixels, but the images have 4 x 3 pixels"]
    (images / "a.tiff").write_bytes(b"II*\0 damaged")
    found = scanned(tmp_path, [image(), image("b.tiff", TimepointID=1)], ["b.tiff"])
    assert (found.metadata.channels[0].dtype, found.metadata.fovs[0].shape) == ("uint16", (6, 8))
    assert found.metadata.fovs[0].missing == ()


def test_without_images_the_index_alone_is_described(tmp_path):
    found = scanned(tmp_path, [image()], (), maps=[channel(MaxIntensity=255)])
    assert (found.metadata.channels[0].dtype, found.metadata.fovs[0].shape) == ("uint8", (6, 8))
    assert found.metadata.fovs[0].missing == (0,)
    assert notes(found) == ["1 of 1 image in the index are not on disk, such as a.tiff"]


def test_different_pixel_sizes_are_said(tmp_path):
    maps = [channel(), channel(2, ChannelName="Phase", ImageResolutionX="1.3E-06")]
    found = scanned(tmp_path, [image(), image("b.tiff", ChannelID=2)], ["a.tiff", "b.tiff"], maps=maps)
    assert notes(found) == [
        "the channels have different pixel sizes, of which the first is used: GFP 0.65, Phase 1.3 um"
    ]


def test_identity_depends_on_places_and_pixel_size(tmp_path):
    def index(images=None, **options):
        return scanned(tmp_path, images or [image()], **options).planes.index

    assert index() == index() == index([image(), image("b.tiff", TimepointID=1)])
    assert index() != index([image(PositionX="1.1E-05")])
    assert index() != index(maps=[channel(ImageResolutionX="6.6E-07")])
    assert index() != index(head="<Plates><Plate><MeasurementID>1</MeasurementID></Plate></Plates>")


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ([], {}, SourceError, "the index lists no images. Fix: check whether the measurement was aborted"),
        ([image(Row=None)], {}, SourceError, r"image 1 of the index .*Row, Col.*Fix: export the measurement again"),
        ([image(), image("b.tiff", Row=0)], {}, SourceError, "row 0, column 3, which no plate has. Fix: export"),
        ([image(Col=100)], {}, SourceError, "row 2, column 100, which no plate has"),
        ([image(), image(PlaneID="x")], {}, SourceError, "image 2 of the index .*Fix: export"),
        ([image(), image("b.tiff", FlimID=1)], {}, SourceError, r"a\.tiff and Images/b\.tiff are the same plane. Fix:"),
        ([image(), image("b.tiff", TimepointID=2_000_000_000)], {}, SourceError, "1 FOVs x 2000000001 frames .*Fix:"),
        ([image(), image("c.tiff", ChannelID=2)], {"maps": [channel(), channel(2, ChannelName="Phase")]},
         UnsupportedSourceError, "different sizes .GFP 8 x 6 pixels, Phase 4 x 6.*Fix: measure with one binning"),
        ([image(), image(FieldID=2), image(FieldID=3)], {}, SourceError, r"a\.tiff is the image of 3 different planes"),
        ([image(FieldID=-5)], {}, SourceError, r"negative number among Row, .*\(2, 3, -5, 0, 1, 1\)\. Fix:"),
        ([image("x.tiff")], {"maps": [channel(ImageSizeX="")]}, SourceError, "has the size of the images. Fix: copy"),
    ],
)  # fmt: skip
def test_unusable_indexes_are_refused(tmp_path, images, options, error, message):
    write_tiff(tmp_path / "plate/Images/c.tiff", (6, 4))
    with pytest.raises(error, match=message):
        scanned(tmp_path, images, ["a.tiff", "b.tiff"], **options)


def test_index_that_is_cut_off_is_refused(tmp_path):
    scanned(tmp_path, [image(), image("b.tiff", FieldID=2)])
    path = tmp_path / "plate/Images/Index.xml"
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert opera.find(path) == [tmp_path / "plate"]
        with pytest.raises(SourceError, match=r"Index.xml: the index is cut off.*Fix: wait until"):
            opera.scan(tmp_path / "plate")
    with pytest.raises(SourceError, match=r"has no index of Harmony. Fix: pass the folder"):
        opera.scan(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 1500), st.sampled_from(["", "9", "-1", "x", "1e400", "nan", "<", "\0", "&#0;"])))
)
def test_changed_text_gives_other_metadata_or_an_explained_error(tmp_path, changes):
    path = tmp_path / "plate/Images/Index.xml"
    write_index(path, [image(), image("b.tiff", TimepointID=1)])
    text = path.read_text()
    for at, new in changes:
        text = text[:at] + new + text[at + 1 :]
    path.write_text(text)
    try:
        info = opera.scan(tmp_path / "plate").metadata
    except SourceError as error:
        assert "Fix: " in str(error)  # noqa: PT017  (either is right)
    else:
        assert info.n_frames > 0
        assert all(parse_well(fov.well) for fov in info.fovs)


def test_the_same_record_twice_is_one_plane(tmp_path):
    found = scanned(tmp_path, [image(), image()])
    assert found.planes.path_of(found.planes.file[0, 0, 0, 0]).is_file()
    assert found.metadata.fovs[0].missing == ()


def test_names_that_no_file_can_have_are_missing(tmp_path):
    """Names that are too long, links to themselves, and pipes, which must not be opened."""
    loop, pipe = tmp_path / "plate/Images/loop.tiff", tmp_path / "plate/Images/pipe.tiff"
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    names = ["a.tiff", "x" * 5000 + "/b.tiff", "y" * 300 + ".tiff", "loop.tiff", "pipe.tiff"]
    found = scanned(tmp_path, [image(name, TimepointID=frame) for frame, name in enumerate(names)])
    assert found.metadata.fovs[0].missing == (1, 2, 3, 4)


def test_positions_that_no_stage_has_are_unknown(tmp_path):
    assert scanned(tmp_path, [image(PositionX="1e300")]).metadata.fovs[0].position_um is None


def test_other_files_and_folders_are_not_measurements(tmp_path):
    (tmp_path / "site/Images").mkdir(parents=True)
    (tmp_path / "site/index.xml").write_text("<rss/>")
    (tmp_path / "site/Images/Index.xml").mkdir()
    deep = tmp_path / "1/2/3/plate"
    write_index(deep / "Images/Index.xml", [image()])
    assert opera.find(tmp_path) == opera.find(tmp_path / "1") == []
    assert opera.find(tmp_path / "1/2") == opera.find(tmp_path / "1/2/3") == [deep]
    assert opera.find(tmp_path / "site/index.xml") == []


def test_several_measurements_are_all_found(tmp_path):
    plates = [tmp_path / "images" / name for name in ("plate 1", "plate 2", "plate 10")]
    for plate in plates:
        write_index(plate / "Images/Index.xml", [image()])
    assert opera.find(tmp_path) == opera.find(tmp_path / "images") == sorted(plates)
    assert opera.find(plates[0] / "Images") == plates[:1]


# ------------------------------------------------------------------ a real plate, and a large index


@needs_real
def test_real_plate_of_an_operetta():
    root = REAL / "opera/operetta_plate"
    before = state_of(root)
    assert opera.find(root.parent) == opera.find(REAL) == [root]
    found = opera.scan(root)
    assert state_of(root) == before
    info = found.metadata
    assert info.plate_shape == (16, 24)
    assert [(fov.name, fov.position_um) for fov in info.fovs] == [
        ("C03 s1", (-645.814, -645.814)), ("C03 s2", (645.814, -645.814)),
    ]  # fmt: skip
    assert {(fov.plate, fov.shape, fov.missing) for fov in info.fovs} == {("Test_Sample_BALL", (1080, 1080), ())}
    (only,) = info.channels
    assert (only.name, only.kind, only.dtype) == ("Fluorescein (FITC)", "fluorescence", "uint16")
    assert (info.n_frames, info.z_planes, info.notes) == (1, 1, ())
    assert info.pixel_size_um == pytest.approx(1.1959521619135234)
    x = [fov.position_um[0] for fov in info.fovs]
    assert (x[1] - x[0]) / info.pixel_size_um == pytest.approx(1079.9997, abs=1e-3)
    assert info.times_min.ravel() * 60 == pytest.approx([0, 0.577], abs=1e-6)
    for number in range(2):
        with tifffile.TiffFile(found.planes.path_of(number)) as file:
            page = file.pages.first
            strips = [
                imagecodecs.lzw_decode(found.planes.path_of(number).read_bytes()[start : start + count])
                for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
            pixels = np.frombuffer(b"".join(strips), page.dtype.newbyteorder(file.byteorder)).reshape(page.shape)
            if page.predictor != 1:
                pixels = np.cumsum(pixels, axis=1, dtype=page.dtype)
            assert (page.asarray() == pixels).all()


def test_a_large_index_is_not_kept_in_memory(tmp_path):
    records = (image(f"r{col:02}t{t}.tiff", Col=col, TimepointID=t) for t in range(100) for col in range(1, 100))
    index = write_index(tmp_path / "Index.xml", records)
    read_index(index)  # imports take memory, too
    tracemalloc.start()
    read_index(index)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < index.stat().st_size
