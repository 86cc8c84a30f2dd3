"""The life cycle as pictures, charts and text, all made from the rows of the table.

`dot`, `mermaid`, `plantuml`, `scxml`, `json_text`, `markdown` and `svg` take rows (the whole table if none are
given) and return a string; they need nothing but the core. `png` draws the DOT with Graphviz: by pygraphviz, whose
wheel carries Graphviz (``pip install stagedoor[diagrams]``), or by any ``dot`` on the path.

A *view* is a choice of rows: `content_path` is the life of one content type, `happy_path` the way without mishaps,
`assuming` the table with guards whose answers are known. Given a ``task``, every emitter shows where that upload
stands and which way it came.

``python -m stagedoor.diagrams --write diagrams/`` makes the files of the repository, ``--check diagrams/`` tells
which of them are stale.

Rooms, from below: ``views`` chooses and reads rows, ``texts`` writes charts for other programs; ``shapes`` has words,
boxes and colours, ``sheet`` finds a place for everything, ``pictures`` writes the sheet as DOT and SVG, ``files``
keeps a directory.
"""

from __future__ import annotations

from .files import contents, main, stale, write
from .pictures import dot, draw, hash_of, png, svg
from .texts import document, json_text, markdown, mermaid, plantuml, scxml
from .views import assuming, content_path, happy_path, rows_taken

__all__ = [
    "assuming",
    "content_path",
    "contents",
    "document",
    "dot",
    "draw",
    "happy_path",
    "hash_of",
    "json_text",
    "main",
    "markdown",
    "mermaid",
    "plantuml",
    "png",
    "rows_taken",
    "scxml",
    "stale",
    "svg",
    "write",
]
