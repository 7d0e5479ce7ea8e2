"""Bars of a run in a notebook; `look.test_notebooks` shows them in a kernel."""

from pyama_dask.runs.bars import bars_html, in_notebook, shown_in_notebook
from pyama_dask.runs.progress import RunProgress

HALF = RunProgress(
    fovs=2, fovs_done=0, fovs_failed=1, steps={"copy": (20, 20), "track": (0, 20)}, seconds=10.0,
    dashboard="http://127.0.0.1:8787/status\nFrom your own machine: ssh -N", message="FOV 1: <unreadable>",
    alarms=("no task has ended for 30 min: 2 < 3",),
)  # fmt: skip


def test_bars_show_the_share_of_every_step():
    shown = bars_html(HALF)
    assert [part.split("%")[0] for part in shown.split("width:")[1:] if "%;" in part] == ["50.0", "100.0", "0.0"]
    for words in ("0 of 2 FOVs", "1 failed", "10 s", "2.0 frames/s", "about 10 s left", "20 / 20", "0 / 20"):
        assert words in shown


def test_messages_are_escaped_and_the_dashboard_is_a_link():
    shown = bars_html(HALF)
    assert "FOV 1: &lt;unreadable&gt;" in shown
    assert "2 &lt; 3" in shown
    assert '<a href="http://127.0.0.1:8787/status" target="_blank">dashboard</a> (From your own machine: ' in shown


def test_before_the_plan_is_made_only_the_message_is_shown():
    assert bars_html(RunProgress(0, 0, 0)) == "<div>Planning</div>"
    assert bars_html(RunProgress(0, 0, 0, message="Compiling")) == "<div>Compiling</div>"


def test_outside_a_notebook_the_display_is_the_callers():
    assert not in_notebook()
    with shown_in_notebook(None, None) as shown:
        assert shown == (None, None)
    with shown_in_notebook(print, repr) as shown:
        assert shown == (print, repr)
    with shown_in_notebook(False, None) as shown:
        assert shown == (None, None)
