"""Every public name says what it takes, gives and raises, and shows itself at work."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "docs" / "api"

MODULES = [
    "landscape",
    "landscape.errors",
    "landscape.paths",
    "landscape.potentials",
    "landscape.potentials.architectures",
    "landscape.potentials.datasets",
    "landscape.probes.confinement",
    "landscape.probes.curvature",
    "landscape.probes.fluctuations",
    "landscape.probes.free_energy",
    "landscape.probes.rates",
]
PUBLIC = {
    f"{module}.{name}": thing
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if not inspect.ismodule(thing := getattr(importlib.import_module(module), name))
}


def sections(thing):
    """Sections of a numpy docstring: headings with the text below them."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)
    return {"Summary": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(thing):
    """Names that the docstring lists as parameters, or a dataclass as attributes: `a, b : type` in the first column.

    Where it says "As `name`" or "those of `name`", with the parameters of that neighbour.
    """
    found = sections(thing)
    text = found.get("Parameters", "") + (found.get("Attributes", "") if inspect.isclass(thing) else "")
    groups = re.findall(r"^(\*{0,2}\w[\w, *]*?)(?: :|$)", text, flags=re.MULTILINE)
    names = {name.strip(" *") for group in groups for name in group.split(",")}
    for other in re.findall(r"(?:As|those of) `(\w+)`", inspect.getdoc(thing) or ""):
        names |= documented(getattr(inspect.getmodule(thing), other, None) or (lambda: None))
    return names


def tree(thing):
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def raises(thing):
    """Whether the body has a `raise` of its own; of a class, its constructor."""
    body = tree(thing).body[0]
    if inspect.isclass(thing):
        body = ast.Module(
            [one for one in body.body if getattr(one, "name", "") in ("__init__", "__post_init__")], type_ignores=[]
        )
    return any(isinstance(node, ast.Raise) for node in ast.walk(body))


def parameters(thing):
    found = inspect.signature(thing).parameters.values()
    return {one.name for one in found if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}


def faults(name, thing):
    """What the docstring of a public name lacks."""
    found = sections(thing)
    if not found["Summary"].strip():
        yield "no summary"
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    missing = parameters(thing) - documented(thing)
    abstract = inspect.isabstract(thing)
    if missing and not abstract:
        yield f"not among its Parameters: {sorted(missing)}"
    gives = inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None")
    if gives and "Returns" not in found:
        yield "nothing on what it returns"
    if raises(thing) and "Raises" not in found:
        yield "raises, and does not say what"
    plots = name.rpartition(".")[2].startswith("plot_")
    if not abstract and not plots and ">>>" not in found.get("Examples", ""):
        yield "no example"


def careless(number):
    """A function."""
    if number:
        raise ValueError
    return number


def test_docstrings():
    assert [f"{name}: {fault}" for name, thing in PUBLIC.items() for fault in faults(name, thing)] == []
    assert len(list(faults("careless", careless))) == 4


def test_the_reference_lists_every_public_name():
    """A new name belongs on the page of its module in docs/api."""
    listed = set()
    for page in REFERENCE.glob("*.rst"):
        module = ""
        for line in page.read_text("utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = line.rpartition(" ")[2]
            elif re.fullmatch(r"   \w+", line):
                listed.add(f"{module}.{line.strip()}")
    assert sorted(set(PUBLIC) - listed) == []
