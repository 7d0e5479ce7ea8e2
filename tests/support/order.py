"""The order of the tests, for processes that each begin with a block of them."""

from collections import deque


def spread(items, blocks, slow):
    """Order tests so that each of some processes begins with its share of the slow ones.

    With ``--dist worksteal``, pytest-xdist gives each process a block of the list, and one that is done takes tests
    from the end of the longest block. So the slow ones begin everywhere at once, and the last ones to run are short.

    Parameters
    ----------
    items
        Tests with their `path`.
    blocks
        Number of processes.
    slow
        Whether a test is slow. The slow ones of a file stay together, as they share fixtures.

    Returns
    -------
    The same tests; the quick ones keep their order.
    """
    files = {}
    for item in filter(slow, items):
        files.setdefault(item.path, []).append(item)
    shares = [[] for _ in range(blocks)]
    for of_file in sorted(files.values(), key=len, reverse=True):
        min(shares, key=len).extend(of_file)
    quick, ordered = deque(item for item in items if not slow(item)), []
    for size, share in zip(sizes(len(items), blocks), shares, strict=True):
        ordered += share
        ordered += [quick.popleft() for _ in range(min(len(quick), size - len(share)))]
    return [*ordered, *quick]


def sizes(tests, blocks):
    """Sizes of the blocks that ``--dist worksteal`` makes of a number of tests."""
    found = []
    for left in range(blocks, 0, -1):
        found.append((tests - sum(found)) // left)
    return found
