"""Reports of real runs in a browser: faults are told apart from the first screen, and pages look right everywhere."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from support.movies import as_czi, config, pixels
from support.reports import write_made_output

import pyama_dask
from look.pages import WIDTHS
from pyama_dask.report import write_fov_page, write_report_page

FRAMES = 30
T98G = Path(__file__).parents[3] / "shared" / "data" / "composite" / "t98g.nd2"
FIRST_SCREEN = """() => [...document.querySelectorAll('header, .findings li')]
  .filter(e => e.getBoundingClientRect().bottom < innerHeight).map(e => e.innerText).join('\\n')"""


def out_of_focus(data):
    for frame in range(20, FRAMES):
        data[2, frame, 0] = ndimage.gaussian_filter(data[2, frame, 0].astype(float), 4)


def light_off(data):
    data[1, 12:, 1] = np.random.default_rng(0).normal(100, 3, data[1, 12:, 1].shape).clip(0)


def merged(data):
    """A carpet of cells in contact: texture all over the middle of the frame."""
    rng, frame = np.random.default_rng(0), data[0, 0, 0]
    inside = np.s_[frame.shape[0] // 8 : -frame.shape[0] // 8, frame.shape[1] // 8 : -frame.shape[1] // 8]
    for t in range(len(data[0])):
        carpet = ndimage.gaussian_filter(rng.normal(0, 1, frame.shape), 1.2)[inside]
        data[0, t, 0][inside] = (frame.mean() + 20_000 * carpet).clip(0, 65535)


FAULTS = {"focus": out_of_focus, "light": light_off, "merged": merged}
FINDINGS = {
    "focus": "Out of focus in FOV 2 from frame 20",
    "light": "Light off in FOV 1 from frame 12 (GFP",
    "merged": "Cells merged in FOV 0: one object covers",
}


@pytest.fixture(scope="session")
def movie():
    return pixels(fovs=3, frames=FRAMES, shape=(260, 280), cells=9)


@pytest.fixture(scope="session", params=[*FAULTS])
def faulty(request, movie, tmp_path_factory):
    """Name of a fault, and the page of a run on a movie with it."""
    folder, data = tmp_path_factory.mktemp(request.param), movie.copy()
    FAULTS[request.param](data)
    changes = {"storage.block_frames": 10}
    run = pyama_dask.run(config(as_czi(folder / "movie.czi", data), folder / request.param, changes))
    assert run.exit_status == 0
    return request.param, write_report_page(run.output)


def test_each_fault_is_found_and_told_apart_from_the_first_screen(faulty, browser, screenshots):
    fault, page = faulty
    with browser.page(page) as shown:
        seen = shown.page.evaluate(FIRST_SCREEN)
        shown.page.screenshot(path=screenshots / f"report_{fault}.png")
        assert FINDINGS[fault] in seen
        assert [name for name, text in FINDINGS.items() if text.partition(" in FOV")[0] in seen] == [fault]


@pytest.mark.skipif(not T98G.exists(), reason="needs the test data")
def test_dense_cells_with_the_wrong_method_are_said_at_once(tmp_path, browser, screenshots):
    changes = {"params.segmentation_method": "logstd", "params.segmentation_params": {}, "storage.block_frames": 8}
    run = pyama_dask.run(config(T98G, tmp_path / "t98g", changes))
    with browser.page(write_report_page(run.output)) as shown:
        seen = shown.page.evaluate(FIRST_SCREEN)
        shown.screenshot(screenshots / "report_t98g.png")
        assert "Cells merged in FOV" in seen
        assert "dropped as too large" in seen
        assert "dropped as too large" in shown.page.locator("#fovs .key").inner_text()
        assert "ardly a cell" in seen or "o cell found" in seen


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Page of a made output with many FOVs."""
    output = tmp_path_factory.mktemp("many") / "results"
    return write_report_page(write_made_output(output, fovs=60, cells=40, frames=30, side=512, copies=4))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", [*WIDTHS])
@pytest.mark.parametrize("faulty", ["focus"], indirect=True)
def test_pages_look_right_on_every_screen(many, faulty, browser, screenshots, screen, dark):
    _, page = faulty
    pages = {"report": page, "fov": write_fov_page(page.parent, 2), "many": many}
    for name, file in pages.items():
        with browser.page(file, width=WIDTHS[screen], dark=dark) as shown:
            shown.page.evaluate("document.querySelectorAll('details').forEach(of => of.open = true)")
            shown.screenshot(screenshots / f"{name}_{screen}_{'dark' if dark else 'light'}.png")
            assert shown.faults() == []


@pytest.mark.parametrize("faulty", ["focus"], indirect=True)
def test_it_prints_in_two_columns_on_white(faulty, browser, screenshots):
    _, page = faulty
    with browser.page(page, width=794, dark=True) as shown:  # A4
        shown.page.emulate_media(media="print")
        shown.screenshot(screenshots / "report_print.png")
        columns = shown.page.evaluate(
            "getComputedStyle(document.querySelector('.figures')).gridTemplateColumns.split(' ').length"
        )
        assert columns == 2
        assert shown.page.evaluate(
            "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)"
        )
        assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        shown.page.pdf(path=screenshots / "report.pdf", format="A4")


def test_tables_sort_by_number_and_the_page_reads_without_script(many, browser):
    with browser.page(many) as shown:
        shown.page.evaluate("document.querySelectorAll('details').forEach(of => of.open = true)")
        head = shown.page.locator("table.sortable th", has_text="objects per frame")
        head.click()
        head.click()
        column = shown.page.evaluate(
            "[...document.querySelector('table.sortable').tBodies[0].rows].map(of => Number(of.cells[7].dataset.value))"
        )
        assert column == sorted(column, reverse=True)
        assert len(set(column)) > 1
    text = many.read_text()
    assert text.count("<script>") == 1
    assert text.partition("<script>")[2].partition("</script>")[0].strip().count("\n") < 30
