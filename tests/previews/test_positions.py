"""The command that places the sites of wells and draws them."""

import numpy as np
import yaml
from PIL import Image
from support.movies import config, write_config
from support.plates import generator, needs_generator
from typer.testing import CliRunner

import pyama_dask
from pyama_dask.cli.commands import app
from pyama_dask.files.palette import SERIES, rgb
from pyama_dask.previews.positions import GAP, TITLE, outlined, sheet
from pyama_dask.readers.base import FovInfo, Tile


def test_sites_are_outlined_where_they_lie():
    well = FovInfo("B02", (100, 150), tiles=(Tile(1, 0, 0), Tile(4, 20, 50)))
    picture = outlined(well, np.zeros((100, 150), np.uint8))
    zoom = picture.shape[1] / 150
    assert picture.shape == (320, 480, 3)
    assert tuple(picture[0, 0]) == rgb(SERIES[0])
    assert tuple(picture[round(20 * zoom), round(50 * zoom)]) == rgb(SERIES[1])
    assert tuple(picture[319, 479]) == rgb(SERIES[1])
    assert picture[0, 479].max() == 0


def test_wells_are_side_by_side():
    found = sheet([(name, np.zeros((30, 40, 3), np.uint8)) for name in ("B02", "B03", "B04")])
    assert found.shape == (2 * (30 + GAP + TITLE) + GAP, 2 * (40 + GAP) + GAP, 3)
    assert (found[GAP + TITLE : GAP + TITLE + 30, GAP : GAP + 40] == 0).all()


@needs_generator
def test_the_command_writes_a_table_that_the_run_uses(tmp_path):
    module, plate = generator(), tmp_path / "Exp2_P3"
    module.write_imagexpress(plate, module.Scene(wells=("B02", "C10"), grid=(1, 2), tile=(128, 128), overlap=0.3))
    changes = {"params.stitch": "register", "params.stitch_params.max_shift": 10, "params.copy_only": True}
    file = write_config(tmp_path / "run.yaml", config(plate, tmp_path / "out", changes))
    said = CliRunner().invoke(app, ["positions", str(file), "--wells", "B02"])
    assert (said.exit_code, said.exception) == (0, None)
    table = (tmp_path / "out/positions.csv").read_text()
    assert [line.split(",")[0] for line in table.splitlines()] == ["well", "B02", "B02"]
    with Image.open(tmp_path / "out/positions.png") as picture:
        assert picture.width > 400
    report = pyama_dask.run(yaml.safe_load(file.read_text()))
    assert report.exit_status == 0
    assert (tmp_path / "out/positions.csv").read_text().startswith(table)
    off = CliRunner().invoke(app, ["positions", str(file), "--set", "params.stitch=off"])
    assert "params.stitch: is off" in str(off.exception)
