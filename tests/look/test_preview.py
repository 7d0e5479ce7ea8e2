"""Pages and pictures of previews in a browser: light and dark, on a phone and on a desk."""

import numpy as np
import pytest
from PIL import Image
from support.movies import config

import pyama_dask
from look.pages import WIDTHS


@pytest.fixture(scope="module")
def page(small_czi, tmp_path_factory):
    """A page with all that may be on it: warnings, equal and failing panels, all fates, truth, two frames."""
    folder = tmp_path_factory.mktemp("preview")
    (folder / "own.py").write_text(
        "import warnings\nfrom pyama_dask.kernels.segmentation import segment\n\n"
        "def a_rather_long_name_of_a_segmenter(frame, *, largest: int = 400, iterations: int = 1):\n"
        "    if iterations == 9:\n        raise ValueError('a_reason_without_any_space_in_it_' * 6)\n"
        "    warnings.warn('a warning of some length, ' * 4, stacklevel=1)\n"
        "    return segment(frame, max_object_size=largest, morph_iterations=1)\n"
    )
    document = config(small_czi, folder / "out", {"params.segmentation_params": {}})
    document["params"]["segmentation_method"] = f"{folder / 'own.py'}:a_rather_long_name_of_a_segmenter"
    truth = folder / "truth.npy"
    np.save(truth, np.kron(np.arange(1, 5).reshape(2, 2), np.ones((100, 120))).astype(np.uint16)[None].repeat(2, 0))
    grid = {"largest": [100, 400, 10000], "iterations": [1, 2, 9]}
    made = pyama_dask.preview(document, grid=grid, frames="0,9", truth=truth)
    limits = {"segmentation_params": {"min_object_size": 1000, "max_object_size": 1850}}
    fates = config(small_czi, folder / "out", {f"params.{key}": value for key, value in limits.items()})
    return {
        "grid": made.save(folder / "grid.html"),
        "fates": pyama_dask.preview(fates, grid={"morph_size": [3, 5, 7, 9]}).save(folder / "fates.html"),
        "one": pyama_dask.preview(fates, tracks=True).save(folder / "one.html"),
        "sheet": made.save(folder / "sheet.png"),
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["grid", "fates", "one"])
def test_a_page_has_no_faults(browser, screenshots, page, name, width, dark):
    with browser.page(page[name], width=WIDTHS[width], dark=dark) as shown:
        assert shown.faults() == []
        shown.screenshot(screenshots / f"preview_{name}_{width}_{'dark' if dark else 'light'}.png")
        sizes = shown.page.evaluate("[...document.images].map(e => [e.naturalWidth, e.clientWidth])")
        assert all(natural and shown_width <= natural for natural, shown_width in sizes)
        tops = shown.page.evaluate(
            "[...document.querySelectorAll('.row')].map(row => [...row.querySelectorAll('img')].map(e => e.offsetTop))"
        )
        lines = shown.page.evaluate(
            "[...document.querySelectorAll('figcaption > *')].map(e => getComputedStyle(e).display)"
        )
        assert {*lines} == {"block"}
        if width == "desktop":
            assert all(max(row) - min(row) < 1 for row in tops)  # pictures of a row are level


def test_pixels_of_pictures_are_not_smoothed_away(browser, page):
    with browser.page(page["one"]) as shown:
        assert shown.page.evaluate("document.images[0].naturalWidth") >= 900


def test_texts_of_a_sheet_are_neither_cut_off_nor_overlapping(page, screenshots):
    with Image.open(page["sheet"]) as stored:
        picture = np.asarray(stored.convert("RGB"))
        stored.save(screenshots / "preview_sheet.png")
    edge = 20
    frame = np.ones(picture.shape[:2], bool)
    frame[edge:-edge, edge:-edge] = False
    assert (picture[frame] >= 250).all()  # nothing reaches the margin
