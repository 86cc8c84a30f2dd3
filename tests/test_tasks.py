"""Uploads as values, their documents, and what is refused of what strangers send."""

import math
import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import orjson
import pytest
from attrs.exceptions import FrozenInstanceError as AttrsFrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st

from stagedoor.errors import Refused, TooLarge
from stagedoor.lifecycle import State
from stagedoor.tasks import (
    JSON,
    SCHEMA,
    SPECIFICATION_KEYS,
    Event,
    Finding,
    InvalidDocument,
    Offer,
    UploadTask,
    check_annotations,
    check_checksum,
    check_id,
    check_size,
    dump,
    evolve,
    extension_of,
    freeze,
    load,
    new_uid,
    thaw,
    to_dict,
)
from stagedoor.testing.stores import full_task, upload_task
from stagedoor.testing.strategies import json_objects, json_values, offers, tasks

GOLDEN = Path(__file__).parent / "golden"


# ── golden documents ──────────────────────────────────────────────────────────────────────────────────────────


def test_there_is_a_golden_document_for_each_schema() -> None:
    assert {path.name for path in GOLDEN.iterdir()} >= {f"task-schema-{n}.json" for n in range(SCHEMA + 1)}


def test_a_document_of_this_schema_is_written_as_it_always_was() -> None:
    """A change of these bytes needs a new schema version, a migration and a new golden document."""
    assert dump(full_task()) == (GOLDEN / f"task-schema-{SCHEMA}.json").read_bytes()


def test_a_document_of_schema_2_is_read() -> None:
    assert load((GOLDEN / "task-schema-2.json").read_bytes(), expected_id="one") == full_task()


def test_a_document_of_schema_1_is_read() -> None:
    """Its questions had no options, and its files replaced none."""
    task = full_task()
    assert task.plan is not None
    former = evolve(
        task,
        wire={},
        findings=tuple(attrs.evolve(f, options=()) for f in task.findings),
        plan=attrs.evolve(
            task.plan,
            files=tuple(attrs.evolve(f, replace=False) for f in task.plan.files),
            artwork=tuple(attrs.evolve(f, optional=False) for f in task.plan.artwork),
        ),
        placed=tuple(attrs.evolve(f, replaced=None) for f in task.placed),
    )
    assert load((GOLDEN / "task-schema-1.json").read_bytes(), expected_id="one") == former


def test_a_document_of_musicdb_7_is_read() -> None:
    checksum = "0a4d55a8d778e5022fab701977c5d840bbc486d0"
    assert load((GOLDEN / "task-schema-0.json").read_bytes(), expected_id=checksum) == UploadTask(
        id=checksum,
        filesize=1_048_576,
        offset=409_600,
        contenttype="video",
        mimetype="video/mp4",
        sourcefilename="Björk - Jóga (Live).MP4",
        sourcechecksum=checksum,
        destinationpath=f"video-{checksum}.mp4",
        state=State.WAITFORCHUNK,
        uid="286068520eb56764f20064c3b8086786",
        created=0.0,
        updated=0.0,
        annotations={
            "name": "Jóga", "artistname": "Björk", "release": 1997, "origin": "internet",
            "more": {"list": (1, None, True)},
        },
        foreign={"destinationpath": f"/var/musicdb/uploads/video-{checksum.upper()}.MP4"},
    )  # fmt: skip


def test_the_keys_of_the_specification_are_in_every_document() -> None:
    document = to_dict(upload_task())
    assert next(iter(document)) == "schema"
    assert set(SPECIFICATION_KEYS) <= set(document)


# ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(tasks())
@settings(max_examples=80, deadline=None)
def test_what_is_dumped_is_loaded(task: UploadTask) -> None:
    raw = dump(task)
    loaded = load(raw, expected_id=task.id)
    assert loaded == task
    assert dump(loaded) == raw


@given(tasks(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_torn_document_is_refused(task: UploadTask, data: st.DataObject) -> None:
    raw = dump(task)
    with pytest.raises(InvalidDocument):
        load(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.binary(max_size=200) | json_values().map(orjson.dumps))
@settings(max_examples=150, deadline=None)
def test_anything_else_is_refused_too(raw: bytes) -> None:
    with pytest.raises(InvalidDocument):
        load(raw)


def well(**changes: object) -> dict[str, Any]:
    return {**to_dict(full_task()), **changes}


WRONG: dict[str, dict[str, Any]] = {
    "a size in words": well(filesize="1000"),
    "a size true": well(filesize=True),
    "a size with a point": well(filesize=1000.0),
    "a size below zero": well(filesize=-1, offset=0),
    "a size beyond all disks": well(filesize=2**63),
    "an offset in words": well(offset="5"),
    "an offset true": well(offset=True),
    "an offset below zero": well(offset=-1),
    "an offset behind the end": well(offset=1001),
    "a revision true": well(revision=True),
    "revision zero": well(revision=0),
    "a generation below zero": well(generation=-1),
    "a flag that is 1": well(import_wanted=1),
    "a flag in words": well(import_wanted="no"),
    "a time in words": well(updated="now"),
    "a time true": well(created=True),
    "a deadline in words": well(deadline="never"),
    "a message that is a number": well(message=5),
    "no type": well(contenttype=None),
    "a type that is a path": well(contenttype="../video"),
    "an unknown state": well(state="sleeping"),
    "a virtual state": well(state="notexisting"),
    "a state of the wrong type": well(state=5),
    "a wish nobody can have": well(wanted="chunk"),
    "an unknown wish": well(wanted="everything"),
    "a short uid": well(uid="abc"),
    "a hostile uid": well(uid="../../../../../etc/passwd"),
    "a checksum in capitals": well(sourcechecksum="A" * 40),
    "a short checksum": well(sourcechecksum="a" * 39),
    "a hostile id": well(id="../one"),
    "an empty id": well(id=""),
    "an id that is a number": well(id=1),
    "annotations in a list": well(annotations=[]),
    "annotations in words": well(annotations="{}"),
    "no annotations": well(annotations=None),
    "content in a list": well(content=[["a", 1]]),
    "findings that are none": well(findings=["dropped"]),
    "an unknown severity": well(findings=[{"code": "a", "severity": "fatal", "sentence": "b"}]),
    "a step that is none": well(step="complete"),
    "a step that nobody knows": well(step={"trigger": "dance", "token": "", "attempt": 1, "started": 0.0}),
    "an attempt in words": well(step={"trigger": "undo", "token": "", "attempt": "1", "started": 0.0}),
    "a plan without files": well(plan={"artwork": []}),
    "a plan in a list": well(plan=[]),
    "a history that is none": well(history=[1]),
    "a schema in words": well(schema="1"),
    "a schema true": well(schema=True),
    "no schema at all": well(schema=None),
    "a newer schema": well(schema=SCHEMA + 1),
    "a schema below zero": well(schema=-1),
    **{f"no {key}": {k: v for k, v in well().items() if k != key} for key in
       ("id", "filesize", "offset", "contenttype", "sourcefilename", "state", "uid", "created", "destinationpath")},
}  # fmt: skip


@pytest.mark.parametrize("document", WRONG.values(), ids=list(WRONG))
def test_a_document_that_says_something_impossible_is_refused(document: dict[str, Any]) -> None:
    for raw in (document, orjson.dumps(document)):
        with pytest.raises(InvalidDocument) as refused:
            load(raw)
        assert refused.value.code == "invalid_document"


@pytest.mark.parametrize(
    "document",
    [well(extra=1), well(step={**well()["step"], "extra": 1}), well(findings=[{**well()["findings"][0], "extra": 1}])],
)
def test_a_key_that_nobody_knows_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        load(document)


@pytest.mark.parametrize(
    "document",
    [well(findings={}), well(history={}), well(created_directories="abc"), well(created_directories={"a": 1})],
)
def test_a_list_is_a_list(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        load(document)


@pytest.mark.parametrize("key", ["annotations", "content", "foreign"])
def test_a_document_that_is_nested_without_end_is_refused(key: str) -> None:
    raw = dump(evolve(full_task(), **{key: {"deep": "HERE"}})).replace(b'"HERE"', b"[" * 900 + b"]" * 900)
    with pytest.raises(InvalidDocument):
        load(raw)


def test_a_document_of_musicdb_that_is_nested_without_end_is_refused() -> None:
    raw = (GOLDEN / "task-schema-0.json").read_bytes()[:-1] + b', "more": ' + b"[" * 900 + b"]" * 900 + b"}"
    with pytest.raises(InvalidDocument):
        load(raw)


def test_nesting_beyond_what_the_parser_takes_is_refused() -> None:
    with pytest.raises(InvalidDocument):
        load(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.parametrize("text", [b'"\\ud800"', b"NaN", b"Infinity", b'"\xff"', b"1e999999"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    raw = dump(full_task(annotations={"a": "HERE"})).replace(b'"HERE"', text)
    with pytest.raises(InvalidDocument):
        load(raw)


def test_the_id_must_be_the_one_that_the_name_promises() -> None:
    with pytest.raises(InvalidDocument, match="about 'one', not 'two'"):
        load(dump(full_task()), expected_id="two")


def test_loading_leaves_its_input_alone() -> None:
    document = well()
    before = orjson.dumps(document)
    load(document)
    assert orjson.dumps(document) == before


HOSTILE = ["/etc/passwd", "../x", "a/../../x", "..", ".", "", "a//b", "a/", "./a", "a\0b"]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("where", ["destinationpath", "videofile", "artworkfile", "placed", "created_directories",
                                   "plan.files", "plan.artwork", "plan.directories", "plan.source"])  # fmt: skip
def test_a_stored_path_that_leads_elsewhere_is_refused(where: str, path: str) -> None:
    """Whoever can write a task file must not reach beyond our directories."""
    document = well()
    if where == "placed":
        document["placed"][0]["path"] = path
    elif where == "created_directories":
        document["created_directories"] = [path]
    elif where == "plan.directories":
        document["plan"]["directories"] = [path]
    elif where == "plan.source":
        document["plan"]["files"][0]["source"] = path
    elif where.startswith("plan."):
        document["plan"][where[5:]][0]["path"] = path
    else:
        document[where] = path
    if where == "plan.source" and path == "":
        load(document)  # the uploaded file itself
        return
    with pytest.raises(InvalidDocument):
        load(document)


# ── documents of MusicDB 7 ────────────────────────────────────────────────────────────────────────────────────


def musicdb(**changes: object) -> dict[str, Any]:
    return {**orjson.loads((GOLDEN / "task-schema-0.json").read_bytes()), **changes}


def test_what_musicdb_leaves_out_is_filled_in() -> None:
    task = load({"id": "one", "filesize": 5, "offset": 0, "contenttype": "artwork", "sourcefilename": "a.JPEG",
                 "state": "preprocessed"})  # fmt: skip
    assert (task.sourcechecksum, task.mimetype, task.annotations) == (None, "", {})
    assert task.destinationpath == "artwork-pending.jpeg"
    assert (task.revision, task.generation, task.foreign) == (1, 0, {})


def test_what_nobody_knows_of_a_document_of_musicdb_is_kept() -> None:
    task = load(musicdb(extra={"a": [1]}, videofile="/music/a.mp4"))
    assert task.foreign["extra"] == {"a": (1,)}
    assert task.foreign["videofile"] == "/music/a.mp4"
    assert task.videofile is None
    assert load(dump(task)) == task


@pytest.mark.parametrize("path", [*HOSTILE, 5, None, ["x"]])
@pytest.mark.parametrize("key", ["destinationpath", "videofile", "artworkfile"])
def test_paths_of_musicdb_are_not_believed(key: str, path: object) -> None:
    task = load(musicdb(**{key: path}))
    assert re.fullmatch(r"video-[0-9a-f]{40}\.mp4", task.destinationpath)
    assert task.videofile is None
    assert task.artworkfile is None


def test_two_tasks_of_musicdb_have_two_uids_and_always_the_same() -> None:
    assert load(musicdb()).uid == load(musicdb(offset=0)).uid
    assert load(musicdb()).uid != load(musicdb(id="other")).uid


@pytest.mark.parametrize(
    "changes",
    [{"state": "notexisting"}, {"state": None}, {"filesize": 0}, {"filesize": "5"}, {"offset": -1}, {"offset": None},
     {"contenttype": None}, {"contenttype": "../x"}, {"sourcechecksum": "xyz"}, {"sourcechecksum": 5},
     {"sourcefilename": 5}, {"annotations": [1]}, {"annotations": "x"}, {"mimetype": 5}, {"id": "../one"},
     {"annotations": {"a": [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}}, {"annotations": {"a": "x" * (1 << 20)}}],
)  # fmt: skip
def test_an_impossible_document_of_musicdb_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        load(musicdb(**changes))


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_frozen_all_the_way_down() -> None:
    given: dict[str, Any] = {"list": [1, {"deep": []}], "map": {"a": 1}}
    task = full_task(annotations=given, content=given, foreign=given)
    given["list"][1]["deep"].append("changed")
    given["new"] = 1
    for value in (task.annotations, task.content, task.foreign, load(dump(task)).annotations):
        assert value == {"list": (1, {"deep": ()}), "map": {"a": 1}}
        with pytest.raises(TypeError):
            value["new"] = 1  # type: ignore[index]  # that is the point
        inner: Any = value["list"]
        with pytest.raises(TypeError):
            inner[0] = 2
        with pytest.raises(TypeError):
            inner[1]["deep"] = 2
    assert task.plan is not None
    for frozen, name in ((task, "state"), (task.plan, "files"), (task.placed[0], "path"), (task.history[0], "time"),
                         (task.findings[0], "code"), (task.step, "token"), (task.plan.files[0], "path")):  # fmt: skip
        with pytest.raises((FrozenInstanceError, AttrsFrozenInstanceError)):
            setattr(frozen, name, None)
    with pytest.raises(TypeError):
        task.plan.entry["artist"] = "other"  # type: ignore[index]  # that is the point


def test_evolve_changes_what_it_is_told() -> None:
    task = full_task()
    changed = evolve(task, state=State.REMOVE, annotations={"a": [1]})
    assert changed.state is State.REMOVE
    assert changed.annotations == {"a": (1,)}
    assert evolve(changed, state=task.state, annotations=task.annotations) == task
    with pytest.raises(TypeError):
        evolve(task, nonsense=1)


@given(json_values())
@settings(max_examples=100, deadline=None)
def test_thawed_json_is_plain_and_ours(value: JSON) -> None:
    frozen = freeze(value)
    thawed = thaw(frozen)
    assert freeze(thawed) == frozen
    assert orjson.dumps(thawed) == orjson.dumps(thaw(value))


def test_open_questions_are_those_that_nobody_answered() -> None:
    findings = (Finding("a", "hold", "?"), Finding("b", "warn", "!"), Finding("c", "hold", "?"))
    task = upload_task(findings=findings)
    assert [f.code for f in task.open_questions] == ["a", "c"]
    assert [f.code for f in evolve(task, annotations={"answers.a": None}).open_questions] == ["c"]


def test_key_and_extension() -> None:
    task = upload_task(generation=3)
    assert task.key == f"{task.uid}.3"
    assert task.extension == "mp4"


def test_uids_are_never_the_same() -> None:
    uids = {new_uid() for _ in range(1000)}
    assert len(uids) == 1000
    assert all(re.fullmatch(r"[0-9a-f]{32}", uid) for uid in uids)


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_history_tells_what_happened_in_order() -> None:
    task = upload_task()
    for n, (trigger, source, dest) in enumerate(
        [("create", "a", "a"), ("complete", "a", "b"), ("preprocess", "b", "c"), ("retry", "c", "b")], 1
    ):
        task = evolve(task, history=task.happened(trigger, source, dest, float(n), f"because {n}"))
    assert [e.sequence for e in task.history] == [1, 2, 3, 4]
    assert task.history[-1] == Event(4, 4.0, "retry", "c", "b", "because 4")


def test_an_internal_event_that_repeats_takes_one_line() -> None:
    task = upload_task()
    for n in range(1000):
        task = evolve(task, history=task.happened("annotate", "a", "a", float(n)))
    assert task.history == (Event(1000, 999.0, "annotate", "a", "a"),)


@given(
    st.lists(
        st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"])), max_size=700
    )
)
@settings(max_examples=20, deadline=None)
def test_history_does_not_grow_without_bound(events: list[tuple[str, str, str]]) -> None:
    task = upload_task()
    task = evolve(task, history=task.happened("create", "a", "a", 0.0))
    for event in events:
        task = evolve(task, history=task.happened(*event, 1.0))
        assert len(task.history) <= 200
        sequences = [line.sequence for line in task.history]
        assert sequences == sorted(set(sequences))
        assert (task.history[-1].trigger, task.history[-1].source, task.history[-1].dest) == event
    assert task.history[0].trigger == "create" or not events


def test_of_a_long_history_the_internal_middle_goes_first() -> None:
    task = upload_task()
    task = evolve(task, history=task.happened("create", "a", "a", 0.0))
    for n in range(300):
        task = evolve(task, history=task.happened(f"note{n}", "a", "a", 1.0))
        if n % 3 == 0:
            task = evolve(task, history=task.happened("move", "a", "b", 1.0))
    assert task.history[0].trigger == "create"
    assert sum(e.trigger == "move" for e in task.history) == 100


# ── ids, checksums, sizes, names ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("good", ["a", "0", "A.b-c_d", "a..b", "x" * 128, "0a4d55a8d778e5022fab701977c5d840bbc486d0"])
def test_good_ids(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        "a/b",
        "../a",
        "a\\b",
        "a b",
        "a\n",
        "\n",
        "a\0",
        "ä",
        "x" * 129,
        "a\u202e",
        "\ud800",
    ],
)
def test_bad_ids(bad: str) -> None:
    with pytest.raises(Refused) as refused:
        check_id(bad)
    assert refused.value.code == "invalid_id"


@pytest.mark.parametrize("wrong", [None, 5, b"a", ["a"], True], ids=repr)
def test_ids_of_the_wrong_type(wrong: Any) -> None:
    with pytest.raises(TypeError):
        check_id(wrong)
    if wrong is not None:
        with pytest.raises(TypeError):
            check_checksum(wrong)


@pytest.mark.parametrize(
    ("checksum", "expected"), [("AB" * 20, "ab" * 20), ("ab" * 20, "ab" * 20), (None, None), ("0" * 40, "0" * 40)]
)
def test_good_checksums(checksum: str | None, expected: str | None) -> None:
    assert check_checksum(checksum) == expected


@pytest.mark.parametrize("bad", ["", "ab" * 19, "ab" * 21, "xy" * 20, "ab" * 20 + "\n", "../" + "a" * 37, "Ａ" * 40])
def test_bad_checksums(bad: str) -> None:
    with pytest.raises(Refused) as refused:
        check_checksum(bad)
    assert refused.value.code == "invalid_checksum"


@pytest.mark.parametrize(("size", "code"), [(0, "empty"), (-1, "empty"), (2**63, "invalid_filesize")])
def test_bad_sizes(size: int, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_size(size)
    assert refused.value.code == code


@pytest.mark.parametrize("wrong", [True, 1.0, "1", b"1"], ids=repr)
def test_sizes_of_the_wrong_type(wrong: Any) -> None:
    with pytest.raises(TypeError):
        check_size(wrong)
    assert check_size(None) is None
    assert check_size(2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.mp4", "mp4"), ("A.MP4", "mp4"), ("a.b.c.Jpeg", "jpeg"), ("dir.d/a", None), ("C:\\x.y\\clip.avi", "avi"),
     (".mp4", None), ("a.", None), ("a", None), ("", None), ("a.m p", None), ("a.ä", None), ("a.mp4/", None),
     ("a.toolongext", None), ("a.mp4\0", None), ("../../a.mp4", "mp4"), ("a.mp4\n", None)],
)  # fmt: skip
def test_extensions(name: str, extension: str | None) -> None:
    assert extension_of(name) == extension


# ── offers ────────────────────────────────────────────────────────────────────────────────────────────────────


def offer(**changes: Any) -> Offer:
    return Offer(**{"id": "one", "filename": "a.mp4", "contenttype": "video", **changes})


def test_an_offer_needs_little() -> None:
    assert (offer().filesize, offer().sha1, offer().annotations) == (None, None, {})
    assert offer(sha1="AB" * 20).sha1 == "ab" * 20


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"id": "../one"}, "invalid_id"), ({"filesize": 0}, "empty"), ({"filesize": -5}, "empty"),
     ({"filesize": 2**63}, "invalid_filesize"), ({"sha1": "xyz"}, "invalid_checksum"),
     ({"contenttype": "../x"}, "invalid_contenttype"), ({"contenttype": ""}, "invalid_contenttype"),
     ({"contenttype": "Video"}, "invalid_contenttype"), ({"contenttype": "x" * 33}, "invalid_contenttype"),
     ({"contenttype": "video\n"}, "invalid_contenttype"),
     ({"filename": "x" * 1025}, "invalid_filename"), ({"filename": "a\0.mp4"}, "invalid_filename"),
     ({"filename": "\ud800.mp4"}, "invalid_filename"), ({"mimetype": "\ud800"}, "invalid_mimetype"),
     ({"mimetype": "x" * 1025}, "invalid_mimetype"), ({"filename": "ä" * 513}, "invalid_filename")],
)  # fmt: skip
def test_what_may_not_be_offered(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        offer(**changes)
    assert refused.value.code == code
    assert refused.value.sentence.endswith(".")


@pytest.mark.parametrize(
    "changes",
    [{"id": 5}, {"filename": None}, {"filename": b"a"}, {"contenttype": 5}, {"mimetype": None}, {"filesize": "5"},
     {"filesize": True}, {"filesize": 5.0}, {"sha1": b"a"}, {"annotations": None}, {"annotations": [("a", 1)]}],
)  # fmt: skip
def test_what_has_the_wrong_type_is_no_offer(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        offer(**changes)


# ── annotations ───────────────────────────────────────────────────────────────────────────────────────────────


def check(value: Any, max_bytes: int = 1000, max_depth: int = 4) -> Mapping[str, JSON]:
    return check_annotations(value, max_bytes=max_bytes, max_depth=max_depth)


@given(json_objects())
@settings(max_examples=100, deadline=None)
def test_json_is_taken_as_it_is(value: Mapping[str, JSON]) -> None:
    checked = check(value, 1 << 20, 99)
    assert checked == freeze(value)
    assert type(checked) is MappingProxyType
    assert load(dump(upload_task(annotations=checked))).annotations == checked


@pytest.mark.parametrize(
    "value", [{"a": 2**63 - 1}, {"a": -(2**63)}, {"a": 1e308}, {"a": (1, 2)}, {"": ""}, {"a": MappingProxyType({})}]
)
def test_what_just_fits_is_taken(value: dict[str, JSON]) -> None:
    assert check(value) == freeze(value)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [{"a": math.nan}, {"a": math.inf}, {"a": [-math.inf]}, {"a": 2**63}, {"a": -(2**63) - 1}, {"a": "\ud800"},
     {"\ud800": 1}, {"a": {"\udfff": 1}}, {"a": {1: 2}}, {"a": b"x"}, {"a": {1}}, {"a": ...}, {"a": 1j},
     {"a": range(3)}, {"a": {None: 1}}],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_what_is_no_json_is_refused_as_annotation(value: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        check(value)
    assert refused.value.code == "annotations_invalid"


@pytest.mark.parametrize("value", [None, [], "x", 5, {1: 2}, {b"a": 1}, {None: 1}])
def test_annotations_are_a_mapping_with_text_for_keys(value: Any) -> None:
    with pytest.raises(TypeError):
        check(value)


def test_annotations_are_as_deep_as_allowed() -> None:
    assert check({"a": [[[]]]}, max_depth=4)
    value: dict[str, Any]
    for value in ({"a": [[[[]]]]}, {"a": {"b": {"c": {"d": {}}}}}):
        with pytest.raises(TooLarge) as refused:
            check(value, max_depth=4)
        assert refused.value.code == "annotations_too_deep"


def test_annotations_without_end_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    for value in ({"a": endless}, {"a": nested}):
        with pytest.raises(TooLarge) as refused:
            check(value)
        assert refused.value.code == "annotations_too_deep"
    while nested:  # or the interpreter runs out of stack when it frees them
        nested = nested[0]


def test_annotations_are_as_large_as_allowed() -> None:
    """In bytes of JSON, so that text that needs more room counts for more."""
    assert check({"a": "x" * 92}, max_bytes=100)
    too_large: list[dict[str, JSON]] = [{"a": "x" * 93}, {"a": "ä" * 47}, {"a": "\0" * 20}, {"a": [1] * 60}]
    for value in too_large:
        with pytest.raises(TooLarge) as refused:
            check(value, max_bytes=100)
        assert refused.value.code == "annotations_too_large"


def test_text_of_a_subclass_is_kept_as_text() -> None:
    task = upload_task(annotations=check({"a": Text("b")}))
    assert load(dump(task)).annotations == {"a": "b"}


@given(offers())
@settings(max_examples=80, deadline=None)
def test_an_offer_that_is_allowed_can_be_told_again(offer: Offer) -> None:
    assert (
        Offer(
            offer.id,
            filename=offer.filename,
            contenttype=offer.contenttype,
            filesize=offer.filesize,
            sha1=offer.sha1.upper() if offer.sha1 else None,
            mimetype=offer.mimetype,
            annotations=offer.annotations,
        )
        == offer
    )
