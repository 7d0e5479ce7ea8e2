"""HTML for notebooks."""

import pytest

from pyama_dask.files.html import LONGEST, MOST_ROWS, cut, never_failing, picture, table, text


def test_values_are_escaped_and_long_texts_are_cut():
    assert text("<b> & 'c'") == "&lt;b&gt; &amp; &#x27;c&#x27;"
    assert text("x" * (LONGEST + 1)) == "x" * LONGEST + " ..."
    assert '<td style="text-align:left">&lt;a&gt;</td>' in table([("<a>", 1)])
    assert 'alt="&quot;"' in picture(b"", "png", '"')


def test_columns_after_the_first_are_aligned_to_the_right():
    shown = table([("a", 1)], ("name", "count"))
    assert '<th style="text-align:left">name</th><th style="text-align:right">count</th>' in shown


@pytest.mark.parametrize("rows", [0, 1, MOST_ROWS, MOST_ROWS + 3])
def test_long_tables_are_cut(rows):
    shown = cut([(k, "x") for k in range(rows)])
    assert len(shown) == min(rows, MOST_ROWS + 1)
    assert rows <= MOST_ROWS or shown[-1] == ("... and 3 more", "")


class Damaged:
    def __repr__(self):
        return "<Damaged>"

    @never_failing
    def _repr_html_(self):
        raise OSError("cannot <read>")


class Lost(Damaged):
    def __repr__(self):
        raise OSError("lost")


def test_what_cannot_be_shown_is_text():
    assert Damaged()._repr_html_() == "<p>&lt;Damaged&gt;: cannot be shown: cannot &lt;read&gt;</p>"
    assert Lost()._repr_html_() == "<p>Lost: cannot be shown: cannot &lt;read&gt;</p>"
