"""Docstrings write |x| for an absolute value, which reStructuredText takes for a substitution: its bars are escaped."""

import re

VERBATIM = re.compile(r"(``.+?``|:math:`.+?`)")


def setup(app):
    """Escape bars in all docstrings."""
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def escape_bars(app, what, name, obj, options, lines):
    """Escape the bars of every line of text; formulas in `math` blocks and examples are left alone."""
    inside = None  # indentation of the directive that a line belongs to
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent <= inside:
            inside = None
        if line.lstrip().startswith((".. math::", ".. code")):
            inside = indent
        elif inside is None and not line.lstrip().startswith((">>>", "...")):
            parts = VERBATIM.split(line)
            lines[i] = "".join(re.sub(r"(?<!\\)\|", r"\\|", p) if k % 2 == 0 else p for k, p in enumerate(parts))
