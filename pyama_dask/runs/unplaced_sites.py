"""Sites without a position, as none of their images can be read: their wells cannot be stitched."""

from __future__ import annotations

from pyama_dask.config.models import Config
from pyama_dask.config.units import parse_selection
from pyama_dask.errors import SourceError
from pyama_dask.readers import Metadata, reopen
from pyama_dask.readers.base import planes_of
from pyama_dask.readers.frames import read_planes
from pyama_dask.readers.views.mosaic import sites_by_well


def why_unplaced(config: Config, metadata: Metadata, well: str, channel: int) -> str:
    """Say which images of a well's sites without a position cannot be read.

    Parameters
    ----------
    config
        Resolved config.
    metadata
        Of the movie with sites as FOVs.
    well, channel
        Well, and channel whose images are tried.

    Returns
    -------
    Message with the site and the file; '' if the images can be read, or if all sites have a position.
    """
    planes = planes_of(config.params.z, metadata.z_planes)
    for fov in sites_by_well(metadata)[well].values():
        info = metadata.fovs[fov]
        if info.position_um is not None:
            continue
        unknown, lacking = f"the position of {info.name} is unknown", info.lacking([channel], planes)
        frame = next((frame for frame in parse_selection(config.params.frames) if frame not in lacking), None)
        if frame is None:
            return f"{unknown}, as its images are missing. Fix: copy them again, or exclude {well} with 'exclude_wells'"
        try:
            with reopen(metadata) as reader:
                read_planes(reader, fov, frame, [channel], config.params.z)
        except SourceError as error:
            return f"{unknown}, as its images cannot be read: {error}"
    return ""
