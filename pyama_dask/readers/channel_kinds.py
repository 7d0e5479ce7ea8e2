"""Kind of a channel, guessed from its name, and default names for channels and FOVs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyama_dask.readers.base import ChannelKind

_PHASE = re.compile(r"phase.*|ph[1-4l]|phc|phaco|pc")
_TRANSMITTED = re.compile(r"dic|bf|bright|brightfield|mono|td|trans|transmitted|tl\d*")
_DYES = re.compile(
    r"gfp|rfp|yfp|cfp|bfp|venus|citrine|cherry|scarlet|tomato|dsred|neon|ruby|kate|crimson|cerulean|turquoise"
    r"|fitc|tritc|dapi|hoechst|draq|sytox|texas|rhodamine|fluor|alexa|atto|bodipy|calcein|mitotracker|lysotracker"
    r"|cy[2357]\b|af\d{3}|led\d{3}|sir\b"
)


def channel_kind(name: str, modalities: Iterable[str] = ()) -> ChannelKind:
    """Guess the kind of a channel from its name and from the contrast recorded in the file.

    Parameters
    ----------
    name
        The channel's name in the file, such as ``Phase`` or ``GFP 488 nm``.
    modalities
        Contrast methods or modality flags in the file, such as ``phaseContrast`` or ``Fluorescence``.

    Returns
    -------
    ``phase``, ``fluorescence``, or ``other`` for brightfield, DIC and unknown channels.
    """
    flags = {flag.lower() for flag in modalities}
    words = re.findall(r"[a-z]+\d*", name.lower())
    if any(flag.startswith("phase") for flag in flags) or any(_PHASE.fullmatch(word) for word in words):
        return "phase"
    # The name takes precedence: cameras for transmitted light are often flagged as fluorescence.
    if name.strip().lower() == "ph":
        return "phase"
    if any(_TRANSMITTED.fullmatch(word) for word in words):
        return "other"
    if "fluorescence" in flags or _DYES.search(name.lower()):
        return "fluorescence"
    return "other"


def default_channel_name(index: int) -> str:
    """Name of a channel that the file does not name."""
    return f"Channel {index + 1}"


def default_fov_name(index: int) -> str:
    """Name of a FOV that the file does not name."""
    return f"Position {index + 1}"
