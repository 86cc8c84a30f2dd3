"""Sphinx configuration. `make docs`, or: sphinx-build -W -n -b html docs docs/_build/html."""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.application import Sphinx

DIAGRAMS = Path(__file__).parent.parent / "diagrams"

project = "stagedoor"
copyright = "the stagedoor authors"
release = version = installed("stagedoor")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"stagedoor {version}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# A word in single backticks in a docstring is a link where there is something of that name, else just code.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    # Of other libraries, or not public; nothing is fetched from the network to link to them.
    ("py:.*", r"(?!stagedoor\.).*"),
    ("py:.*", r"stagedoor\.(content|session|adapters|library)\..*"),
    ("py:.*", r"stagedoor\..*\._.*"),
]


class Picture(Directive):
    """A drawing from ``diagrams/``, which is made from the table: for light and dark pages if there are two.

    Where the drawings were not made, the page is without them.
    """

    required_arguments = 1
    final_argument_whitespace = False
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012  # as docutils has it

    def run(self) -> list[nodes.Node]:
        """The images that are there."""
        name = self.arguments[0]
        there = [
            (file, theme)
            for file, theme in (
                (f"{name}-light.svg", "only-light"),
                (f"{name}-dark.svg", "only-dark"),
                (f"{name}.svg", ""),
            )
            if (DIAGRAMS / file).exists()
        ]
        found = there[:2] if len(there) == 3 else there[-1:]
        return [
            nodes.image(uri=f"/../diagrams/{file}", alt=self.options.get("alt", name), classes=[theme] if theme else [])
            for file, theme in found
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add what is above."""
    app.add_directive("picture", Picture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
