"""Turn the folder of a reproduction into a page and a small picture beside this script.

landscape reproduce NAME -o FOLDER && python docs/results/collect.py NAME FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from landscape.cli.reproducing import titles

WIDTH = 1000
COLORS = 256


def main(name: str, folder: Path) -> None:
    """Write NAME.md and NAME.png beside this script."""
    here = Path(__file__).parent
    with Image.open(folder / "figure.png") as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLORS, Image.Quantize.MAXCOVERAGE).save(here / f"{name}.png", optimize=True)
    outcome = (folder / "outcome.txt").read_text(encoding="utf-8")
    size, seed = outcome.split("size ")[-1].split(":")[0].split(", seed ")
    page = f"# {titles()[name]}\n\n![]({name}.png)\n\n`landscape reproduce {name} --size {size} --seed {seed}`\n\n"
    (here / f"{name}.md").write_text(f"{page}```text\n{outcome}```\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
