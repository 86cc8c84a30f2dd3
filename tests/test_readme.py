"""The README's example does what it says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from stagedoor.testing import media

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="needs the media extra")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    data = media.video(seconds=2)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {"data": data, "digest": hashlib.sha1(data).hexdigest()})
    told = capsys.readouterr().out
    for word in ("ChunkRequest", "preprocessed", "2008 - Big Buck Bunny.mp4", "importcomplete"):
        assert word in told
    assert not any(path.is_file() for path in (tmp_path / "Music").rglob("*")), "undo left something"
    assert not any(path.is_file() for path in (tmp_path / "artwork").rglob("*")), "undo left something"


def test_the_commands_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
