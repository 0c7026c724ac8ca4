"""Checks that tailscaled's source has everything that the program relies on: `scripts/check-tailscale [VERSION …]`.

Without a version it checks the pinned one and those checked before; ``latest`` is the newest one, and
``--newest`` prints its number. The source comes from Go's module
proxy and stays in Go's cache; nothing is built, so a version may need a newer Go than there is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from scripts.tailscaled_texts import OF_CONTROL, OF_GO, PIECES, Form, Relied, relied
from supervisor.tailnet.localapi import WATCH_MASK
from supervisor.tailnet.versions import LOOKED_UP, TESTED

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = "tailscale.com"
_SKIPPED = re.compile(r"_test\.go$|(?:^|/)testdata/|^tstest/|^cmd/(?!tailscaled/|tailscale/)")
_STRING = re.compile(
    r"""//[^\n]*|/\*.*?\*/|`(?P<raw>[^`]*)`|"(?P<quoted>(?:[^"\\\n]|\\.)*)"|'(?:[^'\\\n]|\\.)+'""", re.DOTALL
)
_BIT = re.compile(r"^\s*(\w+)\s+NotifyWatchOpt = 1 << (\d+)", re.MULTILINE)
# Precedes the text of a line that is only logged on request.
_VERBOSITY = re.compile(r"^\[v\d\] ?")


class Source:
    """The Go files of one version, without tests. Raises OSError or ValueError if they are not available."""

    def __init__(self, archive: str) -> None:
        self._texts: dict[str, str] = {}
        self._strings: dict[str, tuple[str, ...]] = {}
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                path = name.partition("/")[2]
                if path.endswith(".go") and not _SKIPPED.search(path):
                    self._texts[path] = files.read(name).decode()
                    self._strings[path] = tuple(_strings(self._texts[path]))

    def has(self, row: Relied) -> bool:
        """Return whether a text occurs, as a whole or in the parts that it is composed of."""
        if row.text in PIECES:
            return all(self._has(piece) for piece in PIECES[row.text])
        if self._has(row):
            return True
        # Most lines get their prefix from the creator of their logger.
        part, colon, rest = row.text.partition(": ")
        named = row._replace(text=f"{part}{colon}")
        return bool(colon and rest) and self._has(named) and self._has(row._replace(text=rest, form=Form.BEGINS))

    def _has(self, row: Relied) -> bool:
        if row.form is Form.NAME:
            name = re.compile(rf"\b{re.escape(row.text)}\b")
            return any(name.search(text) for path, text in self._texts.items() if path.startswith(row.files))
        strings = (text for path, found in self._strings.items() if path.startswith(row.files) for text in found)
        if row.form is Form.WITHIN:
            return any(row.text in text for text in strings)
        whole = re.compile(re.escape(row.text) + r"(?![\w-])" if row.text[-1].isalnum() else re.escape(row.text))
        return any(whole.match(_VERBOSITY.sub("", text)) for text in strings)

    def refused_bits(self) -> list[str]:
        """Return the bits of our mask for the bus that this version does not know, or calls obsolete."""
        names = {1 << int(shift): name for name, shift in _BIT.findall(self._texts.get("ipn/backend.go", ""))}
        asked = [1 << place for place in range(WATCH_MASK.bit_length()) if WATCH_MASK >> place & 1]
        return [f"{bit} ({names.get(bit, 'unknown')})" for bit in asked if names.get(bit, "Obsolete")[:8] == "Obsolete"]


def _strings(text: str) -> Iterator[str]:
    for found in _STRING.finditer(text):
        if found["raw"] is not None:
            yield found["raw"]
        elif found["quoted"] is not None:
            yield re.sub(r'\\(["\\])', r"\1", found["quoted"])


def fetch(version: str) -> str:
    """Return the path of the module's archive in Go's cache. Raises ValueError if it is not available."""
    # It fails if the version needs a newer Go, but downloads the archive nevertheless.
    return _told_by_go(f"the source of {version}", "Zip", "go", "mod", "download", "-json", f"{MODULE}@v{version}")


def newest() -> str:
    """Return the newest version. Raises ValueError if that cannot be determined."""
    told = _told_by_go("the newest version", "Version", "go", "list", "-m", "-json", f"{MODULE}@latest")
    return told.removeprefix("v")


def _told_by_go(what: str, name: str, *words: str) -> str:
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/") as go:
            said, complaint = go.communicate()
    except OSError as error:
        raise ValueError(f"cannot run go: {error.strerror}; install Go") from error
    try:
        told = json.loads(said)
    except ValueError:
        told = {}
    if name not in told:
        raise ValueError(f"cannot get {what}: {told.get('Error') or complaint.strip()}")
    return str(told[name])


def missing(source: Source) -> list[str]:
    """Return everything that the program relies on and this source lacks, as text."""
    rows = [row for row in relied() if row.text not in OF_GO | OF_CONTROL and not source.has(row)]
    told = [f"{row.text!r}: {row.purpose}" for row in rows]
    return told + [f"{bit}: a bit of the mask for the notification bus" for bit in source.refused_bits()]


def main(versions: list[str]) -> int:
    """Return 0 if everything was found, 1 if something is missing, 2 if the source is not available."""
    try:
        if versions == ["--newest"]:
            print(newest())
            return 0
        found = [_look_up(version) for version in versions or [TESTED, *LOOKED_UP]]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"check-tailscale: {error}\n")
        return 2
    return int(any(found))


def _look_up(version: str) -> int:
    """Print what one version lacks, and return the number of missing texts."""
    version = newest() if version == "latest" else version.removeprefix("v")
    found = missing(Source(fetch(version)))
    looked = sum(row.text not in OF_GO | OF_CONTROL for row in relied())
    print(f"tailscaled {version}: {looked} texts looked up, {len(found) or 'none'} missing")
    for text in found:
        print(f"  {text}")
    return len(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
