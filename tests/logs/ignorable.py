"""Unicode's characters that nobody sees, from its own data rather than the supervisor's list."""

from __future__ import annotations

# Default_Ignorable_Code_Point in DerivedCoreProperties.txt of Unicode 17.0.0, unchanged since 14.0.0.
_DATA = """
00AD 034F 061C 115F..1160 17B4..17B5 180B..180D 180E 180F 200B..200F 202A..202E 2060..2064 2065 2066..206F 3164
FE00..FE0F FEFF FFA0 FFF0..FFF8 1BCA0..1BCA3 1D173..1D17A
E0000 E0001 E0002..E001F E0020..E007F E0080..E00FF E0100..E01EF E01F0..E0FFF
"""
# The file's own count.
_TOTAL = 4174


def _code_points() -> frozenset[int]:
    found: set[int] = set()
    for entry in _DATA.split():
        first, _, last = entry.partition("..")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    if len(found) != _TOTAL:
        raise ValueError(f"cannot use the list: it has {len(found)} of {_TOTAL} characters; copy it again")
    return frozenset(found)


IGNORABLE = _code_points()
# Emoji need these.
SELECTORS = frozenset(range(0xFE00, 0xFE10))
