"""JSON for the frozen dataclasses of the loops: observations, decisions, plans and states.

``encode`` goes by the value, ``decode`` by the type it is asked for. Both are strict, because what
they carry is replayed and resumed: a number that is not finite, an unknown field or a wrong type
is refused by name instead of being guessed. What a type needs is worked out once and cached.

Supported: frozen dataclasses, ``float``, ``int``, ``bool``, ``str``, ``None``, ``Literal``, unions
of these, ``tuple[T, ...]``, ``tuple[A, B]``, ``Mapping[str, T]``, and ``object`` for JSON that is
kept as it is.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import (
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from daafl.errors import CodecError, DaaflError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What ``json.dumps(value, allow_nan=False)`` accepts."""

_PLAIN = frozenset({bool, int, str, type(None)})

T = TypeVar("T")
Place: TypeAlias = "tuple[Place | None, str | int]"
"""Where in a value a part is: the whole and the field or index; only an error spells it out."""
Decoder: TypeAlias = Callable[[object, Place], object]
Reader: TypeAlias = Callable[[Any], tuple[Any, ...]]
"""Takes a dataclass apart into its fields' values."""


def encode(value: Any) -> JSON:
    """Return plain JSON of `value`: dataclasses become objects, tuples become arrays.

    Numpy scalars become the Python numbers they stand for.

    Raises
    ------
    CodecError
        For a number that is not finite, a key that is not a string, or an unsupported type.

    Examples
    --------
    >>> from daafl.autonomy.plan import Change
    >>> encode(Change("lr", 0.1, 0.2))
    {'knob': 'lr', 'old': 0.1, 'new': 0.2}
    """
    kind = type(value)
    plain: JSON = value
    if kind in _PLAIN:
        return plain
    if kind is float:
        if not math.isfinite(value):
            raise CodecError(f"a number must be finite to be recorded, and {value} is not")
        return plain
    record = _record(kind)
    if record is not None:
        names, values_of = record
        return dict(zip(names, map(encode, values_of(value)), strict=True))
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): encode(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        return encode(value.item())
    raise CodecError(
        f"{kind.__name__} cannot be recorded: use frozen dataclasses, tuples, string-keyed "
        "mappings and numbers"
    )


def decode(kind: type[T], value: object) -> T:
    """Return the value of type `kind` whose JSON is `value`; a field left out takes its default.

    Raises
    ------
    CodecError
        When `value` does not describe a `kind`; the sentence names the place and the rule.

    Examples
    --------
    >>> from daafl.autonomy.plan import Change
    >>> decode(Change, {"knob": "lr", "old": 0.1, "new": 0.2})
    Change(knob='lr', old=0.1, new=0.2)
    """
    return cast(T, _decoder(kind)(value, (None, kind.__name__)))


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise CodecError(f"a mapping's keys must be strings to be recorded, and {key!r} is not")
    return key


def _record(kind: type) -> tuple[tuple[str, ...], Reader] | None:
    """Return a dataclass's field names and what reads them; ``None`` for any other type."""
    if kind not in _RECORDS:
        _RECORDS[kind] = None
        if dataclasses.is_dataclass(kind):
            names = tuple(field.name for field in dataclasses.fields(kind))
            _RECORDS[kind] = (names, _reader(names))
    return _RECORDS[kind]


def _reader(names: tuple[str, ...]) -> Reader:
    # With a single name, attrgetter gives the value itself and not a tuple of it.
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _decoder(annotation: object) -> Decoder:
    """Return the function that checks and rebuilds a value of the annotated type."""
    if annotation not in _DECODERS:
        _DECODERS[annotation] = _made(annotation)
    return _DECODERS[annotation]


def _made(annotation: object) -> Decoder:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(arguments[1])
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _dataclass(annotation)
    raise CodecError(f"{annotation} cannot be read from JSON: use the types codec.py lists")


def _wrong(where: Place, rule: str, value: object) -> CodecError:
    return CodecError(f"{_path(where)} must be {rule}, and {str(value)[:80]!r} is not")


def _path(where: Place) -> str:
    outer, name = where
    if outer is None:
        return str(name)
    return f"{_path(outer)}[{name}]" if isinstance(name, int) else f"{_path(outer)}.{name}"


def _float(value: object, where: Place) -> object:
    if type(value) is float and math.isfinite(value):
        return value
    # Above 2**63 a whole number measures nothing, and a very large one has no float at all.
    if type(value) is int and abs(value) < 2**63:
        return float(value)
    raise _wrong(where, "a finite number", value)


def _int(value: object, where: Place) -> object:
    if type(value) is not int:
        raise _wrong(where, "a whole number", value)
    return value


def _bool(value: object, where: Place) -> object:
    if type(value) is not bool:
        raise _wrong(where, "true or false", value)
    return value


def _str(value: object, where: Place) -> object:
    if type(value) is not str:
        raise _wrong(where, "a string", value)
    return value


def _none(value: object, where: Place) -> object:
    if value is not None:
        raise _wrong(where, "null", value)
    return None


def _anything(value: object, where: Place) -> object:
    return value


_RECORDS: dict[type, tuple[tuple[str, ...], Reader] | None] = {}
_DECODERS: dict[object, Decoder] = {
    float: _float,
    int: _int,
    bool: _bool,
    str: _str,
    type(None): _none,
    object: _anything,
}
_EXACT: dict[type, object] = {float: float, int: int, bool: bool, str: str, type(None): type(None)}


def _literal(choices: tuple[object, ...]) -> Decoder:
    def read(value: object, where: Place) -> object:
        for choice in choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise _wrong(where, f"one of {', '.join(map(repr, choices))}", value)

    return read


def _union(members: tuple[object, ...]) -> Decoder:
    """Take the member of exactly the value's type first, so that 1 and 1.0 and True stay apart."""
    decoders = {member: _decoder(member) for member in members}

    def read(value: object, where: Place) -> object:
        exact = decoders.get(_EXACT.get(type(value)))
        if exact is not None:
            return exact(value, where)
        for decoder in decoders.values():
            try:
                return decoder(value, where)
            except CodecError as error:
                last = error
        raise last

    return read


def _tuple(arguments: tuple[object, ...]) -> Decoder:
    if len(arguments) == 2 and arguments[1] is ...:
        item = _decoder(arguments[0])

        def read_all(value: object, where: Place) -> object:
            if not isinstance(value, list | tuple):
                raise _wrong(where, "an array", value)
            return tuple(item(part, (where, i)) for i, part in enumerate(value))

        return read_all
    items = tuple(_decoder(argument) for argument in arguments)

    def read_each(value: object, where: Place) -> object:
        if not isinstance(value, list | tuple) or len(value) != len(items):
            raise _wrong(where, f"an array of {len(items)}", value)
        pairs = zip(items, value, strict=True)
        return tuple(item(part, (where, i)) for i, (item, part) in enumerate(pairs))

    return read_each


def _mapping(argument: object) -> Decoder:
    item = _decoder(argument)

    def read(value: object, where: Place) -> object:
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        return {_key(key): item(part, (where, str(key))) for key, part in value.items()}

    return read


def _dataclass(kind: type) -> Decoder:
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    decoders = {field.name: _decoder(hints[field.name]) for field in fields}
    required = frozenset(
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )

    def read(value: object, where: Place) -> object:
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        if not value.keys() <= decoders.keys():
            unknown = sorted(str(key) for key in value.keys() - decoders.keys())
            raise CodecError(f"{_path(where)} has no field {', '.join(unknown)[:80]}")
        if not required <= value.keys():
            missing = sorted(required - value.keys())
            raise CodecError(f"{_path(where)} lacks the field {', '.join(missing)}")
        parts = {name: decoders[name](part, (where, name)) for name, part in value.items()}
        try:
            return kind(**parts)
        except (DaaflError, ValueError) as error:
            raise CodecError(f"{_path(where)} is refused: {error}") from error

    return read
