"""Plates of ImageXpress microscopes: synthetic ones agree with their truth, real ones with what is known of them."""

import os

import numpy as np
import pytest
import tifffile
from support.plates import REAL, generator, needs_generator, needs_real, state_of, truth_of, write_image

from pyama_dask.config.well_names import parse_well
from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers.folders.planes import ABSENT
from pyama_dask.readers.imagexpress import plate as imagexpress
from pyama_dask.readers.imagexpress.names import parse_image_name

COPIED = "the images there are copies of earlier ones, with the same time; these planes are missing"
GUID = "19DACB95-CB7D-4899-9AB4-D4E10B44145D"

# Of each layout: the scene, the options of the writer, and planes that are missing (well, site, channel, frame, z), or
# the number of planes at the end that an aborted run lacks. 32 pixels hold enough of a cell to draw one.
LAYOUTS = {
    "as exported": ({"frames": 3, "planes": 3}, {"projection": "ZStep_0", "htd": "both"}, ()),
    "as stored": (
        {"planes": 2},
        {"projection": "parent", "guid": "glued", "thumbs": True, "extension": ".tif", "htd": "none"},
        (),
    ),
    "flat": ({}, {"time_folders": False, "calibrated": False, "encoding": "utf-8"}, ()),
    "one time in a folder": ({}, {"time_folders": True, "guid": "bracket", "extension": ".tiff"}, ()),
    "times without a separator": ({"frames": 3}, {"separator": "", "htd": "nested", "prefix": "9987_A01"}, ()),
    "z without a separator": (
        {"planes": 3, "order": "centre", "grid": (3, 3)},
        {"separator": "", "projection": "ZStep_0", "prefix": "Run7_C12_s3", "encoding": "utf-16"},
        (),
    ),
    "old names": (
        {"grid": (1, 1), "channels": ("DAPI",), "frames": 2},
        {"old_names": True, "prefix": "9987_A01", "htd": "none"},
        (),
    ),
    "old names with a GUID": (
        {"grid": (1, 1), "channels": ("Phase",), "planes": 2},
        {"old_names": True, "guid": "glued", "thumbs": True, "projection": "parent", "prefix": "w1_s1"},
        (),
    ),
    "old names of sites": ({"channels": ("Phase",)}, {"old_names": True, "prefix": "w1_s1", "guid": "bracket"}, ()),
    "a GUID as the plate's name": (
        {"frames": 2, "planes": 2, "channels": ("Phase", "GFP", "Cy5")},
        {"prefix": f"P-{GUID}", "guid": "glued", "projection": "parent", "htd": "nested", "encoding": "latin-1"},
        (),
    ),
    "rows of two letters": ({"wells": ("AA05", "C11", "C03", "Z48", "AF48"), "grid": (1, 2)}, {}, ()),
    "selected sites": (
        {"wells": ("H12",), "grid": (3, 3), "selected": (0, 2, 4, 7), "frames": 2},
        {"time_folders": True, "thumbs": True, "guid": "bracket"},
        (),
    ),
    "dropped planes": (
        {"frames": 3, "planes": 2},
        {"projection": "ZStep_0"},
        (("B02", 2, 1, 1, 0), ("B03", 1, 1, 2, 0), ("B03", 1, 1, 2, 1)),
    ),
    "aborted": ({"frames": 4}, {"htd": "both"}, 21),
    "aborted without a description": ({"frames": 4, "planes": 2}, {"htd": "none", "projection": "parent"}, 37),
    "aborted in the first frame": ({"grid": (1, 2), "wells": ("B02", "B03", "B04")}, {}, 5),
}


def written(folder, layout):
    """Plate of a layout, and its scene."""
    scene, options, gone = LAYOUTS[layout]
    module = generator()
    scene = module.Scene(**({"tile": (32, 32), "cells": 1, "jitter_px": 2, "stage_error_px": 1.5} | scene))
    gone = [tuple(plane) for plane, _ in module.Planes.of(scene).all()][-gone:] if isinstance(gone, int) else gone
    scene = module.replace(scene, missing=set(gone).__contains__)
    plate = folder / "screen" / "plate"
    module.write_imagexpress(plate, scene, **options)
    return plate, scene


@needs_generator
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_agrees_with_its_truth(tmp_path, layout):
    plate, scene = written(tmp_path, layout)
    before = state_of(plate)
    assert imagexpress.find(plate) == imagexpress.find(plate.parent) == imagexpress.find(tmp_path) == [plate]
    found = imagexpress.scan(plate)
    assert state_of(plate) == before
    info, file = found.metadata, found.planes.file

    truth = [
        (row["well"], *(int(row[name]) for name in ("site", "channel", "t", "z")), row["file"], row["written"] == "1")
        for row in truth_of(plate, "planes")
    ]
    sites = sorted({row[:2] for row in truth if row[-1]}, key=lambda of: (parse_well(of[0]), of[1]))
    frames = scene.frames if LAYOUTS[layout][1].get("htd") != "none" else 1 + max(row[3] for row in truth if row[-1])
    assert [(fov.well, fov.site, fov.name) for fov in info.fovs] == [(*of, f"{of[0]} s{of[1]}") for of in sites]
    assert {fov.plate for fov in info.fovs} == {LAYOUTS[layout][1].get("prefix", "Exp2_P3")}
    assert file.shape == (len(sites), frames, len(scene.channels), scene.planes)
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
    if "projection" in LAYOUTS[layout][1]:
        check_projections(found, LAYOUTS[layout][1]["projection"] == "ZStep_0")
    else:
        assert found.planes.projection is None
    check_description(layout, plate, scene, found, sites, held)


def check_description(layout, plate, scene, found, sites, held):
    """Compare channels, pixels, positions, times and projections with the truth."""
    info = found.metadata
    described = any(plate.rglob("*.HTD"))
    assert tuple(channel.name for channel in info.channels) == scene.channels
    assert {channel.dtype for channel in info.channels} == {"uint16"}
    assert [c.kind for c in info.channels] == [
        "phase" if name == "Phase" else "fluorescence" for name in scene.channels
    ]
    assert {fov.shape for fov in info.fovs} == {scene.tile}
    assert info.pixel_size_um == (None if layout == "flat" else scene.pixel_um)
    places = {(row["well"], int(row["site"])): row for row in truth_of(plate, "tiles")}
    for fov, of in zip(info.fovs, sites, strict=True):
        stated = [float(places[of][f"stage_{axis}_um"]) for axis in "xy"]
        assert np.abs(np.subtract(fov.position_um, stated)).max() < 0.01

    module = generator()
    planes = module.Planes.of(scene)
    turns = {(well, site): planes.time(module.Plane(well, site, 0, 0, 0)) for well, site in sites}
    first = min(turns.values())
    taken = held.any(axis=(2, 3))
    for (well, site), times, frames in zip(sites, info.times_min, taken, strict=True):
        seconds = [(planes.time(module.Plane(well, site, 0, t, 0)) - first).total_seconds() for t in range(len(times))]
        assert times == pytest.approx(np.where(frames, seconds, np.nan) / 60, abs=1e-5, nan_ok=True)
    assert info.time_source == "acquisition-time-local"
    assert bool(found.planes.index) == described
    assert len(found.planes.sizes) == len(found.planes.written) == len(found.planes.files)


def check_projections(found, in_zstep_0):
    """Each stack that is whole has its own projection, which is no plane."""
    names, projection = found.planes.files, found.planes.projection
    assert not np.isin(projection[projection != ABSENT], found.planes.file).any()
    whole = (found.planes.file != ABSENT).all(axis=3)
    assert ((projection != ABSENT) == whole).all()
    for at in np.argwhere(whole).tolist():
        folder, _, name = f"/{names[projection[tuple(at)]]}".rpartition("/")
        assert folder.endswith(("ZStep_0", "ZStep0")) if in_zstep_0 else "ZStep" not in folder
        plane = names[found.planes.file[*at, 0]].rpartition("/")[2]
        assert parse_image_name(name) == parse_image_name(plane)


@needs_generator
def test_folder_without_write_permission(tmp_path):
    plate, _ = written(tmp_path, "flat")
    for folder in (plate, plate.parent):
        folder.chmod(0o555)
    assert len(imagexpress.scan(plate).metadata.fovs) == 8


# ------------------------------------------------------------------ plates of real microscopes


def real(name):
    """Folder of a real plate, and what a scan finds there; it must not change."""
    root = REAL / "imagexpress" / name
    before = state_of(root)
    found = imagexpress.scan(root)
    assert state_of(root) == before
    return found


@needs_real
class TestRealPlates:
    @pytest.mark.parametrize(
        "name", ["9987_Plate_3420", "9987_Plate_3434", "9987_Plate_3435", "SingleChannel/2023-02-21/1334",
                 "1well-3C-2S-Zmix-T/2024-04-22/1697"],
    )  # fmt: skip
    def test_planes_equal_what_their_text_says(self, name):
        """The name of the file and the folder say the same as the stage label, the z step, and the pixels."""
        found = real(name)
        planes, info = found.planes, found.metadata
        for fov, frame, channel, z in np.argwhere(planes.file != ABSENT).tolist():
            with tifffile.TiffFile(planes.path_of(planes.file[fov, frame, channel, z])) as file:
                page = file.pages.first
                assert (page.shape, page.dtype) == (info.fovs[fov].shape, info.channels[channel].dtype)
                assert f'"{info.fovs[fov].well} : Site {info.fovs[fov].site}"' in page.description
                if planes.projection is not None and channel == 0:
                    assert f'id="Z Step" type="float" value="{z + 1}"' in page.description
        if planes.projection is not None:
            for number in planes.projection[:, :, 0].ravel():
                assert b"Z Projection Method" in planes.path_of(number).read_bytes()

    def test_export_of_one_image(self):
        found = real("9987_Plate_3420")
        (fov,), (channel,) = found.metadata.fovs, found.metadata.channels
        assert (fov.name, fov.shape, fov.position_um) == ("B02 s1", (256, 256), (-314.98, -315.02))
        assert (channel.name, channel.kind) == ("DAPI", "fluorescence")
        assert (found.metadata.n_frames, found.metadata.z_planes, found.metadata.pixel_size_um) == (1, 1, 1.3672)
        assert found.metadata.notes == ()

    def test_export_with_copies_over_z(self):
        found = real("9987_Plate_3434")
        info = found.metadata
        assert [fov.name for fov in info.fovs] == ["B02 s1", "B02 s2", "B03 s1", "B03 s2"]
        assert [channel.name for channel in info.channels] == ["DAPI", "FITC", "Texas Red"]
        assert (info.n_frames, info.z_planes) == (1, 2)
        assert not any(fov.missing for fov in info.fovs)
        assert (found.planes.projection != ABSENT).all()
        assert info.notes == tuple(
            f"9987_Plate_3434: {note}"
            for note in (
                "announces 3 z planes, but holds 2",
                "announces channels without images: Cy5 (w4)",
                "FITC (w2) is no stack: the same image is stored for every z plane",
                "Texas Red (w3) is no stack: the same image is stored for every z plane",
                "FITC (w2) has projections over z (Maximum) instead of planes",
            )
        )

    def test_export_with_copies_over_time(self):
        info = real("9987_Plate_3435").metadata
        assert (info.n_frames, [channel.name for channel in info.channels]) == (6, ["DAPI", "FITC"])
        for fov in info.fovs:
            assert (fov.missing, fov.partial) == ((1, 2, 3, 4, 5), ((0, 0, (1,)),))
            assert (fov.lacking([0], [0]), fov.lacking([1], [0])) == ({2, 3, 4, 5}, {1, 2, 3, 4, 5})
        assert info.times_min[0, :2] * 60 == pytest.approx([0, 30.029])
        assert np.isnan(info.times_min[:, 2:]).all()
        assert [note.removeprefix("9987_Plate_3435: ") for note in info.notes] == [
            "announces 6 frames, but holds 2; the others are missing",
            "announces channels without images: Texas Red (w3), Cy5 (w4)",
            f"FITC (w2) was not taken in frame 1: {COPIED}",
        ]

    def test_stored_stack_without_a_description(self):
        root = REAL / "imagexpress/SingleChannel"
        assert imagexpress.find(root) == imagexpress.find(root / "2023-02-21") == [root / "2023-02-21/1334"]
        info = real("SingleChannel/2023-02-21/1334").metadata
        assert [fov.name for fov in info.fovs] == ["E07 s1", "E07 s2", "E08 s1", "E08 s2"]
        assert (info.n_frames, info.z_planes, info.pixel_size_um, info.notes) == (1, 2, 1.3668, ())
        assert info.channels[0].name == "FITC_05"

    def test_stored_movie_with_projections_as_planes(self):
        info = real("1well-3C-2S-Zmix-T/2024-04-22/1697").metadata
        assert (info.n_frames, info.z_planes, len(info.channels)) == (2, 1, 3)
        assert not any(fov.missing for fov in info.fovs)
        assert (info.times_min[:, 1] - info.times_min[:, 0]) * 60 == pytest.approx([5.502, 5.577])
        assert info.notes == (
            "1697: Cy3 (w2) has projections over z (Maximum) instead of planes",
            "1697: Texas Red (w3) has projections over z (Maximum) instead of planes",
        )

    def test_only_plates_of_this_format_are_found(self):
        assert [plate.name for plate in imagexpress.find(REAL)] == [f"9987_Plate_{n}" for n in (3420, 3434, 3435)]
        assert imagexpress.find(REAL / "opera") == []


# ------------------------------------------------------------------ plates by hand, which need no other folder

HTD = b'"HTSInfoFile", Version 1.0\r\n"TimePoints", %d\r\n"NWavelengths", 2\r\n"WaveName1", "TL20"\r\n"EndFile"\r\n'


def notes_of(found):
    """Notes without the name of the plate."""
    return [note.removeprefix(f"{found.metadata.path.name}: ") for note in found.metadata.notes]


def test_movie_without_a_description(tmp_path):
    for frame in (0, 1, 3):
        for x, site in enumerate(("B10_s1", "B2_s1", "B02_s1", "B02_s2", "A01_s1")):
            options = {"time": 60 * frame + x, "stage_position_x": 1000.0 * x, "image_name": "mCherry"}
            write_image(tmp_path / f"TimePoint_{frame + 1}/P_{site}_w2.tif", **options)
    assert imagexpress.find(tmp_path) == [tmp_path]
    info = imagexpress.scan(tmp_path).metadata
    assert [fov.name for fov in info.fovs] == ["A01 s1", "B02 s1", "B02 s2", "B10 s1"]
    assert [fov.position_um for fov in info.fovs] == [(4000, 2240.5), (2000, 2240.5), (3000, 2240.5), (0, 2240.5)]
    assert {(fov.missing, fov.partial, fov.plate) for fov in info.fovs} == {((2,), (), "P")}
    assert info.times_min[1] * 60 == pytest.approx([2, 62, np.nan, 182], nan_ok=True)
    (channel,) = info.channels
    assert (channel.name, channel.dtype, channel.kind) == ("mCherry", "uint16", "fluorescence")
    assert (info.format, info.path, info.pixel_size_um, info.notes) == ("ImageXpress", tmp_path, 0.65, ())
    without = imagexpress.scan(tmp_path, times=False).metadata
    assert (without.times_min, without.time_source, without.fovs) == (None, None, info.fovs)


def test_offsets_from_the_centre_of_the_well_are_preferred(tmp_path):
    exact = {"OffsetFromWellCenterUmX": -315.02, "OffsetFromWellCenterUmY": 12.5}
    for site in (1, 2, 3):
        write_image(tmp_path / f"P_B02_s{site}.tif", time=site, **(exact if site != 2 else {}))
    assert [fov.position_um for fov in imagexpress.scan(tmp_path).metadata.fovs] == [(5380, 2240.5)] * 3
    write_image(tmp_path / "P_B02_s2.tif", time=2, **exact)
    assert [fov.position_um for fov in imagexpress.scan(tmp_path).metadata.fovs] == [(-315.02, 12.5)] * 3


def test_description_names_channels_and_announces_frames(tmp_path):
    (tmp_path / "P.HTD").write_bytes(HTD % 3)
    write_image(tmp_path / "TimePoint_1/P_B02_w1.tif", time=0)
    write_image(tmp_path / "TimePoint_1/P_B02_w2.tif", time=1, _IllumSetting_="Cy5")
    found = imagexpress.scan(tmp_path)
    assert [(c.name, c.kind) for c in found.metadata.channels] == [("TL20", "other"), ("Cy5", "fluorescence")]
    assert found.metadata.fovs[0].missing == (1, 2)
    assert notes_of(found) == ["announces 3 frames, but holds 1; the others are missing"]
    assert found.planes.index == HTD % 3
    (tmp_path / "P.HTD").write_bytes(HTD % 2**30)
    with pytest.raises(SourceError, match=r"announces \d+ frames\. Fix: correct TimePoints"):
        imagexpress.scan(tmp_path)


def test_wells_and_sites_without_images_are_noted(tmp_path):
    wells = b'"WellsSelection2", TRUE, TRUE, TRUE\r\n"WellsSelection1", FALSE, TRUE, FALSE\r\n'
    (tmp_path / "P.HTD").write_bytes(HTD % 1 + wells + b'"Sites", TRUE\r\n"XSites", 3\r\n"YSites", 1\r\n')
    for name in ("B01_s1_w1", "B01_s1_w2", "B03_s1_w1", "B03_s2_w1"):
        write_image(tmp_path / f"P_{name}.tif", time=0)
    found = imagexpress.scan(tmp_path)
    assert [fov.name for fov in found.metadata.fovs] == ["B01 s1", "B03 s1", "B03 s2"]
    assert [fov.lacking([1], [0]) for fov in found.metadata.fovs] == [set(), {0}, {0}]
    assert notes_of(found) == [
        "announces wells without images: A02, B02",
        "announces sites without images: B01 s2, B01 s3, B03 s3",
    ]


@pytest.mark.parametrize("times", [True, False])
def test_copies_over_time_are_missing(tmp_path, times):
    """A channel that was taken in every third frame only; its export has copies in between."""
    for frame in range(7):
        for site in (1, 2):
            folder = tmp_path / f"TimePoint_{frame + 1}"
            write_image(folder / f"P_B02_s{site}_w1.tif", time=60 * frame + site)
            write_image(folder / f"P_B02_s{site}_w2.tif", time=60 * (frame - frame % 3) + site + 5)
    found = imagexpress.scan(tmp_path, times=times)
    for fov in found.metadata.fovs:
        assert (fov.lacking([0], [0]), fov.lacking([1], [0])) == (set(), {1, 2, 4, 5})
    assert (found.planes.file[:, [1, 2, 4, 5], 1] == ABSENT).all()
    assert notes_of(found) == [f"GFP (w2) was not taken in frames 1-2, 4-5: {COPIED}"]
    if times:
        assert found.metadata.times_min[0] == pytest.approx(range(7))


def test_copies_over_z_are_told_from_planes_taken_at_one_time(tmp_path):
    for z in (1, 2, 3):
        folder = tmp_path / f"ZStep_{z}"
        write_image(folder / "P_B02_s1_w1.tif", time=0, z_position=9000 + z)
        write_image(folder / "P_B02_s1_w2.tif", time=1, z_position=9000)
        write_image(folder / "P_B02_s1_w3.tif", time=2, **{"Z Step": z})
    found = imagexpress.scan(tmp_path)
    assert found.metadata.fovs[0].missing == ()
    assert found.planes.file[0, 0].tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert notes_of(found) == ["GFP (w2) is no stack: the same image is stored for every z plane"]


def test_channel_with_one_image_beside_stacks(tmp_path):
    for name, more in {"ZStep_1/P_B02_w1": {}, "ZStep_2/P_B02_w1": {}, "P_B02_w1": {}, "P_B02_w2": {}}.items():
        write_image(tmp_path / f"{name}.tif", time=0, z_position=name, **more)
    found = imagexpress.scan(tmp_path)
    names = np.array([*found.planes.files, ""])
    assert names[found.planes.file[0, 0]].tolist() == [
        ["ZStep_1/P_B02_w1.tif", "ZStep_2/P_B02_w1.tif"],
        ["P_B02_w2.tif", "P_B02_w2.tif"],
    ]
    assert names[found.planes.projection[0, 0]].tolist() == ["P_B02_w1.tif", "P_B02_w2.tif"]
    assert notes_of(found) == ["GFP (w2) is no stack: it has one image, which is used for every z plane"]


def test_only_projections(tmp_path):
    for site in (1, 2):
        write_image(tmp_path / f"ZStep_0/P_B02_s{site}.tif", time=site, **{"Z Projection Method": "Maximum"})
    found = imagexpress.scan(tmp_path)
    assert (found.planes.file.shape, found.planes.projection) == ((2, 1, 1, 1), None)
    assert notes_of(found) == ["GFP (w1) has projections over z (Maximum) instead of planes"]


def test_files_that_are_empty_or_damaged(tmp_path):
    for frame, site in np.ndindex(3, 2):
        write_image(tmp_path / f"TimePoint_{frame + 1}/P_B02_s{site + 1}.tif", time=60 * frame, shape=(6, 8))
    (tmp_path / "TimePoint_2/P_B02_s1.tif").write_bytes(b"")
    (tmp_path / "TimePoint_1/P_B02_s2.tif").write_bytes(b"II*\0 damaged")
    found = imagexpress.scan(tmp_path)
    assert [fov.missing for fov in found.metadata.fovs] == [(1,), ()]
    assert [fov.position_um for fov in found.metadata.fovs] == [(5380, 2240.5)] * 2
    assert np.isnan(found.metadata.times_min).tolist() == [[False, True, False], [True, False, False]]
    assert notes_of(found) == [
        "empty files, folders or pipes instead of images, whose planes are missing: TimePoint_2/P_B02_s1.tif",
        "images that cannot be read: TimePoint_1/P_B02_s2.tif",
    ]


def test_site_whose_first_image_is_cut_off_has_the_position_of_the_next_one(tmp_path):
    for frame in (1, 2):
        write_image(tmp_path / f"TimePoint_{frame}/P_B02_s1.tif", time=frame)
        write_image(tmp_path / f"TimePoint_{frame}/P_B02_s2.tif", time=frame)
    first = tmp_path / "TimePoint_1/P_B02_s1.tif"
    first.write_bytes(first.read_bytes()[:400])
    found = imagexpress.scan(tmp_path)
    assert [fov.position_um for fov in found.metadata.fovs] == [(5380, 2240.5)] * 2
    assert notes_of(found) == ["images that cannot be read: TimePoint_1/P_B02_s1.tif"]


def test_pipes_and_links_to_themselves_are_no_images(tmp_path):
    """A pipe would block whoever opens it, and a link to itself must not hide the other images."""
    for frame in (1, 2, 3):
        write_image(tmp_path / f"TimePoint_{frame}/P_B02_s1.tif", time=frame)
        write_image(tmp_path / f"TimePoint_{frame}/P_B02_s2.tif", time=frame)
    pipe, loop = tmp_path / "TimePoint_1/P_B02_s2.tif", tmp_path / "TimePoint_2/P_B02_s2.tif"
    for path in (pipe, loop):
        path.unlink()
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    assert imagexpress.find(tmp_path) == [tmp_path]
    assert [fov.missing for fov in imagexpress.scan(tmp_path).metadata.fovs] == [(), (0, 1)]
    os.mkfifo(tmp_path / "P.HTD")
    assert imagexpress.find(tmp_path) == [tmp_path]
    with pytest.raises(SourceError, match=r"P\.HTD: cannot be read \(Is a pipe or a device, not a file\)"):
        imagexpress.scan(tmp_path)


def test_a_site_without_any_file_that_can_be_read_is_there_without_frames(tmp_path):
    """Else it would be left out, and its well stitched without it."""
    for frame, site in np.ndindex(2, 3):
        write_image(tmp_path / f"TimePoint_{frame + 1}/P_B02_s{site + 1}.tif", time=frame)
    for folder in (tmp_path / "TimePoint_1", tmp_path / "TimePoint_2"):
        (folder / "P_B02_s2.tif").write_bytes(b"")
        (folder / "P_B02_s3.tif").unlink()
        (folder / "P_B02_s3.tif").mkdir()
    found = imagexpress.scan(tmp_path)
    assert [(fov.name, fov.missing) for fov in found.metadata.fovs] == [
        ("B02 s1", ()), ("B02 s2", (0, 1)), ("B02 s3", (0, 1)),
    ]  # fmt: skip
    assert found.planes.files == ("TimePoint_1/P_B02_s1.tif", "TimePoint_2/P_B02_s1.tif")
    assert "TimePoint_1/P_B02_s2.tif" in notes_of(found)[0]


def test_stage_label_of_another_well(tmp_path):
    write_image(tmp_path / "P_B02_s1.tif", time=0, stage_label="B02 : Site 1")
    write_image(tmp_path / "P_B03_s1.tif", time=1, stage_label="B02 : Site 2")
    assert notes_of(imagexpress.scan(tmp_path)) == [
        "images of B03 s1 have the stage label 'B02 : Site 2'; the name of the file is used"
    ]


def test_images_of_other_plates_and_places_are_left_out(tmp_path):
    for file in (
        "P_B02_s1.TIF",
        "TimePoint_1/P_B02_s1.TIF",
        "TimePoint_1/P_B02_s2.TIF",
        "TimePoint_1/mask_P_B02_s1.TIF",
    ):
        write_image(tmp_path / file, time=0)
    with pytest.raises(SourceError, match=r"images of 2 plates \(P, mask_P\)\. Fix:"):
        imagexpress.scan(tmp_path)
    (tmp_path / "P.HTD").write_bytes(HTD % 1)
    found = imagexpress.scan(tmp_path)
    assert found.planes.files == ("TimePoint_1/P_B02_s1.TIF", "TimePoint_1/P_B02_s2.TIF")
    assert notes_of(found)[:2] == [
        "1 image of other plates is left out",
        "1 image outside the folders of time points is left out",
    ]


def test_few_files_are_opened(tmp_path, monkeypatch):
    """One per FOV, or per FOV and frame with times; and those of one FOV that tell copies."""
    for frame, site, wave, z in np.ndindex(3, 4, 2, 5):
        name = f"TimePoint_{frame + 1}/ZStep_{z + 1}/P_B02_s{site + 1}_w{wave + 1}.tif"
        write_image(tmp_path / name, time=60 * frame, z_position=z)
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *rest, kept=os.open: opened.append(path) or kept(path, *rest))
    assert len(imagexpress.scan(tmp_path, times=False).planes.files) == 120
    of_one = 2 * (3 + 5 - 1)
    assert len(opened) == of_one + 4
    opened.clear()
    imagexpress.scan(tmp_path)
    assert len(opened) == of_one + 4 * 3


class TestRefused:
    def test_no_images(self, tmp_path):
        (tmp_path / "P.HTD").write_bytes(HTD % 1)
        write_image(tmp_path / "P_B02_s1_thumb.tif")
        with pytest.raises(SourceError, match=r"has no images of a plate.* Fix: "):
            imagexpress.scan(tmp_path)

    def test_two_files_for_one_plane(self, tmp_path):
        for end in ("", f"_[{GUID}]"):
            write_image(tmp_path / f"P_B02_s1{end}.tif", time=0)
        with pytest.raises(SourceError, match=r"P_B02_s1\.tif .*are the same plane\. Fix: "):
            imagexpress.scan(tmp_path)

    def test_numbers_that_are_too_large(self, tmp_path):
        write_image(tmp_path / "TimePoint_99999999/P_B02_s1.tif", time=0)
        with pytest.raises(SourceError, match=r"1 FOVs x 99999999 frames x 1 channels x 1 z planes.* Fix: "):
            imagexpress.scan(tmp_path)

    def test_colours(self, tmp_path):
        write_image(tmp_path / "P_B02.tif", shape=(6, 8, 3), dtype=np.uint8, options={"photometric": "rgb"})
        with pytest.raises(UnsupportedSourceError, match=r"in colour\. Fix: "):
            imagexpress.scan(tmp_path)

    def test_channels_of_two_sizes(self, tmp_path):
        write_image(tmp_path / "P_B02_w1.tif", time=0)
        write_image(tmp_path / "P_B02_w2.tif", time=0, shape=(3, 4))
        with pytest.raises(UnsupportedSourceError, match=r"\(3, 4\) and \(6, 8\) pixels\. Fix: "):
            imagexpress.scan(tmp_path)

    def test_no_image_can_be_read(self, tmp_path):
        (tmp_path / "P_B02_w1.tif").write_bytes(b"something else")
        with pytest.raises(SourceError, match=r"no image can be read, such as P_B02_w1\.tif\. Fix: "):
            imagexpress.scan(tmp_path)

    def test_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(SourceError, match=r"cannot be read \(No such file.* Fix: "):
            imagexpress.scan(tmp_path / "none")


class TestFind:
    def test_folder_description_or_inner_folder_lead_to_the_plate(self, tmp_path):
        root = tmp_path / "archive/screen/plate"
        for folder in ("TimePoint_1/ZStep_1", "TimePoint_1/ZStep_2", "TimePoint_2/ZStep_1"):
            write_image(root / folder / "P_B02.tif", time=0)
        (root / "TimePoint_1/ZStep_2/P.HTD").write_bytes(HTD % 1)
        for path in (
            root,
            root.parent,
            root.parents[1],
            root / "TimePoint_2",
            *root.rglob("ZStep_*"),
            *root.rglob("*.HTD"),
        ):
            assert imagexpress.find(path) == [root]
        assert imagexpress.find(tmp_path) == []
        (root / "TimePoint_1/ZStep_2/P.HTD").unlink()
        assert imagexpress.find(root.parent) == [root]  # the first images of several folders are of one plate

    def test_all_plates_below_a_folder(self, tmp_path):
        for name in ("b", "a/1", "a/0"):
            write_image(tmp_path / name / "P_B02_s1.tif", time=0)
            write_image(tmp_path / name / "P_B02_s2.tif", time=0)
        assert imagexpress.find(tmp_path) == [tmp_path / name for name in ("a/0", "a/1", "b")]

    def test_images_of_other_programs_are_no_plate(self, tmp_path):
        """Folders of Olympus microscopes have such names."""
        for name in ("s_C001.tif", "s_C01.tif", "s_C02.tif"):
            write_image(tmp_path / "x.oif.files" / name, description="[Axis] of another program")
        write_image(tmp_path / "P_B02_s1.tif", time=0)  # one image
        (tmp_path / "P.htd").write_bytes(b"<html>")
        for path in (tmp_path, tmp_path / "P.htd", tmp_path / "P_B02_s1.tif", tmp_path / "none"):
            assert imagexpress.find(path) == []
