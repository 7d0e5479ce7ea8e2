"""Small OME-Zarr plates and images, of NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3)."""

import numpy as np
import zarr

from support.stacks import CHANNELS, PIXEL_UM

UNITS = {"t": "minute", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel"}


def image_about(axes, fov=0):
    """Metadata of an image: two minutes from frame to frame, 200 um from FOV to FOV."""
    scale = [{"t": 2.0, "c": 1.0}.get(axis, PIXEL_UM) for axis in axes]
    shift = [{"x": 200.0 * fov, "y": -30.0}.get(axis, 0.0) for axis in axes]
    described = [
        {"name": axis, "type": TYPES.get(axis, "space")} | ({"unit": UNITS[axis]} if axis in UNITS else {})
        for axis in axes
    ]
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
    level = {"path": "0", "coordinateTransformations": transforms}
    return {
        "multiscales": [{"axes": described, "datasets": [level], "name": f"image {fov}"}],
        "omero": {"channels": [{"label": name, "color": "FFFFFF"} for name in CHANNELS]},
    }


def write_group(path, about, version="0.5"):
    """Write a group with metadata."""
    attributes = about | {"version": version} if version == "0.4" else {"ome": about | {"version": version}}
    return zarr.create_group(path, zarr_format=2 if version == "0.4" else 3, attributes=attributes, overwrite=True)


def write_image(path, pixels, *, axes="tczyx", version="0.5", fov=0, **options):
    """Write (T, C, Z, H, W) pixels as an image; those of axes that are left out must have length 1."""
    group = write_group(path, image_about(axes, fov), version)
    order = [axis for axis in axes if axis in "tcz"]
    stack = pixels.transpose(["tcz".index(axis) for axis in (*order, *(set("tcz") - set(order)))] + [3, 4])
    stack = stack.reshape([pixels.shape["tczyx".index(axis)] for axis in axes])
    chunks = options.pop("chunks", (*[1] * (stack.ndim - 2), *stack.shape[-2:]))
    group.create_array("0", data=stack, chunks=chunks, **options)
    return path


def write_zarr_plate(path, pixels, wells=("A/11", "B/03"), version="0.5", **options):
    """Write the sites of all wells, which are the FOVs in this order."""
    sites = len(pixels) // len(wells)
    rows, columns = (sorted({well.split("/")[k] for well in wells}) for k in (0, 1))
    listed = [
        {"path": well, "rowIndex": rows.index(well.split("/")[0]), "columnIndex": columns.index(well.split("/")[1])}
        for well in wells
    ]
    names = {"rows": [{"name": row} for row in rows], "columns": [{"name": column} for column in columns]}
    write_group(path, {"plate": names | {"wells": listed, "name": "Screen 4", "field_count": sites}}, version)
    for k, well in enumerate(wells):
        write_group(path / well, {"well": {"images": [{"path": str(site)} for site in range(sites)]}}, version)
        for site in range(sites):
            fov = k * sites + site
            write_image(path / well / str(site), pixels[fov], fov=fov, version=version, **options)
    return path


def without_plane(image, at):
    """Remove the chunks of one plane of an image, by its numbers on the leading axes."""
    array = zarr.open_array(image / "0", mode="r")
    grid = [-(-count // size) for count, size in zip(array.shape[-2:], array.chunks[-2:], strict=True)]
    for yx in np.ndindex(*grid):
        (image / "0" / array.metadata.encode_chunk_key((*at, *yx))).unlink()
