"""Each process begins with slow tests, and those of a file stay together."""

from typing import NamedTuple

import pytest
from xdist.scheduler.worksteal import WorkStealingScheduling

from support.order import sizes, spread


class Item(NamedTuple):
    """A test."""

    path: str
    number: int
    slow: bool


ITEMS = [Item(f"file {k % 7}", k, slow=k % 7 in (1, 4, 5, 6) and k % 3 == 0) for k in range(100)]


class Node:
    """A process of pytest-xdist that notes which tests it gets."""

    shutting_down = False

    def __init__(self):
        self.gets = []

    def send_runtest_some(self, indices):
        self.gets += indices


@pytest.mark.parametrize("blocks", [1, 2, 3, 7])
def test_sizes_are_those_of_pytest_xdist(blocks):
    scheduling = WorkStealingScheduling.__new__(WorkStealingScheduling)
    nodes = [Node() for _ in range(blocks)]
    scheduling.node2pending, scheduling.pending = {node: [] for node in nodes}, [*range(100)]
    scheduling.check_schedule()
    assert [len(node.gets) for node in nodes] == sizes(100, blocks)


def test_every_block_begins_with_its_share_of_the_slow_tests():
    ordered = spread(ITEMS, 3, lambda item: item.slow)
    assert sorted(ordered, key=ITEMS.index) == ITEMS
    assert [item for item in ordered if not item.slow] == [item for item in ITEMS if not item.slow]
    blocks = [ordered[:33], ordered[33:66], ordered[66:]]
    for block in blocks:
        slow = [item.slow for item in block]
        assert 5 <= sum(slow) <= 10
        assert slow == sorted(slow, reverse=True)
    for path in {item.path for item in ITEMS}:
        assert sum(any(item.slow and item.path == path for item in block) for block in blocks) <= 1


def test_more_slow_tests_than_a_block_holds():
    few = ITEMS[:8]
    assert sorted(spread(few, 3, lambda item: item.number < 7), key=ITEMS.index) == few
