"""YAML as plain values: what a user wrote is checked before values are made of it.

The parser's events are checked first: aliases (which can repeat a value a billion times), thousands of brackets (which
overflow the C stack) and tags are refused there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import yaml

from pyama_dask.errors import ConfigError

DEEPEST = 50
_TOO_DEEP = f"more than {DEEPEST} levels of keys or lists"
LONGEST_TEXT = 10_000
LONGEST_NUMBER = 100
_TEXT = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"
_FLOAT_1_2 = re.compile(r"[-+]?(\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)$")
"""Numbers of YAML 1.2 that PyYAML, which follows YAML 1.1, reads as text: ``5e8``, ``1.5e3``, ``-.5``."""


def parse_yaml(text: str, problem: str) -> Any:
    """Read YAML as plain values.

    Parameters
    ----------
    problem
        Beginning of the message if the text is refused, such as ``run.yaml: is not a YAML config``.

    Raises
    ------
    ConfigError
        If the text is not YAML, has a duplicate key, a tag or an alias, or values that are deeper or longer than in
        any config.
    """
    try:
        _check_events(text)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # also a date that no calendar has
        fix = ". Fix: put text that begins with '*' in quotes" if "scanning an alias" in str(error) else ""
        raise ConfigError(f"{problem}: {error}{fix}") from error


def load_yaml(content: str | bytes) -> Any:
    """Read YAML that this program wrote, with the same numbers as `parse_yaml`, but without its limits.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML.
    """
    return yaml.load(content, Loader=_Numbers)


def dump_yaml(document: Any, **options: Any) -> str:
    """Write plain values as YAML, keys in their order; `parse_yaml` and `load_yaml` read equal ones.

    Parameters
    ----------
    document
        Mappings, lists, text, paths and numbers.
    options
        Of `yaml.dump`, such as ``width``.
    """
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text


def _check_events(text: str) -> None:
    """Go through the events of a document, in which values are neither nested nor repeated yet."""
    depth = 0
    for event in _events(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if problem := _problem(event) or (_TOO_DEEP if depth > DEEPEST else ""):
            raise ConfigError(problem + _at(event.start_mark))


def _events(text: str) -> Iterator[yaml.Event]:
    """Yield the parser's events; brackets deeper than the parser reads are refused like those that it does read."""
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:  # it reads up to a thousand characters ahead of its events
        read = text[: error.problem_mark.index if error.problem_mark else 0]
        if sum(read.count(bracket) for bracket in "[{") - sum(read.count(bracket) for bracket in "]}") > DEEPEST:
            raise ConfigError(_TOO_DEEP + _at(error.problem_mark)) from error
        raise


def _problem(event: yaml.Event) -> str:
    """Reason to refuse a value by itself; '' if it is fine."""
    if isinstance(event, yaml.AliasEvent):
        return f"the alias '*{event.anchor}' instead of a value"
    tag = getattr(event, "tag", None)
    if tag not in (None, "!"):
        return f"the tag {tag!r}, as only plain values are read,"
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_TEXT:
        return f"a value of {len(event.value)} characters"
    return ""


class _Numbers(yaml.CSafeLoader):
    """The safe loader, with the numbers of YAML 1.2; a number that no float can hold is refused."""

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value: float = super().construct_yaml_float(node)
        if math.isinf(value) and "inf" not in node.value.lower():
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is beyond the largest number, 1.8e308", node.start_mark
            )
        return value


class _Dumper(yaml.CSafeDumper):
    """The safe dumper, which quotes text that `_Numbers` would read as a number, and writes no aliases."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))
_Numbers.add_constructor(_FLOAT, _Numbers.construct_yaml_float)
for _kind in (_Numbers, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _FLOAT_1_2, list("-+.0123456789"))


class _Loader(_Numbers):
    """The loader of what users write, which refuses duplicate keys and endless numbers."""

    def construct_scalar(self, node: Any) -> Any:
        if node.tag != _TEXT and len(node.value) > LONGEST_NUMBER:
            raise ConfigError(f"a number of {len(node.value)} characters{_at(node.start_mark)}")
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"a key that is not text{_at(key.start_mark)}")
            value = self.construct_object(key)
            if value in seen:
                raise ConfigError(f"the key {key.value!r} stands there twice{_at(key.start_mark)}. Fix: keep one")
            seen.add(value)
        return super().construct_mapping(node, deep)


def _at(mark: Any) -> str:
    return f" in line {mark.line + 1}, column {mark.column + 1}"
