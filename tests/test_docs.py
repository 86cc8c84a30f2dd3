"""What the documentation shows is true: its examples run, its tables agree with the code, its links lead somewhere.

How a page is run, from top to bottom, in a directory of its own:

* A ``python`` block is executed; all blocks of a page share their names. If its first line is ``# name.py``, it is
  saved under that name instead, for the blocks that follow.
* An ``output`` block is what the block before it printed, ``…`` standing for anything. What is printed must be shown.
* In a ``console`` block, each line ``$ python …`` is run, and the lines below it are what it printed. A block of other
  commands is not run.
* Blocks of other languages are not run.

``STAGEDOOR_DOCS=write`` puts what was really printed into the pages where it differs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from attrs import field, frozen

import stagedoor
from stagedoor import errors
from stagedoor.content.decoding import SENTENCES
from stagedoor.lifecycle import ROWS, STORED_STATES
from stagedoor.protocols import problems
from stagedoor.testing import stores

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
WRITE = os.environ.get("STAGEDOOR_DOCS") == "write"

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.DOTALL | re.MULTILINE)


def _environment(where: Path) -> Mapping[str, str]:
    """For a pytest of its own: nothing of this one, and no directory that it would tidy together with others."""
    root = where.with_name(f"{where.name}-temporary")
    root.mkdir(exist_ok=True)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**ours, "PYTEST_DEBUG_TEMPROOT": str(root)}


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


# ── running a page ────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Block:
    """A fenced block of a page."""

    kind: str
    body: str
    line: int
    span: tuple[int, int]

    @property
    def file(self) -> str | None:
        """The name under which it is to be saved."""
        found = re.match(r"# ([\w./]+\.\w+)\n", self.body) if self.kind == "python" else None
        return found[1] if found else None


def blocks(text: str) -> Iterator[Block]:
    for found in _FENCE.finditer(text):
        kind = found["info"].strip().partition(" ")[0]
        yield Block(kind, found["body"], text.count("\n", 0, found.start("body")), found.span("body"))


def matches(shown: str, printed: str) -> bool:
    there, wanted = ("\n".join(line.rstrip() for line in text.strip().split("\n")) for text in (printed, shown))
    return re.fullmatch(re.escape(wanted).replace("…", r".*?"), there, re.DOTALL) is not None


@frozen
class Run:
    """A page while it is run."""

    page: Path
    where: Path
    names: dict[str, Any] = field(factory=lambda: {"__name__": "__main__"})
    changes: list[tuple[tuple[int, int], str]] = field(factory=list)

    def everything(self) -> None:
        text = self.page.read_text(encoding="utf-8")
        found = list(blocks(text))
        for block, after in zip(found, [*found[1:], None], strict=True):
            if block.kind == "python" and block.file:
                (self.where / block.file).write_text(block.body, encoding="utf-8")
            elif block.kind == "python":
                self._expect(after if after and after.kind == "output" else None, self._python(block), block)
            elif block.kind == "console" and block.body.startswith("$ python "):
                self._console(block)
        for (start, end), new in reversed(self.changes):
            text = text[:start] + new + text[end:]
        if self.changes:
            self.page.write_text(text, encoding="utf-8")

    def _python(self, block: Block) -> str:
        code = compile("\n" * block.line + block.body, str(self.page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self.names)
        return printed.getvalue()

    def _expect(self, shown: Block | None, printed: str, block: Block) -> None:
        if shown is None:
            assert not printed, f"{name_of(self.page)}:{block.line} prints what the page does not show:\n{printed}"
        elif not matches(shown.body, printed):
            self._differs(shown, printed)

    def _console(self, block: Block) -> None:
        printed = ""
        for part in re.split(r"^(?=\$ )", block.body, flags=re.MULTILINE):
            command, _, shown = part.partition("\n")
            if not command:
                continue
            assert command.startswith("$ python "), f"{name_of(self.page)}:{block.line}: only python is run here"
            process = subprocess.run(
                [sys.executable, *shlex.split(command)[2:]],
                cwd=self.where,
                env=_environment(self.where),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=60,
            )
            # A page may show how something is killed, but not how something fails.
            assert process.returncode <= 0, f"{name_of(self.page)}:{block.line}: {command}\n{process.stdout}"
            done = shown if matches(shown, process.stdout) else process.stdout
            printed += f"{command}\n{done}"
        if printed != block.body:
            self._differs(block, printed)

    def _differs(self, block: Block, printed: str) -> None:
        if not WRITE:
            pytest.fail(f"{name_of(self.page)}:{block.line} shows\n{block.body}\nbut this was printed:\n{printed}")
        lines = "\n".join(line.rstrip() for line in printed.strip().split("\n"))
        lines = re.sub(r"(?<= in )\d+\.\d+s", "…s", lines)  # pytest's own time
        self.changes.append((block.span, lines + "\n"))


EXAMPLES = [
    page for page in PAGES if any(b.kind in ("python", "console") for b in blocks(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "stagedoor.testing import media" in page.read_text(encoding="utf-8"):
        pytest.importorskip("av", reason="needs the media extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    try:
        Run(page, tmp_path).everything()
    finally:
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]


@pytest.mark.parametrize(
    "lie",
    [
        "```python\nprint(1)\n```\n\n```output\n2\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nraise ValueError\n```\n",
        "```console\n$ python -c 'print(1)'\n2\n```\n",
        "```console\n$ python -c 'print(1); exit(1)'\n…\n```\n",
    ],
    ids=["shows something else", "shows nothing", "fails", "shows another output", "fails elsewhere"],
)
def test_a_page_that_lies_is_noticed(lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the test above."""
    monkeypatch.setattr(sys.modules[__name__], "DOCS", tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "WRITE", False)
    page = tmp_path / "page.md"
    page.write_text(lie, encoding="utf-8")
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        Run(page, tmp_path).everything()
    assert page.read_text(encoding="utf-8") == lie


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tables_agree_with_the_code(page: Path, tables: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.fill(text) == text, "the tables are stale: run `python docs/tables.py`"


def _cells(page: str, mark: str) -> list[list[str]]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- table: {mark} -->(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None, f"{page} has no table {mark}"
    lines = [line for line in found[1].strip().splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_every_code_in_the_source_has_a_line() -> None:
    """Looked for in another way than the table is made."""
    told = {cells[0] for cells in _cells("reference/errors.md", "codes")}
    package = Path(stagedoor.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        if path.relative_to(package).parts[0] != "testing":  # whose codes are made up
            source = path.read_text(encoding="utf-8")
            said = set(re.findall(r'\b(?:default_)?code(?:: str)? ?= ?"([a-z_]+)"', source))
            said |= set(re.findall(r'Finding\(\s*"([a-z_]+)"', source))
            assert said <= told, path.name
            found |= said
    assert {"too_slow", "not_asked", "invalid_packet", "unreachable", "remote_error", "no_such_page"} <= found
    for name in errors.__all__:
        assert getattr(errors, name).default_code in told, name


def test_every_code_with_a_status_has_a_line() -> None:
    """Wires turn codes into status numbers; one that nobody raises would be a slip."""
    told = {cells[0] for cells in _cells("reference/errors.md", "codes")}
    assert set(problems._BY_CODE).union(*problems._BY_WIRE.values()) <= told


OUTCOMES = {"reject": "refused", "hold": "asked", "warn": "told"}


def test_every_outcome_of_content_has_a_line() -> None:
    """Looked for in another way than the tables are made, which follow calls."""
    told = {severity: {cells[0] for cells in _cells("content.md", name)} for severity, name in OUTCOMES.items()}
    for path in (Path(stagedoor.__file__).parent / "content").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for code, severity in re.findall(r'Finding\(\s*"(\w+)",\s*"(\w+)"', source):
            assert code in told[severity], path.name
        for code in re.findall(
            r'\b(?:ContentRejected|FieldRejected)\((?:(?!\b(?:raise|return|def)\b).)*?code="(\w+)"', source, re.DOTALL
        ):
            # A cover that was there and is not any more: the album is imported without.
            assert code in told["reject"] | {"no_picture"}, path.name
        assert set(re.findall(r'RejectedError\(\s*"(\w+)"', source)) <= told["reject"], path.name
    assert SENTENCES.keys() <= told["reject"]
    codes = {cells[0] for cells in _cells("reference/errors.md", "codes")}
    assert set().union(*told.values()) <= codes


def test_outcomes_name_the_step(tables: ModuleType) -> None:
    """A few that are known."""
    found = tables.outcomes()
    assert found["reject"]["frame_too_large"][0] == {("video", "preprocess"), ("video", "artwork")}
    assert found["reject"]["not_audio"][0] == {("album", "preprocess")}
    assert found["reject"]["archive_bomb"][0] == {("album", "preprocess"), ("album", "integrate")}
    assert found["reject"]["annotation_missing"][0] == {(name, "plan") for name in ("album", "artwork", "video")}
    assert found["reject"]["not_an_image"][0] == {("artwork", "preprocess"), ("artwork", "integrate")}
    assert found["hold"]["artist_similar"][0] == {("album", "plan"), ("video", "plan")}
    assert found["warn"]["tags_repaired"][0] == {("album", "preprocess")}
    for codes in found.values():
        for code, (_, sentences) in codes.items():
            assert sentences, code
            assert "…" not in sentences, code


def test_every_class_of_error_has_a_line() -> None:
    assert {cells[0] for cells in _cells("reference/errors.md", "classes")} == set(errors.__all__)


def test_the_life_cycle_has_all_its_rows_and_states() -> None:
    """Looked for in another way than the table is made."""
    states = {cells[0] for cells in _cells("lifecycle.md", "states")}
    assert states == {*STORED_STATES, "notexisting"}
    told = set()
    for trigger, sources, dest, guards, kind, by, doc in _cells("lifecycle.md", "rows"):
        named = set(re.findall(r"\w+", sources.partition("every state but")[2] or sources)) & states
        if sources.startswith("every state but"):
            named = set(STORED_STATES) - named
        told |= {
            (trigger, source, dest.replace("(stays)", ""), tuple(re.findall(r"\w+", guards)), kind, by, doc)
            for source in named
        }
    assert told == {
        (r.trigger, r.source, r.dest or "", r.guards, r.kind, ", ".join(r.by), r.doc.replace("``", "`")) for r in ROWS
    }


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _prose(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def _anchors(page: Path) -> set[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = [re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
    return {*heads, *re.findall(r"^\(([\w-]+)\)=$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_local_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{name_of(page)} links to {target}"


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.kind == "{toctree}":
                lines = [line for line in block.body.splitlines() if line and not line.startswith(":")]
                listed |= {path.resolve() for line in lines for path in page.parent.glob(f"{line}.md")}
    assert {page.resolve() for page in PAGES} - listed == {(DOCS / "index.md").resolve()}


# ── planted faults ────────────────────────────────────────────────────────────────────────────────────────────

PLANTS: Mapping[str, list[Mapping[str, str]]] = tomllib.loads((HERE / "docs/plants.toml").read_text(encoding="utf-8"))
CONTRACTS = {"bytes": "ByteStoreContract", "tasks": "TaskStoreContract", "tree": "TreeContract"}
GUIDE = DOCS / "write-an-adapter.md"


def plants() -> Iterator[tuple[str, int, Mapping[str, str]]]:
    for part, faults in PLANTS.items():
        for number, fault in enumerate(faults, 1):
            yield part, number, fault


def test_the_table_of_planted_faults_is_what_was_planted() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| `(test_\w+)` \|$", text, re.MULTILINE)
    assert rows == [(fault["what"], fault["finds"]) for _, _, fault in plants()]
    assert len(rows) >= 10
    for part, _, fault in plants():
        assert hasattr(getattr(stores, CONTRACTS[part]), fault["finds"]), fault["finds"]


def _plant(where: Path) -> list[str]:
    """Write each adapter of the page with each fault, and the page's tests for it; returns what is to be run.

    That the adapters without a fault pass all tests is what the page itself shows.
    """
    sources = {b.file: b.body for b in blocks(GUIDE.read_text(encoding="utf-8")) if b.file}
    run = []
    for part, number, fault in plants():
        if part == "tree":
            adapter, test = "stagedoor.adapters.local", "test_tree.py"
            planted = "import os\nfrom stagedoor.adapters.local import LocalTree as Sound\n\nclass LocalTree(Sound):\n"
            planted += textwrap.indent(fault["new"], "    ")
        else:
            adapter, test = f"sqlite_{part}", f"test_sqlite_{part}.py"
            source = sources[f"{adapter}.py"]
            assert source.count(fault["old"]) == 1, f"{fault['what']}: the page has no such code"
            planted = source.replace(fault["old"], fault["new"])
        (where / f"{part}_{number}.py").write_text(planted)
        imported = f"from {adapter} import"
        assert imported in sources[test]
        planted_test = sources[test].replace(imported, f"from {part}_{number} import")
        (where / f"test_{part}_{number}.py").write_text(planted_test)
        (name,) = re.findall(r"^class (\w+)", planted_test, re.MULTILINE)
        run.append(f"test_{part}_{number}.py::{name}::{fault['finds']}")
    return run


def test_each_planted_fault_is_found_by_the_test_that_the_table_names(tmp_path: Path) -> None:
    """All in one process, for a process a fault would take a minute."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line",
         "--junitxml=verdicts.xml", *_plant(tmp_path)],
        cwd=tmp_path, env=_environment(tmp_path),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts: dict[str, set[str]] = {}
    for case in ElementTree.parse(tmp_path / "verdicts.xml").iter("testcase"):
        module = case.get("classname", "").partition(".")[0]
        verdicts.setdefault(module, set()).update(child.tag for child in case)
    for part, number, fault in plants():
        found = verdicts[f"test_{part}_{number}"]
        assert "failure" in found, f"{fault['finds']} does not notice that {fault['what']}"
        assert "error" not in found, f"{fault['what']}: the test could not begin"
