"""A value that must not be shown."""

from __future__ import annotations

from typing import NoReturn

REDACTED = "[redacted]"


class Secret:
    """Text that is not revealed by repr, str, format, JSON encoders, pickle or comparison.

    ``reveal`` is the only access to the value; tests/conventions lists the places that may call it.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the value."""
        return self.__value

    def matches(self, candidate: str) -> bool:
        """Return whether ``candidate`` equals the value, in constant time."""
        # Imported here: it loads OpenSSL, which no start has to wait for.
        import hmac

        # Both may contain bytes that are not UTF-8, from the environment or a header.
        mine, theirs = (text.encode(errors="surrogatepass") for text in (self.__value, candidate))
        return hmac.compare_digest(mine, theirs)

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("cannot pickle or copy a secret")
