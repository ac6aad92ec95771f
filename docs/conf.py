"""Settings of the documentation. `make docs` builds it without a network and with warnings as errors."""

import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

from landscape.common.version import package_version  # noqa: E402  # from this checkout

project = "landscape"
author = "The landscape developers"
project_copyright = author
release = version = package_version()

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "plain_formulas",
    "thumbnails",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

# Guides
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# Reference: one page for each public name, made from its docstring
autosummary_generate = True
autodoc_typehints = "none"
default_role = "code"  # `name` in a docstring
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Gallery: the examples are shown, not run; what they print at each size is in the results
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "ignore_pattern": r"^_",
    "plot_gallery": False,
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "landscape"
html_sidebars = {"index": [], "physics": []}
# Besides the style sheet a font for formulas, STIX Two Math: few systems have one.
html_static_path = ["_static", str(files("ziamath") / "fonts")]
html_css_files = ["landscape.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
}
