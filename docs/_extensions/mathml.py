"""Formulas as MathML, which browsers draw themselves: pages need no network, and the build no LaTeX."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

FUNCTION = r"(?:\\(?:ln|log|exp|det|cos|sin|tanh)(?![A-Za-z])|\\(?:operatorname|mathrm)\{(?:var|tr|erf)\})"
# What LaTeX does and the converter does not: fractions without braces, sizes without sides, space about functions.
REWRITTEN = (
    (r"\\([td]?frac)\s*([^\s{\\])", r"\\\1{\2}"),
    (r"\\([td]?frac\{[^{}]*\})\s*([^\s{\\])", r"\\\1{\2}"),
    (r"\\([Bb]igg?)(?![A-Za-z])", r"\\\1l"),
    (rf"([A-Za-z0-9)\]}}])\s*({FUNCTION})", r"\1\\,\2"),
    (rf"({FUNCTION})\s*(?=[A-Za-z0-9|\\])", r"\1\\,"),
)


def setup(app):
    """Register the renderer under the name that `html_math_renderer` chooses."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(self, node):
    """A formula in a line of text."""
    self.body.append(mathml(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(self, node):
    """Formulas on lines of their own; an empty line parts two."""
    self.body.append('<div class="formula">')
    self.body.extend(mathml(node, text, as_block=True) for text in re.split(r"\n\s*\n", node.astext()))
    self.body.append("</div>")
    raise nodes.SkipNode


def mathml(node, text, as_block):
    """MathML of a formula, or a warning that says where it cannot be had."""
    for pattern, replacement in REWRITTEN:
        text = re.sub(pattern, replacement, text)
    try:
        return tex2mathml(text.strip(), as_block=as_block)
    except MathError as error:
        getLogger(__name__).warning("cannot draw %r: %s", text, error, location=node)
        return f"<code>{nodes.unescape(text)}</code>"
