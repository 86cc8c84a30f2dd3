"""The tables of the documentation that are made from the code: ``python docs/tables.py``.

A page marks the place of a table with ``<!-- table: NAME -->`` and ``<!-- end -->``. Without arguments the tables in
the pages are written anew; with ``--check`` nothing is written, and the exit status says whether all are right.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

import stagedoor
from stagedoor import errors
from stagedoor.content import naming
from stagedoor.lifecycle import DEADLINE_STATES, DUE_STATES, ROWS, STORED_STATES, Row, State
from stagedoor.settings import Settings

DOCS = Path(__file__).parent
SOURCE = Path(stagedoor.__file__).parent
SKIPPED = ("testing", "cli.py", "demo.py", "diagrams.py", "explain.py", "verify.py", "server")
"""Parts of the source that are programs or tools: their codes are not errors of the library."""

_MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


# ── the life cycle ────────────────────────────────────────────────────────────────────────────────────────────────


def states() -> str:
    """Every state, what it means, and who moves it on."""

    def next_one(state: State) -> str:
        if state is State.NOTEXISTING:
            return "–"
        if state is State.REMOVE:
            return "a worker deletes"
        if state in DUE_STATES:
            return f"a worker: `{DUE_STATES[state]}`"
        if state is State.WAITFORCHUNK:
            return "a client; with all bytes here `complete`"
        return "a client; what it asked for, a worker does"

    return table(
        ("state", "phase", "meaning", "who moves it on", "may expire"),
        (
            (f"`{s}`", s.phase, s.meaning, next_one(s), "yes" if s in DEADLINE_STATES else "no")
            for s in (*STORED_STATES, State.NOTEXISTING)
        ),
    )


def rows() -> str:
    """Every row; rows that are the same from several states share a line."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in ROWS:
        key: tuple[object, ...] = (row.trigger, row.dest, row.guards, row.before, row.kind, row.by, row.doc)
        if row.dest is not None and row.dest is not State.REMOVE and row.trigger != "undo":
            key = (*key, row.source)
        groups.setdefault(key, []).append(row)
    return table(
        ("trigger", "from", "to", "guards", "kind", "by", "what it means"),
        (
            (
                f"`{group[0].trigger}`",
                _sources(group),
                f"`{group[0].dest}`" if group[0].dest else "(stays)",
                ", ".join(f"`{guard}`" for guard in group[0].guards) or "–",
                group[0].kind,
                ", ".join(group[0].by),
                group[0].doc,
            )
            for group in groups.values()
        ),
    )


def _sources(group: list[Row]) -> str:
    sources = [row.source for row in group]
    live = [state for state in STORED_STATES if state is not State.REMOVE]
    missing = [state for state in live if state not in sources]
    if len(sources) > 4 and len(missing) < len(sources):
        return "every state but " + ", ".join(f"`{state}`" for state in [*missing, State.REMOVE])
    return ", ".join(f"`{state}`" for state in sources)


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────


def codes() -> str:
    """Every code that an error, or a finding about content, can have."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] not in SKIPPED:
            for code, kind, sentence in _codes(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault((code, kind), set()).add(sentence)
    return table(
        ("code", "comes as", "sentence"),
        (
            (f"`{code}`", f"`{kind}`" if kind != "finding" else "a finding", " *or* ".join(sorted(sentences)))
            for (code, kind), sentences in sorted(found.items())
        ),
    )


def _codes(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    loops = {
        loop.target.id: [str(ast.literal_eval(item)) for item in loop.iter.elts]
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and isinstance(loop.iter, ast.Tuple)
        if all(isinstance(item, ast.Constant) for item in loop.iter.elts)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name == "Finding" and len(node.args) > 2 and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value), "finding", _sentence(node.args[2])
            for keyword in node.keywords:
                if keyword.arg == "code" and name and node.args:
                    for code in _words(keyword.value, loops):
                        yield code, name, _sentence(node.args[0])
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "default_code":
                    yield (
                        ast.literal_eval(line.value),
                        node.name,
                        _plain((ast.get_docstring(node) or "").split("\n\n")[0]),
                    )
        elif isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Dict):
            # What decoders say, and the guards whose sentences need no details.
            target = ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
            kind = {"_SENTENCES": "ContentRejected", "_REFUSALS": "Refused"}.get(target)
            if kind:
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    assert isinstance(key, ast.Constant)
                    yield str(key.value), kind, _sentence(value)


def _words(value: ast.expr, loops: Mapping[str, list[str]]) -> Iterator[str]:
    """The literals that a code can be: ``"full"``; the last resort of ``task.code or "gave_up"``; all values of
    ``f"invalid_{name}"`` in a loop over literals.
    """
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _words(part, loops)
    elif isinstance(value, ast.JoinedStr):
        words = [""]
        for part in value.values:
            if isinstance(part, ast.Constant):
                words = [word + str(part.value) for word in words]
            else:
                assert isinstance(part, ast.FormattedValue)
                words = [word + more for word in words for more in loops[ast.unparse(part.value)]]
        yield from words


def _sentence(value: ast.expr) -> str:
    """Text as it stands in the source, with … for what is filled in."""
    if isinstance(value, ast.Constant):
        text = re.sub(r"\{[^}]*\}", "…", str(value.value))
    elif isinstance(value, ast.JoinedStr):
        text = "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in value.values)
    elif isinstance(value, ast.BinOp):
        text = _sentence(value.left) + _sentence(value.right)
    else:
        text = "…"
    return _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("<", "&lt;")


def classes() -> str:
    """The hierarchy of errors with the code that each has unless it says another."""

    def parents(cls: type) -> str:
        return next(base.__name__ for base in cls.__mro__[1:])

    found = [getattr(errors, name) for name in errors.__all__]
    found.sort(key=lambda cls: [base.__name__ for base in reversed(cls.__mro__)])
    return table(
        ("class", "is a", "code", "meaning"),
        (
            (
                f"`{cls.__name__}`",
                f"`{parents(cls)}`",
                f"`{cls.default_code}`",
                _plain((cls.__doc__ or "").split("\n\n")[0]),
            )
            for cls in found
        ),
    )


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def settings() -> str:
    """Every limit, its default, and what it limits."""
    said = dict(re.findall(r"^ {4,8}(\w+): (.*?)(?=\n {4,8}\w+: |\n\s*\Z)", Settings.__doc__ or "", re.M | re.S))
    defaults = Settings()

    def shown(name: str) -> str:
        value = getattr(defaults, name)
        if name == "retention":
            return "see below"
        if isinstance(value, bool) or value is None:
            return f"`{value}`"
        for unit, size in (("TiB", 1 << 40), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if type(value) is int and value >= size and value % size == 0:
                return f"`{value:_}` ({value // size} {unit})"
        if isinstance(value, float) and value >= 86_400:
            return f"`{value:_.0f}` s ({value / 86_400:.0f} days)"
        return f"`{value:_.0f}` s" if isinstance(value, float) else f"`{value:_}`"

    return table(
        ("name", "default", "meaning"),
        ((f"`{a.name}`", shown(a.name), _plain(said[a.name])) for a in attrs.fields(Settings)),
    )


def retention() -> str:
    """How long an upload may rest in a state."""
    return table(
        ("state", "days"),
        ((f"`{s}`", "for ever" if t is None else f"{t / 86_400:.0f}") for s, t in Settings().retention.items()),
    )


# ── naming ────────────────────────────────────────────────────────────────────────────────────────────────────────


def schemes() -> str:
    """Every template of every preset; what all have alike stands in one line."""
    kinds = ("song", "compilation", "video", "cover", "pictures")
    found: dict[tuple[str, str], list[str]] = {}
    for kind in kinds:
        for name, scheme in naming.SCHEMES.items():
            template = getattr(scheme, kind)
            if template is not None:
                found.setdefault((kind, template.text), []).append(name)
    return table(
        ("what", "scheme", "template"),
        (
            (
                kind,
                "all" if len(names) == len(naming.SCHEMES) else ", ".join(f"`{name}`" for name in names),
                f"`{text}`",
            )
            for (kind, text), names in found.items()
        ),
    )


def fields() -> str:
    """Every field, what it is, and the templates that may use it."""
    groups = {
        "songs": naming.SONG_FIELDS,
        "videos and their pictures": naming.VIDEO_FIELDS,
        "covers": naming.COVER_FIELDS,
    }
    found: dict[tuple[str, str], list[str]] = {}
    for group, meanings in groups.items():
        for name, meaning in meanings.items():
            found.setdefault((name, meaning), []).append(group)
    return table(
        ("field", "what it is", "in templates for"),
        ((f"`{name}`", meaning, ", ".join(where)) for (name, meaning), where in found.items()),
    )


TABLES: dict[str, Callable[[], str]] = {
    "states": states,
    "rows": rows,
    "codes": codes,
    "classes": classes,
    "settings": settings,
    "retention": retention,
    "schemes": schemes,
    "fields": fields,
}


def fill(text: str) -> str:
    """A page with its tables as they should be."""
    return _MARK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> int:
    """Write the tables, or compare them; returns the exit status."""
    check = "--check" in sys.argv[1:]
    stale = 0
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = fill(old)
        if new != old:
            stale += 1
            if not check:
                page.write_text(new, encoding="utf-8")
            print(f"{page.relative_to(DOCS)}: {'is stale' if check else 'written'}")  # noqa: T201
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
