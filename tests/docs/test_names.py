"""What pages and deploy files mention exists in the program: settings, commands and options, paths, buttons."""

from __future__ import annotations

import re

from supervisor.cli import COMMANDS
from supervisor.config.settings import SETTINGS
from supervisor.web.routes import ROUTES
from tests.conventions.tree import read, tracked

PAGES = tuple(path for path in tracked() if path.endswith(".md") and path != "CHANGELOG.md")
FILES = tuple(path for path in tracked() if path.startswith(("deploy/", ".do/", "scripts/", ".github/", "Dockerfile")))
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
PANEL = "supervisor/web/panel/"


def test_settings_exist() -> None:
    """Each name with our prefix is a setting; a prefix of several ends with an underscore."""
    known = {spelling for setting in SETTINGS for spelling in setting.spellings}
    named = {
        (path, name)
        for path in (*PAGES, *FILES)
        for name in re.findall(r"\bSUPERVISOR_[A-Z0-9_]+", read(path))
        if not name.endswith("_")
    }
    assert len(named) > 100
    assert not sorted((path, name) for path, name in named if name not in known)


def test_commands_and_their_options_exist() -> None:
    """A command on a page, alone or in a sentence, is valid for the program."""
    wrong, seen = [], 0
    for path in PAGES:
        code = "\n".join(CODE.findall(read(path))).replace("\\\n", " ")
        for line in re.findall(r"(?<!--entrypoint )moltis-supervisor ([a-z][^`\n|<>#;]*)", code):
            name, *words = re.sub(r"[\[\]]", " ", line).split()
            if name not in COMMANDS:
                wrong.append((path, line))
                continue
            known = {option.name for option in COMMANDS[name].options if not option.refused} | {"--help", "--", "-"}
            options = {word.partition("=")[0] for word in words if word.startswith("-")}
            if "--" not in words and options - known and not re.fullmatch(r"-[a-z]+\d*", "".join(options - known)):
                wrong.append((path, line))
            seen += 1
    assert seen > 50
    assert not wrong


def test_requests_exist() -> None:
    """Each method with a path is a route."""
    known = {(route.method, route.path) for route in ROUTES}
    named = {
        (path, method, request)
        for path in PAGES
        if not path.startswith("examples/")
        for method, request in re.findall(r"\b(GET|POST|DELETE) (/[a-z][\w/{}-]*)", read(path))
    }
    assert len(named) > 20
    assert not [one for one in named if one[1:] not in known]


def test_what_the_panels_page_names_is_in_the_panel() -> None:
    """Buttons, columns and sections have the same words in the panel."""
    panel = " ".join(" ".join(read(path) for path in tracked() if path.startswith(PANEL)).split())
    page = re.sub(r"^```.*?^```", "", read("docs/reference/panel.md"), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"(?<![\w*])\*([A-Z][^*\n]+)\*(?!\*)", page))
    assert len(named) > 20
    assert not [words for words in named if words not in panel]
