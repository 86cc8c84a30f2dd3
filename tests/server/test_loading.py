"""Flags before environment before file before defaults, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from stagedoor.errors import ConfigurationError
from stagedoor.lifecycle import State
from stagedoor.server.config import ServerConfig
from stagedoor.server.loading import FILE, SETTINGS, Kind, Loaded, load, shown
from stagedoor.settings import Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str = "", environ: Mapping[str, str] | None = None, **flags: str) -> Loaded:
    """From a file in the working directory, an environment and flags."""
    if text:
        Path(FILE).write_text(text, encoding="utf-8")
    return load(flags, environ or {})


def refused(code: str, text: str = "", environ: Mapping[str, str] | None = None, **flags: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(text, environ, **flags)
    assert caught.value.code == code
    assert caught.value.sentence.endswith((".", "?"))
    return caught.value.sentence


# ── where values come from ────────────────────────────────────────────────────────────────────────────────────


def test_nothing_said_is_the_default() -> None:
    found = loaded()
    assert (found.config, found.settings) == (ServerConfig(), Settings())
    assert set(found.places.values()) == {"default"}


def test_every_field_can_be_set_and_means_something() -> None:
    fields = {a.name for a in attrs.fields(ServerConfig)} - {"keys"}
    limits = {f"limits.{a.name}" for a in attrs.fields(Settings)} - {"limits.retention"}
    rests = {f"limits.retention.{state}" for state in Settings().retention}
    assert set(SETTINGS) == fields | {"keys_file"} | limits | rests
    assert all(setting.meaning.endswith(".") for setting in SETTINGS.values())


def test_flags_go_before_the_environment_before_the_file() -> None:
    text = 'host = "127.0.0.3"\nport = 3\nworkers = 3\n'
    found = loaded(text, {"STAGEDOOR_PORT": "2", "STAGEDOOR_WORKERS": "2"}, workers="1")
    assert (found.config.host, found.config.port, found.config.workers) == ("127.0.0.3", 2, 1)
    places = [found.places[name] for name in ("host", "port", "workers", "music")]
    assert places == ["stagedoor.toml", "STAGEDOOR_PORT", "--workers", "default"]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_the_same_name_everywhere(name: str) -> None:
    """A value of its kind, by all three ways, gives the same."""
    setting = SETTINGS[name]
    given = setting.choices[-1] if setting.choices else {
        Kind.TEXT: "127.0.0.9", Kind.PATH: "/somewhere", Kind.WHOLE: "77", Kind.SIZE: "3 MiB", Kind.SECONDS: "90s",
        Kind.LASTING: "3d", Kind.SWITCH: "no", Kind.WORDS: "https://a.example",
    }[setting.kind]  # fmt: skip
    if name == "keys_file":
        given = str(Path("keys").resolve())
        Path(given).write_text("a-secret-key\n")
    by_flag = load({name: given}, {})
    by_variable = load({}, {setting.variable: given})
    toml = {Kind.WHOLE: given, Kind.SWITCH: "false", Kind.WORDS: f'["{given}"]'}.get(setting.kind, f'"{given}"')
    table, _, key = name.rpartition(".")
    by_file = loaded(f"[{table}]\n{key} = {toml}\n" if table else f"{key} = {toml}\n")
    assert by_flag.values[name] == by_variable.values[name] == by_file.values[name] != setting.default
    assert by_flag.config == by_variable.config == by_file.config
    assert by_flag.settings == by_variable.settings == by_file.settings
    assert (by_flag.config, by_flag.settings) != (ServerConfig(), Settings())
    assert [by_flag.places[name], by_variable.places[name], by_file.places[name]] == [
        setting.flag,
        setting.variable,
        "stagedoor.toml",
    ]


def test_what_is_shown_can_be_read_again() -> None:
    for name, setting in SETTINGS.items():
        text = shown(setting, setting.default)
        if text != "–":
            assert load({name: text}, {}).values[name] == setting.default, name


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("1_000", 1000),
        ("1 MiB", 1 << 20),
        ("2gib", 2 << 30),
        ("1.5 KiB", 1536),
        ("3MB", 3_000_000),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert load({"progress": text}, {}).config.progress == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5", 1.5), ("250ms", 0.25), ("2min", 120), ("12h", 43_200)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert load({"body_idle": text}, {}).config.body_idle == seconds


def test_what_is_never_deleted() -> None:
    found = loaded('[limits.retention]\nimportcomplete = "never"\npreprocessed = 60\n')
    assert found.settings.retention[State.IMPORTCOMPLETE] is None
    assert found.settings.retention[State.PREPROCESSED] == 60.0
    assert found.settings.retention[State.INVALIDCONTENT] == Settings().retention[State.INVALIDCONTENT]


def test_lists() -> None:
    flags = {"origins": ["https://a.example", "https://b.example,https://c.example"]}
    assert load(flags, {}).config.origins == ("https://a.example", "https://b.example", "https://c.example")
    assert load({}, {"STAGEDOOR_HOSTS": "a.example b.example"}).config.hosts == ("a.example", "b.example")


def test_paths_of_a_file_begin_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/other.toml").write_text('data = "up"\nmusic = "/music"\n')
    for found in (load({}, {}, file="etc/other.toml"), load({}, {"STAGEDOOR_CONFIG": "etc/other.toml"})):
        assert (found.config.data, found.config.music) == (Path("etc/up"), Path("/music"))
        assert found.places["data"] == "etc/other.toml"


def test_an_empty_variable_is_none() -> None:
    assert loaded("", {"STAGEDOOR_PORT": ""}).config.port == ServerConfig().port


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_come_from_the_environment_or_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# of the house\n\n  first-secret  \nsecond-secret\n")
    found = loaded('host = "0.0.0.0"\nkeys_file = "keys"\n')
    assert found.config.keys == ("first-secret", "second-secret")
    found = loaded("", {"STAGEDOOR_KEYS": "third-secret,fourth-secret"})
    assert found.config.keys == ("third-secret", "fourth-secret")
    assert found.places["keys"] == "STAGEDOOR_KEYS"
    assert "secret" not in repr(found)


def test_keys_are_never_in_the_file_nor_in_a_flag() -> None:
    assert "keys_file" in refused("invalid_setting", 'keys = ["a-secret-key"]\n')
    assert "--keys" not in {setting.flag for setting in SETTINGS.values()}


def test_a_file_without_a_key_does_not_open_the_door(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    assert "no key" in refused("invalid_setting", 'keys_file = "keys"\n')
    assert "cannot be read" in refused("configuration_file", 'keys_file = "nowhere"\n')


def test_a_key_that_is_too_short_is_not_shown() -> None:
    sentence = refused("configuration", "", {"STAGEDOOR_KEYS": "abc123"})
    assert "abc123" not in sentence


def test_beyond_loopback_a_key_is_needed() -> None:
    sentence = refused("key_required", "", {"STAGEDOOR_HOST": "0.0.0.0"})
    assert "STAGEDOOR_KEYS" in sentence


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "stagedoor.toml: there is no setting prot. Is port meant?"),
        (
            "[limits]\nmax_chunks = 1",
            "stagedoor.toml, table limits: there is no setting max_chunks. Is max_chunk meant?",
        ),
        ("[limits.retention]\nremove = 1", "stagedoor.toml, table limits.retention: there is no setting remove."),
        ("[server]\nport = 1", "stagedoor.toml: there is no setting server."),
    ],
)
def test_an_unknown_name_in_the_file(text: str, says: str) -> None:
    assert refused("unknown_setting", text).startswith(says)


def test_an_unknown_name_in_the_environment() -> None:
    sentence = refused("unknown_setting", "", {"STAGEDOOR_PRT": "1"})
    assert sentence == "the environment: there is no setting STAGEDOOR_PRT. Is STAGEDOOR_PORT meant?"


def test_what_an_orchestrator_adds_is_passed_over() -> None:
    """Kubernetes tells every container of a service that is called stagedoor."""
    loaded("", {"STAGEDOOR_SERVICE_HOST": "10.0.0.1", "STAGEDOOR_PORT_8337_TCP_ADDR": "10.0.0.1"})
    assert "must be a whole number" in refused("invalid_setting", "", {"STAGEDOOR_PORT": "tcp://10.0.0.1:8337"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('port = "80"', "stagedoor.toml: port must be a whole number, not '80'."),
        ("port = true", "stagedoor.toml: port must be a whole number, not 'True'."),
        ("port = 1.5", "stagedoor.toml: port must be a whole number, not '1.5'."),
        ("host = 1", "stagedoor.toml: host must be text, not '1'."),
        ("data = 1", "stagedoor.toml: data must be a path"),
        ('origins = "https://a.example"', "stagedoor.toml: origins must be a list of texts"),
        ("origins = [1]", "stagedoor.toml: origins must be a list of texts"),
        ('body_idle = "soon"', "stagedoor.toml: body_idle must be a number of seconds"),
        ('progress = "1 mile"', "stagedoor.toml: progress must be a number of bytes"),
        ("progress = 1.5", "stagedoor.toml: progress must be a number of bytes"),
        ('durability = "some"', "stagedoor.toml: durability must be power or process or none, not 'some'."),
        ("limits = 1", "stagedoor.toml: limits must be a table, [limits]."),
        ('[limits]\nallow = "yes"', "stagedoor.toml: limits.allow must be true or false, not 'yes'."),
        ("[limits.retention]\npreprocessed = false", "stagedoor.toml: limits.retention.preprocessed must be"),
    ],
)
def test_a_wrong_type_in_the_file(text: str, says: str) -> None:
    assert refused("invalid_setting", text).startswith(says)


@pytest.mark.parametrize(
    ("name", "given"),
    [("port", "eighty"), ("port", "1__0"), ("limits.allow", "perhaps"), ("body_idle", "-1"), ("progress", "_1"),
     ("body_idle", "never"), ("log", "xml"), ("data", "")],
)  # fmt: skip
def test_a_wrong_text_on_the_command_line(name: str, given: str) -> None:
    assert refused("invalid_setting", "", None, **{name: given}).startswith(SETTINGS[name].flag)


@pytest.mark.parametrize(("flags", "place"), [({"workers": "0"}, "--workers: "), ({"port": "70000"}, "--port: ")])
def test_a_value_that_cannot_be_tells_its_place(flags: dict[str, str], place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(flags, {})
    assert caught.value.sentence.startswith(place)


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "is no TOML" in refused("configuration_file", "port =")
    Path(FILE).write_bytes(b"\xff")
    assert "cannot be read" in refused("configuration_file")
    with pytest.raises(ConfigurationError, match="There is no configuration file"):
        load({}, {}, file=tmp_path / "nowhere.toml")
