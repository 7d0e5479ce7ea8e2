"""One fault in a plate harms one well: the others complete, and the report names the well and the file."""

import errno
import os

import numpy as np
import pytest
import tifffile
from support.movies import config
from support.plates import generator, needs_generator

import pyama_dask
from pyama_dask.cli.text import describe_status
from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError, OutputError
from pyama_dask.readers import open_reader
from pyama_dask.runs.final_page import final_pages
from pyama_dask.runs.planning import plan_run
from pyama_dask.runs.status import read_status
from pyama_dask.workflow.failure import place_of

pytestmark = needs_generator
PATTERN = "TimePoint_{frame}/P_{well}_s{site}_w{channel}.TIF"


@pytest.fixture
def plate(tmp_path):
    """Two wells of two sites each, as ImageXpress stores them."""
    scene = generator().Scene(wells=("B02", "C10"), tile=(96, 96), grid=(1, 2), frames=2, cells=2)
    generator().write_imagexpress(tmp_path / "P", scene, prefix="P")
    return tmp_path / "P"


@pytest.fixture
def opera(tmp_path):
    folder = tmp_path / "s__2026-01-01T10_00_00-Measurement_1"
    scene = generator().Scene(wells=("B02", "C10"), tile=(96, 96), grid=(1, 2), frames=2, cells=2)
    generator().write_opera(folder, scene)
    return folder


def settings(movie, changes=None):
    return config(movie, movie.parent / "out", {"params.copy_only": True} | (changes or {}))


def done(movie, changes=None, **options):
    report = pyama_dask.run(settings(movie, changes), progress=False, **options)
    reasons = [str(fov.reason) for fov in report.fovs if fov.status != "done"]
    return report, {reason.partition("(")[2].partition(")")[0]: reason for reason in reasons}


def refuse_to_open(monkeypatch, path, number):
    """Let the system refuse to open a file, as root may open all."""

    def opened(name, *arguments, real=os.open, **options):
        if str(name) == str(path):
            raise OSError(number, os.strerror(number), str(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("mode", ["stage", "register"])
def test_a_site_that_is_corrupt_in_all_its_images(plate, mode):
    images = sorted(plate.glob("*/*B02_s2*"))
    contents = [path.read_bytes() for path in images]
    for path in images:
        path.write_bytes(b"no image")
    with final_pages(on=True):
        report, failed = done(plate, {"params.stitch": mode})
    assert (report.exit_status, list(failed)) == (3, ["B02"])
    assert failed["B02"].startswith("FOV 0 (B02): the position of B02 s2 is unknown, as its images cannot be read: ")
    assert str(images[0]) in failed["B02"]
    assert str(images[0]) in (report.output / "report.html").read_text()
    assert "B02" in describe_status(read_status(report.output))
    assert "B02" not in (report.output / "positions.csv").read_text()
    for path, content in zip(images, contents, strict=True):
        path.write_bytes(content)
    report, failed = done(plate, {"params.stitch": mode}, extend=True)
    assert (report.exit_status, failed) == (0, {})
    assert (report.output / "positions.csv").read_text().count("B02") == 2


def test_a_stitched_well_with_one_corrupt_image_stays_where_the_stage_has_it(opera):
    images = sorted(opera.glob("Images/r02c02f02*"))
    for path in images:
        path.write_bytes(b"")
    report, failed = done(opera, {"params.stitch": "register"})
    assert (report.exit_status, list(failed)) == (3, ["B02"])
    assert f"{images[0]} (B02 s2, frame 0): is empty" in failed["B02"]
    assert any(
        warning.startswith("B02: was not registered, so that the stage's positions are used: ")
        and images[0].name in warning
        for warning in report.warnings
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
@pytest.mark.parametrize("vendor", ["imagexpress", "opera", "pattern"])
def test_a_file_that_cannot_be_opened(plate, opera, monkeypatch, vendor, number):
    image = min((opera if vendor == "opera" else plate).rglob("r02c02f02*" if vendor == "opera" else "*B02_s2*"))
    movie = {"imagexpress": plate, "opera": opera, "pattern": plate / PATTERN}[vendor]
    (plate / "P.HTD").unlink()
    with monkeypatch.context() as during:
        refuse_to_open(during, image, number)
        report, failed = done(movie, {"output": str(plate.parent / "out")})
    assert (report.exit_status, list(failed)) == (3, ["B02 s2"])
    assert str(image) in failed["B02 s2"]
    (warning,) = [warning for warning in report.warnings if "files that cannot be read" in warning]
    assert f"{image.name} ({os.strerror(number)}). Fix: check permissions" in warning
    report, failed = done(movie, {"output": str(plate.parent / "out")}, extend=True)
    assert (report.exit_status, failed) == (0, {})


def write_odd(path, odd):
    """Write an image that no plane of the plates here can be."""
    shape = {"colours": (96, 96, 3), "pages": (3, 96, 96), "size": (80, 90)}.get(odd, (96, 96))
    kind = {"colours": np.uint8, "type": np.float32}.get(odd, np.uint16)
    form = "rgb" if odd == "colours" else "minisblack"
    tifffile.imwrite(path, np.ones(shape, kind), photometric=form, metadata=None)


@pytest.mark.parametrize("odd", ["colours", "pages", "size", "type"])
@pytest.mark.parametrize("vendor", ["imagexpress", "opera"])
def test_an_odd_image_at_the_beginning_fails_its_own_fov(plate, opera, vendor, odd):
    """The first images describe a plate, and must not decide alone."""
    movie, name = (plate, "*B02_s1_w1*") if vendor == "imagexpress" else (opera, "r02c02f01p01-ch1*")
    images = sorted(movie.rglob(name))
    for path in images:
        write_odd(path, odd)
    with open_reader(movie) as reader:
        assert {fov.shape for fov in reader.metadata.fovs} == {(96, 96)}
        assert [channel.dtype for channel in reader.metadata.channels] == ["uint16"] * 2
    report, reasons = done(movie)
    assert (report.exit_status, list(reasons)) == (3, ["B02 s1"])
    assert f"{images[0]} (B02 s1, frame 0): has " in reasons["B02 s1"]
    if odd == "size":
        report, reasons = done(movie, {"params.stitch": "stage", "output": str(movie.parent / "stitched")})
        assert (report.exit_status, list(reasons)) == (3, ["B02"])
        assert str(images[0]) in reasons["B02"]


@pytest.mark.parametrize("fault", ["folder", "pipe", "empty", "link"])
def test_a_site_with_no_files_in_place_of_its_images_is_not_left_out(plate, fault):
    """Neither is its well stitched without it, which nobody would notice."""
    images = sorted(plate.glob("*/*B02_s2*"))
    for path in images:
        path.unlink()
        make = {"folder": path.mkdir, "pipe": lambda at=path: os.mkfifo(at), "empty": path.touch}
        make.get(fault, lambda at=path: at.symlink_to(at))()
    for stitch, well in (("off", "B02 s2"), ("stage", "B02")):
        plan, _ = plan_run(parse_config(settings(plate, {"params.stitch": stitch})))
        assert [fov.name for fov in plan.fovs if fov.problem] == [well]
    assert any(f"{images[0].parent.name}/{images[0].name}" in warning for warning in plan.warnings)


def test_an_aborted_plate(plate):
    """Frames that no site has are left out; a site that lacks one more fails alone, and the message says what to do."""
    for path in [*plate.glob("TimePoint_2/*C10_s2*")]:
        path.unlink()
    description = plate / "P.HTD"
    description.write_bytes(description.read_bytes().replace(b'"TimePoints", 2', b'"TimePoints", 5'))
    report, failed = done(plate)
    assert report.exit_status == 3
    assert failed == {
        "C10 s2": "FOV 3 (C10 s2): 1 of its frames are missing in P, the first is 1; it has 0. Fix: copy the missing "
        "images and use --extend, or take --frames 0 for all FOVs, or --fovs 'C10 s2' --frames 0 for this one"
    }
    assert any("announces 5 frames, but no chosen FOV has any after frame 1" in warning for warning in report.warnings)
    assert any(warning.startswith("FOV 3 (C10 s2): 1 time stamps are missing") for warning in report.warnings)
    plan, _ = plan_run(parse_config(settings(plate)))
    assert [{task.place for task in fov.tasks} for fov in plan.fovs[:3]] == [{fov.title} for fov in plan.fovs[:3]]
    assert place_of(plan.tasks[0]) == "FOV 0 (B02 s1), frames 0-1, ingest"
    report, failed = done(plate, {"params.fovs": "C10 s2", "params.frames": "0"})
    assert (report.exit_status, failed) == (0, {})


@pytest.mark.parametrize("output", ["out", "TimePoint_1/out"])
def test_an_output_within_the_folder_of_a_pattern_is_refused(plate, output):
    with pytest.raises(ConfigError, match=r"is within the movie .*P_\{well\}_s\{site\}"):
        plan_run(parse_config(settings(plate / PATTERN, {"output": str(plate / output)})))


@pytest.mark.parametrize("fault", ["damaged", "gone"])
def test_an_image_that_is_lost_after_it_was_copied(plate, fault):
    """A plate is compared with its output by the images that can be read, and extended; only the FOV fails."""
    later, beside = plate / "TimePoint_2", plate.parent / "later"
    later.rename(beside)
    report, failed = done(plate)
    assert (report.exit_status, failed) == (0, {})
    image = min(plate.rglob("*B02_s1_w1*"))
    image.write_bytes(b"II*\0damaged") if fault == "damaged" else image.unlink()
    beside.rename(later)
    report, failed = done(plate, extend=True)
    assert (report.exit_status, list(failed)) == (3, ["B02 s1"])
    assert ("missing in P" if fault == "gone" else str(image)) in failed["B02 s1"]
    for path in plate.glob("TimePoint_1/*.TIF"):
        path.write_bytes(b"II*\0damaged")
    with pytest.raises(OutputError, match=r"compared with the movie: .*TimePoint_1.*\.TIF .*Fix: copy it again"):
        done(plate, extend=True)
