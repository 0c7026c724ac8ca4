"""typing.NamedTuple, created ten times as fast: dozens of classes are defined before the first child starts.

typing compiles each field's annotation, and collections compiles a constructor for each class; here one is compiled for
each number of fields, and then renamed for the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414 - re-exported for type checkers
else:
    from _collections import _tuplegetter
    from types import FunctionType

    _GLOBALS = {"tuple_new": tuple.__new__, "__builtins__": {}}
    _codes = {}

    class _TupleBase(tuple):
        """The methods of all named tuples."""

        __slots__ = ()

        @classmethod
        def _make(cls, values: Iterable[Any]) -> _TupleBase:
            record = tuple.__new__(cls, values)
            if len(record) != len(cls._fields):
                raise TypeError(f"expected {len(cls._fields)} arguments, got {len(record)}")
            return record

        def _replace(self, /, **changes: Any) -> _TupleBase:
            record = tuple.__new__(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise TypeError(f"got unexpected field names: {list(changes)}")
            return record

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            values = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    class _NamedTupleMeta(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            """Return a plain class of tuples, except for the base itself."""
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one that has one")
            code = _code(len(fields)).replace(co_varnames=("_cls", *fields))
            getters = {field: _tuplegetter(index, "") for index, field in enumerate(fields)}
            own = {
                "__slots__": (),
                "__new__": FunctionType(code, _GLOBALS, "__new__", tuple(defaults.values())),
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
            }
            return type(name, (_TupleBase,), namespace | getters | own)

    def _code(count: int) -> CodeType:
        """Return the code of a constructor with this number of fields."""
        if count not in _codes:
            names = "".join(f"a{index}, " for index in range(count))
            _codes[count] = eval(f"lambda _cls, {names}: tuple_new(_cls, ({names}))").__code__  # noqa: S307 - ours
        return _codes[count]

    class NamedTuple(metaclass=_NamedTupleMeta):
        """The base of a class of named tuples, like typing's."""
