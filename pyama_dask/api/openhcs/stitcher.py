"""Positions of the sites of a well, and its stitched images as TIFF files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyama_dask.config.models import Config
from pyama_dask.errors import ConfigError, MissingFrameError
from pyama_dask.files.atomic import write_bytes
from pyama_dask.files.images import to_tiff, write_tiff
from pyama_dask.readers import Metadata, Reader
from pyama_dask.readers.views.mosaic import MosaicReader, sites_by_well
from pyama_dask.runs.movie import check_outside
from pyama_dask.runs.positions import positions_text, read_positions
from pyama_dask.runs.stitching import find_positions, tiles_of

log = logging.getLogger("pyama_dask")

OF_IMAGEJ = ("uint8", "uint16", "float32")
"""Types of pixels in TIFF files that ImageJ opens with their size."""
ENDING = "_positions.csv"
"""Ending of the name of a table of positions, after the well."""


@dataclass(frozen=True)
class Stitcher:
    """Finds positions of sites and stitches their images; it holds nothing open, so threads may share it."""

    config: Config
    """Config of the plate's run."""

    def find_positions(self, well: str, metadata: Metadata, folder: Path) -> Path:
        """Register the sites of a well, and write their positions.

        Parameters
        ----------
        well
            Name of the well.
        metadata
            Of a plate with sites as FOVs.
        folder
            Folder for the table ``WELL_positions.csv`` with the columns well, site, y, x, source, ncc.

        Returns
        -------
        Path of the table.

        Raises
        ------
        ConfigError
            If there is no such well, its sites cannot be placed, or the folder is within the plate.
        SourceError, TableError
            As for `runs.stitching.find_positions`.
        """
        self._check(well, metadata, folder)
        changes = {"stitch": "register", "wells": well, "exclude_wells": "", "sites": "all", "fovs": "all"}
        params = self.config.params.model_copy(update=changes)
        output = folder / f".{well}"  # a table in the output of a run would count instead
        found = find_positions(self.config.model_copy(update={"params": params, "output": output}), metadata)
        if well in found.problems:
            raise ConfigError(f"{well}: {found.problems[well]}")
        for note in found.notes:
            log.warning("%s", note)
        path = folder / f"{well}{ENDING}"
        write_bytes(path, positions_text({well: found.all[well]}).encode())
        return path

    def stitch(self, well: str, reader: Reader, folder: Path, positions_file: Path) -> list[Path]:
        """Write the stitched images of a well, one TIFF file per plane.

        Parameters
        ----------
        well
            Name of the well.
        reader
            Open plate with sites as FOVs.
        folder
            Folder for images such as ``B02_w1_z001_t001.tif``; parts are counted from 1.
        positions_file
            Table of positions, from `find_positions`; it may be edited.

        Returns
        -------
        Paths of the images. Frames that a site lacks are left out, which the log says.

        Raises
        ------
        ConfigError
            If there is no such well, the table does not have it, or the folder is within the plate.
        TableError
            If the table is missing or wrong.
        """
        metadata = reader.metadata
        self._check(well, metadata, folder)
        stitched, written = _stitched(well, reader, positions_file), list[Path]()
        planes = product(range(metadata.n_frames), range(len(metadata.channels)), range(metadata.z_planes))
        for frame, channel, z in planes:
            path = folder / f"{well}_w{channel + 1}_z{z + 1:03}_t{frame + 1:03}.tif"
            try:
                image = stitched.read_frame(0, frame, channels=[channel], z=z)[0]
            except MissingFrameError as error:
                log.warning("%s: is left out: %s", path.name, error)
                continue
            _write(path, image, metadata.pixel_size_um)
            written.append(path)
        return written

    @staticmethod
    def _check(well: str, metadata: Metadata, folder: Path) -> None:
        """Refuse unknown wells, and folders within the plate."""
        wells = sites_by_well(metadata)
        if well not in wells:
            raise ConfigError(
                f"{metadata.path.name}: has no well {well!r}. Fix: name one of its wells ({', '.join(wells)})"
            )
        check_outside(folder, metadata.path)


def _stitched(well: str, reader: Reader, positions_file: Path) -> MosaicReader:
    """Plate whose only FOV is a well, stitched by a table of positions."""
    positions = read_positions(positions_file, sites_by_well(reader.metadata))
    if well not in positions:
        raise ConfigError(f"{positions_file}: has no positions of {well}. Fix: call generate_positions for it")
    return MosaicReader(reader, tiles_of(reader.metadata, {well: positions[well]}, ()))


def _write(path: Path, image: npt.NDArray[np.generic], pixel_size_um: float | None) -> None:
    if image.dtype.name in OF_IMAGEJ:
        write_tiff(path, image, pixel_size_um)
    else:
        write_bytes(path, to_tiff(image))
