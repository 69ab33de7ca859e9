"""The site of these pages, by Sphinx: `make site`. The pages are plain Markdown, and read well without it.

The source folder is the repository, so that links to files outside of docs/ lead somewhere: pages to pages, code to a
copy of its file. The navigation is the index, docs/README.md, and that of the decisions. A page that neither lists
fails the build. So does a link, or an anchor, that leads nowhere: every warning is an error (`--fail-on-warning`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from sphinx.application import Sphinx
from sphinx.highlighting import lexer_classes, lexers

INDEX: Final = "docs/README"
DECISIONS: Final = "docs/decisions/README"

project = "sagabus"
author = "the authors of sagabus"
extensions = ["myst_parser"]
root_doc = INDEX
include_patterns = ["docs/*.md", "docs/**/*.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md"]
exclude_patterns = [".*", "build", "dist"]
myst_heading_anchors = 3  # as GitHub makes them

html_theme = "furo"  # brings its own scripts, styles and icons: nothing is fetched when a page is read
html_title = "sagabus"
html_extra_path = ["index.html"]
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_domain_indices = False
html_show_copyright = False

for _kind in ("http", "log", "mermaid"):  # requests with their answers, lines of a log, diagrams as their text
    lexers[_kind] = lexer_classes["none"]()

_SECTION: Final = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_LISTED: Final = re.compile(r"^\| \[[^]]*\]\(([^)]+)\.md\)", re.MULTILINE)
_OTHERS: Final = ("/README", "/CHANGELOG", "/CONTRIBUTING", "/tests/README", "style")


def navigation(index: str) -> Iterator[str]:
    """Of each section of the index a part, with the pages of its table; the pages beside docs/ at the end."""
    for title, body in _SECTION.findall(index):
        if pages := _LISTED.findall(body):
            yield _tree(title, pages)
    yield _tree("The project", _OTHERS)


def _tree(caption: str, pages: list[str] | tuple[str, ...]) -> str:
    listed = "\n".join(pages)
    return f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {caption}\n\n{listed}\n```\n"


def _read(_: Sphinx, page: str, source: list[str]) -> None:
    if page == INDEX:
        source[0] += "\n" + "\n".join(navigation(source[0]))
    elif page == DECISIONS:
        source[0] += "\n" + _tree("Decisions", _LISTED.findall(source[0]))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
