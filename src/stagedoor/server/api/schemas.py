"""JSON schemas of our values, made from their classes, and the values as plain JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import attrs

__all__ = ["Schemas", "plain", "sentences"]

_SIMPLE: Final[Mapping[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
}


def plain(value: Any) -> Any:
    """A value of ours as plain JSON: frozen classes become objects, tuples lists, enums their words."""
    if isinstance(value, Enum):
        return value.value
    if attrs.has(type(value)):
        return {a.name: plain(getattr(value, a.name)) for a in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def sentences(cls: type) -> tuple[str, Mapping[str, str]]:
    """The first paragraph of a class's docstring, and what it says of each attribute."""
    text = re.sub(r"``([^`]*)``|`([^`]*)`", lambda m: m[1] or m[2] or "", cls.__doc__ or "")
    head = " ".join(text.partition("\n\n")[0].split())
    _, _, attributes = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    indent = 0
    for line in attributes.splitlines():
        begin = re.match(r"( +)(\w+): (.*)", line)
        if begin and (not indent or len(begin[1]) == indent):
            indent, name = len(begin[1]), begin[2]
            found[name] = begin[3].strip()
        elif name and line.strip() and len(line) - len(line.lstrip()) > indent:
            found[name] += " " + line.strip()
        elif line.strip():
            break
    return head, found


class Schemas:
    """Schemas of classes by name, as far as they were asked for, and of those that they are made of."""

    def __init__(self, prefix: str = "#/components/schemas/") -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._prefix = prefix

    def of(
        self,
        cls: type,
        *,
        name: str | None = None,
        without: Collection[str] = (),
        more: Mapping[str, Mapping[str, Any]] | None = None,
        optional: bool = False,
    ) -> dict[str, Any]:
        """A reference to the schema of an attrs class.

        Args:
            cls: The class.
            name: In the document; the class's own when not given.
            without: Attributes that are not shown.
            more: Members that are shown beside the attributes.
            optional: Whether members with a default may be left out.
        """
        name = name or cls.__name__
        if name not in self.found:
            self.found[name] = {}  # a class may be made of itself
            doc, said = sentences(cls)
            hints = get_type_hints(cls)
            members: dict[str, Any] = {key: dict(value) for key, value in (more or {}).items()}
            required = list(members)
            for attribute in attrs.fields(cls):
                if attribute.name in without:
                    continue
                schema = self.of_type(hints[attribute.name])
                if attribute.name in said:
                    schema = {**schema, "description": said[attribute.name]}
                members[attribute.name] = schema
                if not optional or attribute.default is attrs.NOTHING:
                    required.append(attribute.name)
            self.found[name] |= {
                "type": "object",
                "description": doc,
                "properties": members,
                "required": required,
                "additionalProperties": False,
            }
            if not required:
                del self.found[name]["required"]
        return {"$ref": self._prefix + name}

    def of_type(self, kind: Any) -> dict[str, Any]:
        """The schema of a type as it is annotated."""
        if kind in _SIMPLE:
            return {"type": _SIMPLE[kind]}
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin in (Union, UnionType):
            return self._one_of(arguments)
        if origin is tuple or (isinstance(origin, type) and issubclass(origin, Sequence)):
            return {"type": "array", "items": self.of_type(arguments[0])}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            values = self.of_type(arguments[1])
            return {"type": "object", **({"additionalProperties": values} if values else {})}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"type": "string", "enum": [member.value for member in kind]}
        if isinstance(kind, type) and attrs.has(kind):
            return self.of(kind)
        return {}  # any JSON

    def _one_of(self, kinds: Sequence[Any]) -> dict[str, Any]:
        schemas = [self.of_type(kind) for kind in kinds]
        if not all(schemas) or len(schemas) > 3:
            return {}  # any JSON
        if all(set(schema) == {"type"} for schema in schemas):
            return {"type": [schema["type"] for schema in schemas]}
        return {"anyOf": schemas}
