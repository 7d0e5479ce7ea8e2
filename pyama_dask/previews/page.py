"""All panels with their captions as HTML: one file without scripts, light and dark, for screens of all widths."""

from __future__ import annotations

from typing import Any

import jinja2

from pyama_dask.files.palette import DARK
from pyama_dask.files.pictures import data_url, to_jpeg
from pyama_dask.previews.draw import WARNING
from pyama_dask.previews.layout import in_rows, legend, title
from pyama_dask.previews.panel import Panel
from pyama_dask.previews.shown import Shown

STYLE = """
.preview { font: 15px/1.45 system-ui, sans-serif; }
.preview h1 { font-size: 1.35em; margin: 0 0 .5em; overflow-wrap: anywhere; }
.preview .legend, .preview .notes { list-style: none; margin: 0 0 1em; padding: 0; }
.preview .legend li { display: inline-block; margin-right: 1.2em; }
.preview .legend i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em;
  border: 1px solid #767676; }
.preview .row { display: grid; column-gap: 1em; margin-bottom: 1.4em; }
.preview figure { display: grid; grid-template-rows: subgrid; grid-row: span 3; margin: 0; min-width: 0;
  overflow-wrap: anywhere; }
.preview figcaption { align-self: end; font-size: .93em; }
.preview figcaption > * { display: block; }
.preview img { width: 100%; height: auto; display: block; margin: .3em 0; }
.preview .said { color: var(--said); font-size: .87em; margin: 0; }
.preview code { overflow-wrap: anywhere; }
@media (max-width: 700px) { .preview .row { grid-template-columns: 1fr !important; } }
@media print { .preview figure { break-inside: avoid; } }
"""
PAGE_STYLE = f"""
body {{ margin: 1.2em; background: #ffffff; color: {DARK}; --said: {WARNING}; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #121212; color: #e8e8e8; --said: #f0b060; }} }}
"""
FRAGMENT = """
<div class="preview">
<style>{{ style|safe }}</style>
<h1>{{ shown.head }}</h1>
<ul class="legend">{% for colour, words in legend %}<li><i style="background: {{ colour }}"></i>{{ words }}</li>
{% endfor %}</ul>
{% for row in rows %}<div class="row" style="max-width: {{ row|sum(attribute='width') + 16 * (row|length - 1) }}px;
  grid-template-columns: repeat({{ row|length }}, minmax(0, 1fr))">
{% for panel in row %}<figure>
<figcaption><b>{{ panel.title }}</b>{% for line in panel.words %}<span>{{ line }}</span>{% endfor %}</figcaption>
<img src="{{ panel.url }}" width="{{ panel.width }}" height="{{ panel.height }}"
  alt="{{ panel.title }}: {{ panel.words|join('; ') or 'the frame alone' }}">
<div>{% for line in panel.said %}<p class="said">{{ line }}</p>{% endfor %}</div>
</figure>
{% endfor %}</div>
{% endfor %}
<ul class="notes">{% for note in shown.notes %}<li>{{ note }}</li>
{% endfor %}</ul>
</div>
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ head }}</title>
<style>{{ style|safe }}</style></head>
<body><main>{{ fragment|safe }}</main></body>
</html>
"""
_ENVIRONMENT = jinja2.Environment(autoescape=True)


def page(shown: Shown) -> str:
    """Make a whole page of a preview."""
    return _ENVIRONMENT.from_string(PAGE).render(head=shown.head, style=PAGE_STYLE, fragment=fragment(shown))


def fragment(shown: Shown) -> str:
    """Make the content of the page alone, for a notebook."""
    rows = [[_values(shown, panel) for panel in row] for row in in_rows(shown.panels, shown.keys)]
    return _ENVIRONMENT.from_string(FRAGMENT).render(shown=shown, style=STYLE, legend=legend(shown), rows=rows)


def _values(shown: Shown, panel: Panel) -> dict[str, Any]:
    """Values of the template for a panel, with its picture as a JPEG, which has a third of the bytes of a PNG."""
    height, width = panel.picture.shape[:2]
    return {
        "title": title(shown, panel),
        "words": list(panel.words()),
        "said": panel.said(),
        "url": data_url(to_jpeg(panel.picture), "jpeg"),
        "height": height,
        "width": width,
    }
