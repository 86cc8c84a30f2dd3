"""The tables of the documentation that are made from the code: ``python docs/tables.py``.

A page marks the place of a table with ``<!-- table: NAME -->`` and ``<!-- end -->``. Without arguments the tables in
the pages are written anew; with ``--check`` nothing is written, and the exit status says whether all are right.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from attrs import frozen

import stagedoor
from stagedoor import errors
from stagedoor.content import naming
from stagedoor.content.album import Album
from stagedoor.content.decoding import DecoderLimits
from stagedoor.content.decoding.archive import ArchiveLimits
from stagedoor.content.video import Video
from stagedoor.lifecycle import DEADLINE_STATES, DUE_STATES, ROWS, STORED_STATES, Row, State
from stagedoor.server import loading
from stagedoor.settings import Settings

DOCS = Path(__file__).parent
SOURCE = Path(stagedoor.__file__).parent
SKIPPED = ("testing",)
"""Parts of the source whose codes are made up."""

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
            for said in Module.read(path).everything():
                if said.kind != "RejectedError":  # a decoder's process says these, and `SENTENCES` has the words
                    found.setdefault((said.code, said.kind), set()).update(said.sentences)
    return table(
        ("code", "comes as", "sentence"),
        (
            (f"`{code}`", f"`{kind}`" if kind != "Finding" else "a finding", " *or* ".join(sorted(sentences)))
            for (code, kind), sentences in sorted(found.items())
        ),
    )


@frozen
class Said:
    """A code in the source.

    Attributes:
        code: Stable.
        kind: The class that carries it.
        severity: Of a finding.
        sentences: For people, with … for what is filled in.
    """

    code: str
    kind: str
    severity: str
    sentences: tuple[str, ...]


_Function = ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Module:
    """A module of the source, and what its names stand for.

    Attributes:
        path: The file.
        tree: What is in it.
        values: What is assigned to names of the module.
        functions: By qualified name, as in ``Video.plan``.
        imports: Names that come from other modules of the library, with module and name there.
    """

    path: Path
    tree: ast.Module
    values: Mapping[str, ast.expr]
    functions: Mapping[str, _Function]
    imports: Mapping[str, tuple[Path, str]]

    @classmethod
    def read(cls, path: Path) -> Module:
        """Parse a file."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        values: dict[str, ast.expr] = {}
        functions: dict[str, _Function] = {}
        imports: dict[str, tuple[Path, str]] = {}
        for line in tree.body:
            match line:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    values[name] = value
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    functions[line.name] = line
                case ast.ClassDef():
                    functions |= {f"{line.name}.{m.name}": m for m in line.body if isinstance(m, _Function)}
                case ast.ImportFrom(level=level) if level:
                    base = path.parents[level - 1].joinpath(*(line.module or "").split("."))
                    for alias in line.names:
                        places = base / f"{alias.name}.py", base.with_suffix(".py"), base / "__init__.py"
                        found = next((place for place in places if place.exists()), None)
                        if found is not None:
                            imports[alias.asname or alias.name] = (found, alias.name)
        return cls(path, tree, values, functions, imports)

    def everything(self) -> Iterator[Said]:
        """Every code in the file."""
        inside = {id(node): function for function in self.functions.values() for node in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield from self.said(node, inside.get(id(node)))
            elif isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "default_code":
                        doc = _plain((ast.get_docstring(node) or "").split("\n\n")[0])
                        yield Said(ast.literal_eval(line.value), node.name, "", (doc,))
        for name, kind in (("SENTENCES", "ContentRejected"), ("_REFUSALS", "Refused")):
            # What decoders say, and the guards whose sentences need no details.
            value = self.values.get(name)
            if isinstance(value, ast.Dict):
                for key, sentence in zip(value.keys, value.values, strict=True):
                    yield Said(ast.literal_eval(key or ast.Constant("")), kind, "", (_sentence(sentence),))

    def said(self, call: ast.Call, function: _Function | None) -> Iterator[Said]:
        """The codes in a call that makes an error or a finding."""
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            name = call.func.attr  # frames.Stop
        sentences = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "sentence")]
        if name == "Finding" and len(call.args) > 2:
            severity = call.args[1].value if isinstance(call.args[1], ast.Constant) else ""
            for code in self.words(call.args[0], function):
                yield Said(code, name, str(severity), tuple(self._sentences(call.args[2], function, code)))
        elif name == "RejectedError" and call.args:
            for code in self.words(call.args[0], function):
                yield Said(code, name, "", ())
        for keyword in call.keywords:
            if keyword.arg == "code" and name[:1].isupper() and sentences:
                for code in self.words(keyword.value, function):
                    yield Said(code, name, "", tuple(self._sentences(sentences[0], function, code)))

    def words(self, value: ast.expr, function: _Function | None) -> Iterator[str]:
        """The literals that a code can be: ``"full"``; one of ``"full" if … else "empty"``; the last resort of
        ``task.code or "gave_up"``; all values of ``f"invalid_{name}"`` in a loop over literals; a constant of the
        module; the keys of a dictionary of the module that has the sentences; what an argument is when the function is
        called, or when nothing is said.
        """
        match value:
            case ast.Constant(value=str(word)):
                yield word
            case ast.IfExp():
                yield from self.words(value.body, function)
                yield from self.words(value.orelse, function)
            case ast.BoolOp():
                for part in value.values:
                    yield from self.words(part, function)
            case ast.JoinedStr():
                words = [""]
                for part in value.values:
                    if isinstance(part, ast.Constant):
                        words = [word + str(part.value) for word in words]
                    else:
                        assert isinstance(part, ast.FormattedValue)
                        words = [word + more for word in words for more in self._loop(part.value)]
                yield from words
            case ast.Name(id=name):
                if isinstance(constant := self.values.get(name), ast.Constant):
                    yield str(constant.value)
                elif (known := self._looked_up(name, function)) is not None:
                    yield from known
                elif function is not None:
                    given = [*self._assigned(value, function), *self._handed_over(name, function)]
                    yield from dict.fromkeys(v.value for v in given if isinstance(v, ast.Constant) and v.value)

    def _loop(self, variable: ast.expr) -> Sequence[str]:
        """What a variable of a loop over literals takes on; … for others."""
        for loop in ast.walk(self.tree):
            match loop:
                case ast.For(target=ast.Name(id=name), iter=ast.Tuple(elts=items)) if name == ast.unparse(variable):
                    if any(node is variable for node in ast.walk(loop)):
                        return [str(ast.literal_eval(item)) for item in items]
        return ["…"]

    def _looked_up(self, name: str, function: _Function | None) -> Mapping[str, ast.expr] | None:
        """The dictionary of the module in which a function looks a name up."""
        for node in ast.walk(function) if function is not None else ():
            match node:
                case (
                    ast.Call(func=ast.Attribute(value=ast.Name(id=table), attr="get"), args=[ast.Name(id=key), *_])
                    | ast.Subscript(value=ast.Name(id=table), slice=ast.Name(id=key))
                ) if key == name and isinstance(found := self.values.get(table), ast.Dict):
                    keys = [ast.literal_eval(key) for key in found.keys if key is not None]
                    return dict(zip(keys, found.values, strict=True))
        return None

    def _sentences(self, value: ast.expr, function: _Function | None, code: str) -> Iterator[str]:
        """What a sentence can be; a variable is followed to where it comes from."""
        match value:
            case ast.Call(func=ast.Attribute(value=text, attr="replace")):
                yield from self._sentences(text, function, code)
            case ast.Subscript(value=ast.Name(id="SENTENCES")):
                pass  # which stand elsewhere
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Name()) if isinstance(
                found := self.values.get(name), ast.Dict
            ):
                yield from (_sentence(v) for k, v in zip(found.keys, found.values, strict=True)
                            if k is not None and ast.literal_eval(k) == code)  # fmt: skip
            case ast.Name(id=name) if function is not None:
                given = [*self._assigned(value, function), *self._handed_over(name, function)]
                for expression in given:
                    known = [self._looked_up(p.id, function) for p in ast.walk(expression) if isinstance(p, ast.Name)]
                    yield next((_sentence(table[code]) for table in known if table), _sentence(expression))
                if not given:
                    yield "…"
            case _:
                yield _sentence(value)

    def _assigned(self, variable: ast.Name, function: _Function) -> Iterator[ast.expr]:
        """What a variable of a function was given, before it is used: in the same block, else anywhere."""
        nearest: ast.expr | None = None
        everywhere = []
        for node in ast.walk(function):
            for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
                before: ast.expr | None = None
                for line in block if isinstance(block, list) else ():
                    match line:
                        case ast.Assign(targets=[ast.Name(id=name)], value=given) if name == variable.id:
                            before = given
                            everywhere.append(given)
                        case _ if before is not None and any(part is variable for part in ast.walk(line)):
                            nearest = before
        yield from everywhere if nearest is None else [nearest]

    def _handed_over(self, name: str, function: _Function) -> Iterator[ast.expr]:
        """What an argument is, wherever the function is called in the module."""
        names = [argument.arg for argument in function.args.args]
        for node in ast.walk(self.tree) if name in names else ():
            match node:
                case ast.Call(func=ast.Name(id=called), args=arguments) if called == function.name and arguments:
                    yield from arguments[names.index(name) : names.index(name) + 1]
        for argument, usual in zip(names[::-1], function.args.defaults[::-1], strict=False):
            if argument == name:
                yield usual


def _sentence(value: ast.expr) -> str:
    """Text as it stands in the source, with … for what is filled in."""
    if isinstance(value, ast.Constant):
        text = re.sub(r"\{\w*\}", "…", str(value.value))
    elif isinstance(value, ast.JoinedStr):
        text = "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in value.values)
    elif isinstance(value, ast.BinOp):
        text = _sentence(value.left) + _sentence(value.right)
    else:
        text = "…"
    return _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("<", "&lt;")


# ── what becomes of content ───────────────────────────────────────────────────────────────────────────────────────

STEPS = {
    "preprocess": "preprocess",
    "plan": "plan",
    "produce": "integrate",
    "import_": "import",
    "illustrate": "artwork",
}
"""Methods of content types, and the steps in which they are called."""
ENGINE = {"_preprocessed": "preprocess", "plan": "plan", "_placement": "integrate", "_import": "import",
          "_artwork": "artwork"}  # fmt: skip
"""What a session does in these steps, whatever the content type."""
CATALOGUE = {"put": "import", "illustrate": "artwork"}
ANY = "any"


@frozen
class _Place:
    """A function, or a value of a module."""

    module: Path
    name: str


class Reach:
    """What can come of a function: its own codes, and those of what it calls, as far as names tell.

    A method is followed by its name, into the classes of the same part of the source. What a function catches and does
    not pass on is not followed. A decoder's operation is followed into the program of the decoder's process.
    """

    def __init__(self) -> None:
        paths = [*(SOURCE / "content").rglob("*.py"), SOURCE / "session.py"]
        paths += [SOURCE / "library" / f"{name}.py" for name in ("catalogue", "checks", "entries", "rows")]
        self.modules = {path: Module.read(path) for path in paths}
        self.methods: dict[tuple[str, str], list[_Place]] = {}
        for path, module in self.modules.items():
            for name in module.functions:
                owner, _, method = name.rpartition(".")
                if owner:
                    self.methods.setdefault((self._part(path), method), []).append(_Place(path, name))
        self.operations = self.modules[SOURCE / "content/decoding/child/main.py"].imports
        words = self.modules[SOURCE / "content/decoding/sentences.py"].everything()
        self.words = {said.code: said.sentences for said in words}

    @staticmethod
    def _part(path: Path) -> str:
        inside = path.relative_to(SOURCE).parts
        return "child" if "child" in inside else inside[0]

    def of(self, path: Path, name: str) -> set[Said]:
        """All codes that can come of a function or method."""
        found: set[Said] = set()
        seen: set[_Place] = set()
        todo = [_Place(path, name)]
        while todo:
            place = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            module = self.modules[place.module]
            function = module.functions.get(place.name)
            owner = place.name.rpartition(".")[0]
            inside = list(_passing(function if function is not None else module.values[place.name]))
            own = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            for node in inside:
                found |= set(self._said(module, node, function))
                if place.module.stem != "main" and not (isinstance(node, ast.Name) and node.id in own):
                    todo += self._next(module, node, owner, function)
        return found

    def _said(self, module: Module, node: ast.AST, function: _Function | None) -> Iterator[Said]:
        codes: list[ast.expr] = []
        match node:
            case ast.Call(func=ast.Attribute(attr="_rejected"), args=[code, *_]):
                codes.append(code)  # a decoder's end that says something
            case ast.Call():
                for said in module.said(node, function):
                    if said.kind == "Finding" or said.kind.endswith(("Rejected", "RejectedError")):
                        yield attrs.evolve(
                            said,
                            severity=said.severity or "reject",
                            sentences=tuple(s for s in said.sentences if s != "…") or self.words.get(said.code, ()),
                        )
            case ast.Dict(keys=[ast.Constant(value="rejected"), *_], values=[code, *_]):
                codes.append(code)
        for code in codes:
            for word in module.words(code, function):
                yield Said(word, "ContentRejected", "reject", self.words[word])

    def _next(self, module: Module, node: ast.AST, owner: str, function: _Function | None) -> Iterator[_Place]:
        match node:
            case ast.Call(func=ast.Attribute(attr="run" | "stream"), args=[ast.Constant(value=str(operation)), *_]):
                yield _Place(*self.operations[operation])
                yield _Place(SOURCE / "content/decoding/child/main.py", "serve")
        match node:
            case ast.Name(id=name):
                yield from self._named(module, name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if f"{owner}.{name}" in module.functions:
                yield _Place(module.path, f"{owner}.{name}")
            case ast.Attribute(value=ast.Name(id=base), attr=name) if (
                module.imports.get(base, (None, ""))[1] == base
                and (other := self.modules.get(module.imports[base][0])) is not None
                and other.path.stem in (base, "__init__")
            ):
                yield from self._named(other, name)
            case ast.Call(func=ast.Attribute(value=receiver, attr=name)) if not (
                name.startswith("__") or (ast.unparse(receiver) == "self" and f"{owner}.{name}" in module.functions)
            ):
                known = _classes(function).get(receiver.id, "") if isinstance(receiver, ast.Name) else ""
                for place in self.methods.get((self._part(module.path), name), ()):
                    near = place.module == module.path or place.module in {path for path, _ in module.imports.values()}
                    if (near or self._part(module.path) != "child") and known in ("", place.name.partition(".")[0]):
                        yield place

    def _named(self, module: Module, name: str) -> Iterator[_Place]:
        if name in module.functions or name in module.values:
            yield _Place(module.path, name)
        for made in ("__init__", "__attrs_post_init__", "__enter__"):
            if f"{name}.{made}" in module.functions:
                yield _Place(module.path, f"{name}.{made}")
        path, there = module.imports.get(name, (None, ""))
        if path in self.modules and path != module.path:
            yield from self._named(self.modules[path], there)


def _classes(function: _Function | None) -> Mapping[str, str]:
    """The classes of variables, where a function says or shows them."""
    found: dict[str, str] = {}
    for node in ast.walk(function) if function is not None else ():
        match node:
            case ast.arg(arg=name, annotation=ast.Name(id=cls)):
                found[name] = cls
            case ast.withitem(context_expr=ast.Call(func=ast.Name(id=cls)), optional_vars=ast.Name(id=name)):
                found[name] = cls
    return {name: cls for name, cls in found.items() if cls[:1].isupper()}


def _passing(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, without what it tries and whose refusal it keeps to itself."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.Try) and child in node.body and any(_keeps(handler) for handler in node.handlers):
            continue
        yield from _passing(child)


def _keeps(handler: ast.ExceptHandler) -> bool:
    caught = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else set()
    if not caught & {"ContentRejected", "RejectedError"}:
        return False
    parts = [part for line in handler.body for part in ast.walk(line)]
    looked_into = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
    for part in parts:
        match part:
            case ast.Raise() | ast.Call(func=ast.Name(id="Finding"), args=[ast.Attribute(attr="code"), *_]):
                return False
            case ast.Name(id=name) if name == handler.name and id(part) not in looked_into:
                return False
    return True


@functools.cache
def outcomes() -> Mapping[str, Mapping[str, tuple[frozenset[tuple[str, str]], frozenset[str]]]]:
    """By severity and code: content types with steps, and sentences."""
    reach = Reach()
    entries = [
        (name, step, SOURCE / f"content/{name}.py", f"{name.capitalize()}.{method}")
        for name in ("album", "artwork", "video")
        for method, step in STEPS.items()
    ]
    entries += [(ANY, step, SOURCE / "session.py", f"Session.{method}") for method, step in ENGINE.items()]
    entries += [(ANY, step, SOURCE / "library/catalogue.py", f"Catalogue.{name}") for name, step in CATALOGUE.items()]
    found: dict[str, dict[str, tuple[set[tuple[str, str]], set[str]]]] = {"reject": {}, "hold": {}, "warn": {}}
    for name, step, path, function in entries:
        if function not in reach.modules[path].functions:
            continue  # a video has nothing to produce
        for said in reach.of(path, function):
            where, sentences = found[said.severity].setdefault(said.code, (set(), set()))
            where.add((name, step))
            sentences.update(said.sentences)
    return {
        severity: {code: (frozenset(where), frozenset(texts)) for code, (where, texts) in sorted(codes.items())}
        for severity, codes in found.items()
    }


def _outcomes(severity: str) -> str:
    def listed(where: frozenset[tuple[str, str]]) -> str:
        steps = dict.fromkeys(STEPS.values())
        by_step = {step: sorted(name for name, other in where if other == step) for step in steps}
        groups: dict[tuple[str, ...], list[str]] = {}
        for step, names in by_step.items():
            if names:
                groups.setdefault(tuple(names), []).append(step)
        return "; ".join(
            f"{', '.join(names if ANY in names else [f'`{name}`' for name in names])}: {', '.join(steps)}"
            for names, steps in groups.items()
        )

    return table(
        ("code", "content type: step", "sentence"),
        (
            (f"`{code}`", listed(where), " *or* ".join(sorted(sentences)) or "…")
            for code, (where, sentences) in outcomes()[severity].items()
        ),
    )


def taken() -> str:
    """What may be in an upload of each content type."""

    def extensions(cls: type) -> str:
        return ", ".join(f"`{name}`" for name in inspect.signature(cls).parameters["extensions"].default)

    limits = ArchiveLimits()
    songs = inspect.signature(Album).parameters["songs"].default
    return table(
        ("content type", "an upload is", "true types", "placed as it is"),
        (
            ("`video`", "a music video", extensions(Video), "yes"),
            (
                "`album`",
                f"a song; or a zip or tar (plain, gz, bz2, xz) of up to {songs} songs, {limits.members:,} entries, "
                f"{limits.bytes >> 30} GiB unpacked and {limits.member_bytes >> 30} GiB for a file",
                extensions(Album),
                "yes, each song of an archive as well",
            ),
            (
                "`artwork`",
                f"a picture of up to {DecoderLimits().max_pixels // 1_000_000} million pixels",
                "`jpg`, `png`, `webp`",
                "no: its pixels go into a new JPEG, and into small copies",
            ),
        ),
    )


def refused() -> str:
    """What cannot be used, or cannot be placed as it is."""
    return _outcomes("reject")


def asked() -> str:
    """What the user has to decide."""
    return _outcomes("hold")


def told() -> str:
    """What is taken, with something dropped or changed."""
    return _outcomes("warn")


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


# ── configuration ─────────────────────────────────────────────────────────────────────────────────────────────────


def _configuration(found: Iterable[loading.Setting]) -> str:
    def default(setting: loading.Setting) -> str:
        shown = loading.shown(setting, setting.default)
        return shown if shown == "–" else f"`{shown}`"

    return table(
        ("name", "kind", "default", "meaning"),
        (
            (
                f"`{setting.name}`",
                " *or* ".join(f"`{choice}`" for choice in setting.choices) or setting.kind.value,
                default(setting),
                _plain(setting.meaning),
            )
            for setting in found
        ),
    )


def server() -> str:
    """Every setting of the server."""
    return _configuration(s for s in loading.SETTINGS.values() if not s.name.startswith("limits."))


def limits() -> str:
    """Every limit of the engine that a server's configuration can set."""
    return _configuration(s for s in loading.SETTINGS.values() if s.name.startswith("limits."))


TABLES: dict[str, Callable[[], str]] = {
    "states": states,
    "rows": rows,
    "codes": codes,
    "taken": taken,
    "refused": refused,
    "asked": asked,
    "told": told,
    "classes": classes,
    "settings": settings,
    "retention": retention,
    "schemes": schemes,
    "fields": fields,
    "server": server,
    "limits": limits,
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
