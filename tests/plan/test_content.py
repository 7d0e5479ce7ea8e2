"""Which recorded results stay as they are, by the content that they were made from."""

from dataclasses import replace

import pytest
from support.strategies import movie, plan_of

from pyama_dask.plan.content import Contents, compare_content
from pyama_dask.store.ledger import Ledger
from pyama_dask.workflow.task import Receipt


def receipt(task, **values):
    """Receipt of all steps of a task."""
    return Receipt(task.key, task.digests, {step: {} for step in task.digests}, 1.0, 0, 0, 0, **values)


@pytest.fixture
def plan():
    """Plan of one FOV with two blocks."""
    return plan_of(movie(fovs=1, frames=6), storage={"block_frames": 3})


@pytest.fixture
def ledger(plan, tmp_path):
    """Ledger of a complete run; blocks read ``a`` and ``b`` from the FOV."""
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        for task in plan.tasks:
            if task.kind == "link":
                record_link(ledger, task, ["a", "b"])
            else:
                contents = Contents(plan.job, ledger)
                wide = {step: of for step in task.digests if (of := contents.of(task, step)) is not None}
                ledger.record(receipt(task, local=task.local, wide=wide))
        yield ledger


def record_link(ledger, task, read):
    """Record linking, with what each block reads of it."""
    parts = ("track.relabel", "crop.cut", "extract.rows", "display.images")
    ledger.record(receipt(task, provides={step: dict.fromkeys(parts, read) for step in task.digests}))


def changed(plan):
    """The same plan with other digests, as after a change of settings of linking."""
    tasks = tuple(
        replace(task, digests={step: f"new {of}" for step, of in task.digests.items()}) for task in plan.tasks
    )
    return replace(plan, fovs=(replace(plan.fovs[0], tasks=tasks),))


def kept(plan, kind, ledger):
    """Steps that are kept, by block."""
    tasks = plan.fovs[0].stage(kind)
    of = compare_content(plan, tasks, ledger).kept
    return [set(of.get(task.key, ())) for task in tasks]


ON_BLOCKS = {"track", "crop", "extract", "cache"}


def test_all_is_kept_when_linking_gives_the_same(plan, ledger):
    assert kept(changed(plan), "finish", ledger) == [ON_BLOCKS, ON_BLOCKS]
    assert kept(changed(plan), "gather", ledger) == [{"crop", "extract", "summary"}]


def test_a_block_that_reads_something_else_takes_the_crops_of_all_blocks_with_it(plan, ledger):
    (link,) = plan.fovs[0].stage("link")
    record_link(ledger, link, ["a", "other"])
    assert kept(changed(plan), "finish", ledger) == [ON_BLOCKS - {"crop"}, set()]


@pytest.mark.parametrize("lost", ["finish-fov000-b001", "gather-fov000"])
def test_crops_are_cut_again_where_the_store_is_to_be_made(plan, ledger, lost):
    ledger.void({lost: ["crop"]})
    assert all("crop" not in steps for steps in kept(changed(plan), "finish", ledger))
    assert kept(changed(plan), "gather", ledger) == [{"extract", "summary"}]


def test_a_table_is_made_again_when_a_block_was_made_from_something_else(plan, ledger):
    task = plan.fovs[0].stage("finish")[1]
    ledger.record(receipt(task, local=task.local, wide=dict.fromkeys(task.digests, "other")))
    assert kept(changed(plan), "gather", ledger) == [set()]
    (gather,) = plan.fovs[0].stage("gather")
    assert not any(Contents(plan.job, ledger).is_done(gather, step) for step in gather.digests)


def test_a_table_with_a_warning_is_made_again_as_the_warning_may_name_settings(plan, ledger):
    (gather,) = plan.fovs[0].stage("gather")
    wide = {step: Contents(plan.job, ledger).of(gather, step) for step in gather.digests}
    ledger.record(receipt(gather, local=gather.local, wide=wide, warnings=(("extract", "none was kept"),)))
    assert kept(changed(plan), "gather", ledger) == [{"crop", "summary"}]
