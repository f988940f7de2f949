"""Reports from plain data: a result's dict in, a page, a terminal table or a Markdown table out. No model is touched.

``html(data)``, ``table(data)`` and ``markdown(data)`` take schema ``isthmus.compare/1`` (several methods) or
``isthmus.evaluation/1`` (one model). They need nothing but the dict, so a saved ``comparison.json`` renders anywhere.
"""

from isthmus.report.html import html
from isthmus.report.made import absent
from isthmus.report.markdown import markdown
from isthmus.report.terminal import alike, corrections, table, worth

__all__ = ["absent", "alike", "corrections", "html", "markdown", "table", "worth"]
