"""Shards of arrays, written in one go or some frames after the other."""

from pyama_dask.store.shards import ShardWriter


def write_block(images, spec, start, data, length=None, *, direct=False):
    """Write the block that begins at a frame, `length` frames at once, and give its file."""
    writer = ShardWriter(images, spec, start // spec.block_frames, direct=direct)
    for k in range(0, len(data), length or len(data)):
        writer.add(data[k : k + (length or len(data))])
    return writer.file
