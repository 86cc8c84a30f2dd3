"""``stagedoor config``, and what ``stagedoor serve`` takes from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from stagedoor.cli import main
from stagedoor.server.loading import SETTINGS

KEY = "a-secret-key"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("STAGEDOOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def config(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> Any:
    assert main([*argv]) == status
    return json.loads(capsys.readouterr().out)


def test_everything_is_shown_with_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stagedoor.toml").write_text('music = "/m"\nworkers = 3\norigins = ["https://a.example"]\n')
    monkeypatch.setenv("STAGEDOOR_WORKERS", "4")
    monkeypatch.setenv("STAGEDOOR_KEYS", KEY)
    monkeypatch.setenv("STAGEDOOR_DATA", "/d")
    argv = ("--durability", "none", "config", "--json", "--port", "9", "--limits-retention-importcomplete", "never")
    found = config(capsys, *argv)
    settings = found["settings"]
    assert list(settings) == list(SETTINGS)
    assert {name: told for name, told in settings.items() if told["from"] != "default"} == {
        "music": {"value": "/m", "from": "stagedoor.toml"},
        "origins": {"value": ["https://a.example"], "from": "stagedoor.toml"},
        "workers": {"value": 4, "from": "STAGEDOOR_WORKERS"},
        "data": {"value": "/d", "from": "STAGEDOOR_DATA"},
        "port": {"value": 9, "from": "--port"},
        "durability": {"value": "none", "from": "--durability"},
        "limits.retention.importcomplete": {"value": None, "from": "--limits-retention-importcomplete"},
    }
    assert found["keys"] == {"number": 1, "from": "STAGEDOOR_KEYS"}


def test_common_options_count_on_both_sides_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when they say what would be so without them."""
    Path("stagedoor.toml").write_text('data = "/elsewhere"\n')
    for argv in (("--data", "uploads", "config", "--json"), ("config", "--json", "--data", "uploads")):
        assert config(capsys, *argv)["settings"]["data"] == {"value": "uploads", "from": "--data"}
    assert config(capsys, "config", "--json")["settings"]["data"]["value"] == "/elsewhere"


def test_keys_are_hidden(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("keys").write_text(f"{KEY}\nanother-secret\n")
    for argv in (["config", "--keys-file", "keys"], ["config", "--keys-file", "keys", "--json"]):
        assert main(argv) == 0
        out, err = capsys.readouterr()
        assert "secret" not in out + err
        assert "2" in out


def test_a_mistake_names_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.toml").write_text("[limits]\nmax_files = 1\n")
    error = config(capsys, "config", "--json", "--config", "my.toml", status=2)["error"]
    assert error["code"] == "unknown_setting"
    assert error["sentence"].startswith("my.toml, table limits: there is no setting max_files. Is max_file_size meant?")


def test_there_is_no_flag_for_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor the beginning of one."""
    Path(KEY).write_text("a-key-in-a-file\n")
    for command in ("serve", "config"):
        assert main([command, "--keys", KEY]) == 2
        assert "unrecognized arguments: --keys" in capsys.readouterr().err
