"""Pictures for the gallery: those of the results, since the examples are not run."""

from pathlib import Path

from PIL import Image

SIZE = (400, 280)


def setup(app):
    """Put the pictures in place after the gallery was written."""
    app.connect("builder-inited", place, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def place(app):
    """Replace the placeholder of every example that has a result."""
    source = Path(app.srcdir)
    for thumbnail in (source / "examples" / "images" / "thumb").glob("sphx_glr_*_thumb.png"):
        picture = source / "results" / f"{thumbnail.stem.removeprefix('sphx_glr_').removesuffix('_thumb')}.png"
        if picture.exists():
            with Image.open(picture) as image:
                small = image.convert("RGB")
                small.thumbnail(SIZE)
                small.save(thumbnail)
