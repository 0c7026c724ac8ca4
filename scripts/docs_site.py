"""Hooks for MkDocs: navigation from the index, files of the repository that pages link to, and versions.

Each version is a folder; versions side by side are listed in one menu.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
# The folder in the site for files from outside docs/.
OUTSIDE = "repository/"
INDEX = "docs/README.md"
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'>\s]+""")
_NUMBER = re.compile(r"\d+\.\d+\.\d+")
_log = logging.getLogger("mkdocs.hooks.docs_site")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build the navigation from the index: its headings are the sections, the links below them the pages."""
    nav: list[object] = ["README.md"]
    for section in re.split(r"^## ", (ROOT / INDEX).read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        pages = [{name: page} for name, page in re.findall(r"^\| \[([^\]]+)\]\(([^)]+\.md)\)", text, re.MULTILINE)]
        nav += [{title.strip(): pages}] if pages else []
    config.nav = nav
    config.not_in_nav = None
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that pages link to, and those that these link to."""
    left = [path_of(file.src_uri) for file in files if file.src_uri.endswith(".md")]
    seen = set(left)
    while left:
        page = left.pop()
        for target in sorted(_targets(page) - seen):
            seen.add(target)
            if (ROOT / target).is_file():
                left += [target] if target.endswith(".md") else []
                if not target.startswith(DOCS):
                    files.append(File.generated(config, OUTSIDE + target, abs_src_path=str(ROOT / target)))
    for file in files:
        if file.src_uri.startswith(OUTSIDE):
            file.inclusion = file.inclusion.NOT_IN_NAV
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Adapt links to the site's layout, and the edit link to the page's source."""
    source = page.file.src_uri
    page.edit_url = f"{config.extra['repository']}/edit/main/{path_of(source)}"
    here = posixpath.dirname(path_of(source))

    def moved(link: re.Match[str]) -> str:
        target = _file(posixpath.join(here, link[1]))
        inside = target.removeprefix(DOCS) if target.startswith(DOCS) else OUTSIDE + target
        return posixpath.relpath(inside, posixpath.dirname(source)) + (link[2] or "")

    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(moved, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(moved, markdown[end:])])


def on_post_build(config: MkDocsConfig) -> None:
    """Warn about pages that load something from elsewhere, which fails a strict build; list the versions."""
    _list_versions(Path(config.site_dir).parent)
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for found in _LOADED.findall(path.read_text()):
            _log.warning("%s loads something from elsewhere: %s", path.relative_to(config.site_dir), found)


def _list_versions(folder: Path) -> None:
    """Write the menu of versions, newest first, and redirect the folder itself to the newest."""
    found = [path.parent.name for path in folder.glob("*/index.html") if _NUMBER.fullmatch(path.parent.name)]
    if not found:
        return
    found.sort(key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    newest = {name: ["latest"] if name == found[0] else [] for name in found}
    listed = [{"version": name, "title": name, "aliases": aliases} for name, aliases in newest.items()]
    (folder / "versions.json").write_text(json.dumps(listed, indent=1) + "\n")
    (folder / "index.html").write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={found[0]}/">\n')


def path_of(uri: str) -> str:
    """Return the path in the repository of a file of the site."""
    return uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else DOCS + uri


def _targets(page: str) -> set[str]:
    text = _CODE.sub("", (ROOT / page).read_text())
    return {_file(posixpath.join(posixpath.dirname(page), link[1])) for link in _LINK.finditer(text)}


def _file(path: str) -> str:
    """Return a link's file; a link to a folder means its README."""
    path = posixpath.normpath(path)
    return f"{path}/README.md" if (ROOT / path).is_dir() else path
