"""The step ``flat_field``: which channels it shades, and what it refuses."""

import pytest

from pyama_dask.config.load import parse_config
from pyama_dask.errors import ConfigError


def config(*pipelines):
    document = {"input": "a.czi", "output": "out", "pipelines": list(pipelines)}
    return parse_config(document | {"channels": {"pc": {"channel": 0}, "fl": [{"channel": "GFP"}]}})


def shaded(*steps, **more):
    return {"name": "prepare", "steps": list(steps), **more}


@pytest.mark.parametrize(
    ("step", "pc", "fl"),
    [
        ({"do": "flat_field"}, "estimate", "estimate"),
        ({"do": "flat_field", "channels": ["GFP"], "profile": "light.tif"}, "off", "light.tif"),
        ({"do": "flat_field", "channels": 0, "profile": "instrument"}, "instrument", "off"),
    ],
)
def test_channels_get_the_shading(step, pc, fl):
    channels = config(shaded(step)).channels
    assert (channels.pc.flat_field, channels.fl[0].flat_field) == (pc, fl)


@pytest.mark.parametrize(
    ("pipelines", "message"),
    [
        ([shaded({"do": "gaussian"}, {"do": "flat_field"})], "comes after other steps"),
        ([shaded("gaussian"), {"name": "b", "input": "prepare", "steps": ["flat_field"]}], "comes after other steps"),
        ([shaded({"do": "flat_field", "dark": 100})], "no parameter 'dark'"),
        ([shaded({"do": "flat_field", "wells": "B02"})], "'wells' has no effect"),
        ([shaded({"do": "flat_field", "of": ["GFP"]})], "'of' has no effect"),
        ([shaded({"do": "flat_field", "checkpoint": True})], "'checkpoint' has no effect"),
        ([shaded({"do": "flat_field", "channels": ["gfp"]})], "'gfp' is not among 'channels'"),
        ([shaded({"do": "flat_field"}), {"name": "b", "steps": ["gaussian"]}], "differ in flat_field"),
    ],
)
def test_what_has_no_meaning_is_refused(pipelines, message):
    with pytest.raises(ConfigError, match=message):
        config(*pipelines)


def test_what_is_no_channel_is_refused_as_without_shading():
    document = {
        "input": "a.nd2",
        "output": "out",
        "channels": {"pc": 0, "fl": [1]},
        "pipelines": [shaded("flat_field")],
    }
    with pytest.raises(ConfigError, match=r"(?s)channels\.pc: must hold keys, not 0.*channels\.fl\.0: must hold keys"):
        parse_config(document)
