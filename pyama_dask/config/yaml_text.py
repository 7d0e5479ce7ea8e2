"""YAML as plain values: what a person wrote is checked before anything is made of it.

The parser's events are counted first. What it would make of aliases ("billion laughs"), of thousands of brackets
(which overflow the C stack) or of a number with a million digits is then never made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from pyama_dask.errors import ConfigError

MOST_NODES = 100_000
"""Keys and values, counted as often as aliases repeat them."""
DEEPEST = 50
_TOO_DEEP = f"more than {DEEPEST} levels of keys or lists"
LONGEST_TEXT = 10_000
LONGEST_NUMBER = 100
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_FLOAT = "tag:yaml.org,2002:float"
_FLOAT_1_2 = re.compile(r"[-+]?(\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)$")
"""Numbers of YAML 1.2 that PyYAML, which follows YAML 1.1, reads as text: ``5e8``, ``1.5e3``, ``-.5``."""


def parse_yaml(text: str, problem: str) -> Any:
    """Read YAML as plain values.

    Parameters
    ----------
    problem
        What is said in front of the reason when it is refused, such as ``run.yaml: is not a YAML config``.

    Raises
    ------
    ConfigError
        If the text is not YAML, has a key twice, or values that are deeper, longer or more than any config has.
    """
    try:
        _check_size(text)
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # also a date that no calendar has
        raise ConfigError(f"{problem}: {error}") from error


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
        Mappings, lists, text and numbers.
    options
        Of `yaml.dump`, such as ``width``.
    """
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **options)
    return text


def _check_size(text: str) -> None:
    """Go through the events of a document, in which nothing is repeated or nested yet."""
    sizes: dict[str, int] = {}
    still_open: list[tuple[str | None, int]] = []
    count = 0
    for event in _events(text):
        count += isinstance(event, yaml.NodeEvent)
        problem = _problem(event)
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(str(event.anchor), 0)
            if event.anchor in {anchor for anchor, _ in still_open}:
                problem = f"*{event.anchor} holds itself"
        elif isinstance(event, yaml.CollectionStartEvent):
            still_open.append((event.anchor, count))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = still_open.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if count > MOST_NODES:
            problem = f"more than {MOST_NODES:,} values, with those that aliases repeat"
        if len(still_open) > DEEPEST:
            problem = _TOO_DEEP
        if problem:
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
    """Why a value by itself is refused; empty where it is not."""
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
    """The safe dumper, which quotes text that `_Numbers` would read as a number."""


_Numbers.add_constructor(_FLOAT, _Numbers.construct_yaml_float)
for _kind in (_Numbers, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _FLOAT_1_2, list("-+.0123456789"))


class _Loader(_Numbers):
    """The loader of what users write, which refuses a key that stands twice in one mapping."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            for inner in _nodes(node):
                self._check(inner)
        return node

    def _check(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT and len(node.value) > LONGEST_NUMBER:
            raise ConfigError(f"a number of {len(node.value)} characters{_at(node.start_mark)}")
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise ConfigError(f"a key that is not text{_at(key.start_mark)}")
                same = key.value if key.tag == _MERGE else self.construct_object(key)
                if same in seen:
                    raise ConfigError(f"the key {key.value!r} stands there twice{_at(key.start_mark)}; keep one")
                seen.add(same)


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """All nodes from one down, each once, parents first."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            if isinstance(node, yaml.SequenceNode):
                waiting += node.value
            elif isinstance(node, yaml.MappingNode):
                waiting += [inner for pair in node.value for inner in pair]


def _at(mark: Any) -> str:
    return f" in line {mark.line + 1}, column {mark.column + 1}"
