"""The plate on the page of a run."""

import re
from dataclasses import replace

import pytest
from support.movies import change_plan

from pyama_dask.config.well_names import well_name
from pyama_dask.report import write_fov_page, write_report_page
from pyama_dask.report.facts import read_facts
from pyama_dask.report.wells import plate_figure, wells_of
from report.test_page import read


@pytest.fixture
def plate(copied):
    """An output whose two FOVs are sites of a well, of which the second failed."""

    def place(document):
        for site, fov in enumerate(document["fovs"], 1):
            fov |= {"name": f"B02 s{site}", "well": "B02", "site": site}
        document["fovs"][1] |= {"problem": "frames are missing"}

    change_plan(copied, place)
    return copied


def test_the_page_has_a_map_and_names_sites(plate):
    text = write_report_page(plate).read_text()
    assert "Plate: 1 well" in text
    cells = next(fov.report.cells for fov in read_facts(plate).fovs)
    assert re.search(rf'<rect [^>]*class="c5"[^>]*><title>B02: failed, {cells} cells</title></rect>', text)
    assert "FOV 0 (B02 s1)" in text
    assert "1 (B02 s2)" in text
    assert 'href="#plate"' in text
    read(plate / "report.html")
    assert "<h1>FOV 0 (B02 s1)</h1>" in write_fov_page(plate, "B02 s1").read_text()


def test_without_wells_there_is_no_map(finished):
    assert plate_figure(read_facts(finished)) is None


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (16, 24), (32, 48)])
def test_large_plates_stay_small(finished, rows, columns):
    run = read_facts(finished)
    names = [well_name(row, column) for row in range(rows) for column in range(columns)]
    fovs = tuple(replace(run.fovs[0], number=k, well=name) for k, name in enumerate(names))
    figure = plate_figure(replace(run, fovs=fovs))
    assert len(figure.svg) < 200 * len(names) + 5000
    assert figure.key == ()


def test_cells_of_sites_are_added(finished):
    run = read_facts(finished)
    fovs = tuple(replace(fov, well="b2") for fov in run.fovs)
    (well,) = wells_of(replace(run, fovs=fovs))
    assert (well.name, well.state, well.cells) == ("B02", "done", sum(fov.report.cells for fov in run.fovs))
