"""OME-TIFF, and stacks of ImageJ and tifffile: planes are where the metadata say, or missing."""

import os
import re
import shutil

import numpy as np
import pytest
import tifffile
from support.micro_manager import write_ndtiff
from support.plates import state_of
from support.stacks import CHANNELS, PIXEL_UM, check_pixels, ome_options, random_pixels, write_ome

from pyama_dask.errors import SourceError, UnsupportedSourceError
from pyama_dask.readers import read_metadata
from pyama_dask.readers.registry import movie_stem, open_reader
from pyama_dask.readers.shared import take_snapshot

PIXELS = random_pixels(planes=2)


@pytest.fixture
def movie(tmp_path):
    return write_ome(tmp_path / "movie.ome.tif", PIXELS)


def with_xml(path, change):
    """Change the OME metadata of a file."""
    text = tifffile.tiffcomment(path)
    changed = change(text)
    assert changed != text
    tifffile.tiffcomment(path, changed.encode())
    return path


def split(folder, pixels=PIXELS, names=("a.ome.tif", "b.ome.tif")):
    """Write each FOV to a file, and the metadata of all of them to each, as microscopes do."""
    texts = []
    for fov, name in enumerate(names):
        write_ome(folder / name, pixels[fov : fov + 1])
        text = tifffile.tiffcomment(folder / name)
        image = re.search(r"<Image .*</Image>", text, re.DOTALL)[0].replace('"Image:0"', f'"Image:{fov}"')
        uuid = f'<UUID FileName="{name}">urn:uuid:{fov}</UUID></TiffData>'
        texts.append(re.sub(r"(<TiffData[^>]*)(/>|></TiffData>)", rf"\1>{uuid}", image.replace("P0", f"P{fov}")))
    for name in names:
        with_xml(folder / name, lambda text: re.sub(r"<Image .*</Image>", "".join(texts), text, flags=re.DOTALL))
    return folder


@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16)}, {"bigtiff": True}], ids=repr)
def test_one_file(tmp_path, options):
    path = tmp_path / "movie.ome.tif"
    large = {"bigtiff": options.pop("bigtiff", False)}
    with tifffile.TiffWriter(path, ome=True, **large) as writer:
        for fov, pixels in enumerate(PIXELS):
            writer.write(pixels, photometric="minisblack", metadata=ome_options(f"P{fov}", pixels, fov), **options)
    before = state_of(tmp_path)
    info = check_pixels(path, PIXELS)
    assert state_of(tmp_path) == before
    assert (info.format, [fov.name for fov in info.fovs], info.notes) == ("OME-TIFF", ["P0", "P1"], ())
    assert [fov.position_um for fov in info.fovs] == [(0.0, -30.0), (200.0, -30.0)]
    assert [(one.name, one.dtype, one.kind) for one in info.channels] == [
        (CHANNELS[0], "uint16", "phase"),
        (CHANNELS[1], "uint16", "fluorescence"),
    ]
    assert (info.pixel_size_um, info.interval_min, info.time_source) == (PIXEL_UM, 1, "DeltaT of planes")
    np.testing.assert_allclose(info.times_min, [[0, 61 / 60, 122 / 60]] * 2)


def test_a_set_of_files_is_one_movie_from_any_of_them(tmp_path):
    split(tmp_path)
    for path in (tmp_path, tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"):
        info = check_pixels(path, PIXELS)
        assert [fov.name for fov in info.fovs] == ["P0", "P1"]


def test_planes_of_a_file_that_is_not_there_are_missing(tmp_path):
    split(tmp_path)
    (tmp_path / "b.ome.tif").unlink()
    lost = [(1, *place) for place in np.ndindex(3, 2, 2)]
    info = check_pixels(tmp_path, PIXELS, lost)
    assert info.notes == ("a.ome.tif: 1 file of the set not there, such as b.ome.tif; planes are missing",)


def test_images_that_are_not_in_the_file_are_missing(movie):
    with_xml(movie, lambda text: text.replace('SizeT="3"', 'SizeT="4"', 1))
    padded = np.concatenate([PIXELS, PIXELS[:, :1]], axis=1)
    lost = [(fov, 3, c, z) for fov in (0, 1) for c, z in np.ndindex(2, 2)]
    check_pixels(movie, padded, lost)


def test_a_file_that_was_renamed(movie):
    uuid = '<UUID FileName="before.ome.tif">urn:uuid:1</UUID></TiffData>'
    with_xml(movie, lambda text: re.sub(r"(<TiffData[^>]*)(/>|></TiffData>)", rf"\1>{uuid}", text))
    check_pixels(movie, PIXELS)


@pytest.mark.parametrize("order", ["XYZCT", "XYTZC", "XYCTZ"])
def test_the_order_of_planes_in_the_file(tmp_path, order):
    axes = order[:1:-1]
    stack = PIXELS[0].transpose([*("TCZ".index(axis) for axis in axes), 3, 4])
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata={"axes": f"{axes}YX"})
    check_pixels(path, PIXELS[:1])


def test_metadata_in_another_file(tmp_path):
    split(tmp_path)
    text = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    (tmp_path / "movie.companion.ome").write_text(text)
    reference = '<BinaryOnly MetadataFile="movie.companion.ome" UUID="urn:uuid:9"/>'
    for name in ("a.ome.tif", "b.ome.tif"):
        with_xml(tmp_path / name, lambda text: re.sub(r"<Image .*</Image>", reference, text, flags=re.DOTALL))
    for path in (tmp_path, tmp_path / "b.ome.tif", tmp_path / "movie.companion.ome"):
        check_pixels(path, PIXELS)
    (tmp_path / "movie.companion.ome").unlink()
    with pytest.raises(SourceError, match=r"movie.companion.ome, which is not there. Fix: "):
        read_metadata(tmp_path / "a.ome.tif")


def test_wells(movie):
    wells = "".join(
        f'<Well ID="Well:{k}" Row="{row}" Column="1"><WellSample ID="S:{k}" Index="{k}"><ImageRef ID="Image:{k}"/>'
        "</WellSample></Well>"
        for k, row in enumerate((2, 1))
    )
    plate = f'<Plate ID="Plate:0" Name="Screen 4">{wells}</Plate>'
    with_xml(movie, lambda text: text.replace("<Image ", f"{plate}<Image ", 1))
    fovs = check_pixels(movie, PIXELS[::-1]).fovs
    assert [(fov.name, fov.plate, fov.well, fov.site) for fov in fovs] == [
        ("B02 s1", "Screen 4", "B02", 1),
        ("C02 s1", "Screen 4", "C02", 1),
    ]


@pytest.mark.parametrize("kind", ["imagej", "compressed", "tifffile", "big-endian"])
def test_stacks_with_axes(tmp_path, kind):
    path, pixels = tmp_path / "my stack.tif", PIXELS[0]
    if kind == "imagej":
        about = {"axes": "TZCYX", "unit": "um", "finterval": 30}
        stack = pixels.transpose(0, 2, 1, 3, 4)
        tifffile.imwrite(path, stack, imagej=True, resolution=(1 / PIXEL_UM,) * 2, metadata=about)
    else:
        options = {"compressed": {"compression": "zlib"}, "tifffile": {}, "big-endian": {"byteorder": ">"}}[kind]
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "TCZYX"}, **options)
    info = check_pixels(path, pixels[None])
    assert (info.format, info.fovs[0].name, movie_stem(path)) == (
        "ImageJ TIFF" if kind == "imagej" else "TIFF",
        "my stack",
        "my stack",
    )
    if kind == "imagej":
        assert info.pixel_size_um == pytest.approx(PIXEL_UM)
        assert info.times_min.tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((5, 8, 9), {}, "has 5 images, and does not say whether they are frames, channels or z planes"),
        ((8, 9, 3), {"photometric": "rgb"}, "has images in colours"),
        ((8, 9, 3), {"ome": True, "photometric": "rgb", "metadata": {"axes": "YXS"}}, "has colours"),
    ],
)
def test_images_that_cannot_be_placed_are_refused(tmp_path, shape, options, said):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint8), **options)
    with pytest.raises(UnsupportedSourceError, match=rf"{said}.*Fix: "):
        read_metadata(path)


@pytest.mark.parametrize("left", [0, 4, 200, 3000])
def test_a_file_that_is_cut_off(movie, left):
    movie.write_bytes(movie.read_bytes()[:left])
    with pytest.raises(SourceError, match=r"movie.ome.tif.*Fix: ") as caught, open_reader(movie) as reader:
        reader.read_frame(1, 2, z=1)
    assert str(caught.value).count("Fix: ") == 1


def test_damaged_metadata(movie):
    with_xml(movie, lambda text: text.replace('SizeT="3"', 'SizeT="many"'))
    with pytest.raises(SourceError, match=r"damaged OME metadata.*Fix: copy it again"):
        read_metadata(movie)


def test_several_movies_in_a_folder_are_listed(movie):
    shutil.copyfile(movie, movie.with_name("other.ome.tif"))
    with pytest.raises(SourceError, match=r"holds several movies. Fix: name one of them: .*movie.ome.tif, .*other"):
        read_metadata(movie.parent)


def test_the_identity_is_that_of_the_content(movie, tmp_path):
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "renamed.ome.tif"
    shutil.copyfile(movie, copy)
    assert take_snapshot(copy).identity == take_snapshot(movie).identity
    write_ome(copy, PIXELS[::-1])
    assert take_snapshot(copy).identity != take_snapshot(movie).identity


def test_a_dataset_with_other_files_in_its_folder_is_read(tmp_path):
    folder = write_ndtiff(tmp_path / "acq_1", PIXELS)
    write_ome(folder / "notes.ome.tif", PIXELS[:1])
    assert check_pixels(folder, PIXELS).format == "Micro-Manager"


@pytest.mark.parametrize("name", ["a.ome.tif", "b.companion.ome", "x_MMStack_Pos0.ome.tif", "NDTiff.index", "P.HTD"])
def test_pipes_are_no_movies(tmp_path, name):
    """They would block whoever opens them."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="is a directory without a movie"):
        open_reader(tmp_path)
