"""A directory of diagrams, and whether it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from ..errors import ConfigurationError
from ..lifecycle import State
from ..tasks import Event, UploadTask
from .pictures import dot, draw, hash_of, sha256, svg
from .shapes import PALETTES, Theme
from .texts import json_text, markdown, mermaid, plantuml, scxml
from .views import content_path, happy_path

__all__ = ["contents", "main", "stale", "write"]


@frozen
class Drawing:
    """A picture that Graphviz draws.

    Attributes:
        dot: What it is drawn from.
        theme: For which background.
    """

    dot: str
    theme: Theme

    def made(self) -> bytes:
        """Draw it."""
        return draw(self.dot, "png", background=PALETTES[self.theme]["paper"])


def contents() -> Mapping[str, str | Drawing]:
    """What belongs into a directory of diagrams: by name the text, or what a picture is drawn from."""
    video = content_path(has_artwork=True)
    return {
        "README.md": _INDEX,
        "lifecycle.dot": dot(),
        "lifecycle.mmd": mermaid(),
        "lifecycle.puml": plantuml(),
        "lifecycle.scxml": scxml(),
        "lifecycle.json": json_text(),
        "lifecycle.md": markdown(),
        "lifecycle.svg": svg(),
        "lifecycle-light.svg": svg(theme="light"),
        "lifecycle-dark.svg": svg(theme="dark"),
        "lifecycle.png": Drawing(dot(), "light"),
        "lifecycle-dark.png": Drawing(dot(theme="dark"), "dark"),
        "happy.svg": svg(happy_path(video), title="When all goes well"),
        "video.svg": svg(video, title="The life of a music video"),
        "without-artwork.svg": svg(content_path(has_artwork=False), title="The life of an upload without artwork"),
        "task.svg": svg(video, task=_example()),
    }


def stale(directory: Path) -> list[str]:
    """A sentence for each file that is missing or is not what the table gives, with the command that mends it.

    Texts are compared, pictures by the hash of their DOT: Graphviz draws slightly differently from version to version
    and with other fonts.
    """
    return [
        f"{directory / name} is {'stale' if (directory / name).exists() else 'missing'}. "
        f"Run: python -m stagedoor.diagrams --write {directory}"
        for name, content in contents().items()
        if not _is_current(directory / name, content)
    ]


def write(directory: Path) -> list[str]:
    """Bring a directory up to date; files that are, pictures among them, stay as they are.

    Returns:
        The names of the files that were written.

    Raises:
        ConfigurationError: A picture must be drawn, and Graphviz is not there. The texts are written all the same.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    wanted = {name: content for name, content in contents().items() if not _is_current(directory / name, content)}
    for name, content in sorted(wanted.items(), key=lambda item: isinstance(item[1], Drawing)):
        (directory / name).write_bytes(content.made() if isinstance(content, Drawing) else content.encode())
        written.append(name)
    return written


def _is_current(path: Path, content: str | Drawing) -> bool:
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return False
    return hash_of(found) == sha256(content.dot) if isinstance(content, Drawing) else found == content.encode()


def main(argv: list[str] | None = None) -> int:
    """The command line: 0 is success, 1 stale files, 2 a picture that cannot be drawn."""
    parser = argparse.ArgumentParser(
        prog="python -m stagedoor.diagrams", description="Diagrams of the life of an upload, made from its table."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="DIRECTORY", help="make or update the files there")
    what.add_argument("--check", type=Path, metavar="DIRECTORY", help="tell which files there are stale")
    options = parser.parse_args(argv)
    if options.check is not None:
        wrong = stale(options.check)
        sys.stderr.writelines(f"{sentence}\n" for sentence in wrong)
        return 1 if wrong else 0
    try:
        sys.stdout.writelines(f"{options.write / name}\n" for name in write(options.write))
    except ConfigurationError as error:
        sys.stderr.write(f"{error.sentence}\n")
        return 2
    return 0


def _example() -> UploadTask:
    """An upload that went through most of what can happen."""
    steps = (
        ("create", "waitforchunk", "waitforchunk"),
        ("chunk", "waitforchunk", "waitforchunk"),
        ("complete", "waitforchunk", "uploadfailed"),
        ("retry", "uploadfailed", "waitforchunk"),
        ("chunk", "waitforchunk", "waitforchunk"),
        ("complete", "waitforchunk", "uploadcomplete"),
        ("begin", "uploadcomplete", "uploadcomplete"),
        ("preprocess", "uploadcomplete", "preprocessed"),
        ("annotate", "preprocessed", "preprocessed"),
        ("request", "preprocessed", "preprocessed"),
        ("begin", "preprocessed", "preprocessed"),
        ("integrate", "preprocessed", "integrated"),
        ("start_import", "integrated", "startimport"),
        ("begin", "startimport", "startimport"),
        ("import_", "startimport", "importartwork"),
        ("begin", "importartwork", "importartwork"),
        ("import_artwork", "importartwork", "importfailed"),
    )
    return UploadTask(
        id="big-buck-bunny",
        filesize=5_510_872,
        offset=5_510_872,
        contenttype="video",
        mimetype="video/mp4",
        sourcefilename="Big Buck Bunny.mp4",
        sourcechecksum="0" * 40,
        destinationpath=f"video-{'0' * 40}.mp4",
        state=State.IMPORTFAILED,
        uid="0" * 32,
        created=0.0,
        updated=0.0,
        message="No frame of the video could be decoded for the artwork. Retry, or undo the import.",
        history=tuple(Event(number, float(number), *step) for number, step in enumerate(steps, 1)),
    )


_INDEX: Final = """\
# Diagrams

Made from the table in `src/stagedoor/lifecycle.py`; nothing here is written by hand. `make diagrams` makes it anew,
and a test fails when it is stale.

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="lifecycle-dark.svg">
  <img alt="The life of an upload in four phases; failures on the right" src="lifecycle-light.svg">
</picture>

| file | what it is |
|---|---|
| [lifecycle.svg](lifecycle.svg) | The whole life, light or dark as the reader prefers |
| [lifecycle-light.svg](lifecycle-light.svg), [-dark.svg](lifecycle-dark.svg) | The same, always light or dark |
| [lifecycle.png](lifecycle.png), [-dark.png](lifecycle-dark.png) | The same for what cannot show SVG |
| [happy.svg](happy.svg) | When all goes well |
| [video.svg](video.svg) | The life of a content type with artwork |
| [without-artwork.svg](without-artwork.svg) | The life of a content type without |
| [task.svg](task.svg) | One upload: where it stands, and by numbers which way it came |
| [lifecycle.md](lifecycle.md) | States and rows as tables |
| [lifecycle.dot](lifecycle.dot) | For Graphviz, with the place of everything in it |
| [lifecycle.mmd](lifecycle.mmd) | For Mermaid |
| [lifecycle.puml](lifecycle.puml) | For PlantUML |
| [lifecycle.scxml](lifecycle.scxml) | For programs that run state charts; a test runs it against the machine |
| [lifecycle.json](lifecycle.json) | For pages and programs |

How to read the pictures: a bold word is what happens, and behind it who may make it happen. Below stand the guards,
which must all say yes; grey ones are preconditions that stand on every branch of the step, and *otherwise* is the
branch that is taken when the others are not. Blue leads on, red with a cross is a failure, dashed green repairs or
takes back, dotted grey removes. A double outline is an end.
"""
