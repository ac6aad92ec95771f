"""Figures of the two papers as scripts: ``landscape reproduce NAME``, or ``python examples/NAME.py``."""

if __name__ == "examples":
    raise ImportError("this folder is part of landscape: write `from landscape import examples`")
