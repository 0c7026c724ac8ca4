"""Pages keep up with the code: settings, commands, links and the changelog's shape."""

from __future__ import annotations

import ast
import re
import signal

from supervisor.config.settings import SETTINGS
from supervisor.core.tailnet_states import STATES
from supervisor.system.signals import FOR_THE_APP
from supervisor.web.error_codes import Code
from supervisor.web.routes import ROUTES
from tests.conventions.tree import ROOT, modules, read, tracked

PAGES = tuple(path for path in tracked() if path.endswith(".md"))
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_every_setting_is_documented() -> None:
    """A setting, and every other name it has, is found on the settings' page."""
    page = read("docs/reference/settings.md")
    names = [name for setting in SETTINGS for name in (setting.name, *setting.aliases)]
    assert not [name for name in names if f"`{name}`" not in page]


def test_every_path_and_error_of_the_api_is_documented() -> None:
    """A route is found on the API's page with its method, an error with its status."""
    page = read("docs/reference/api.md")
    for route in ROUTES:
        # Paths that differ in their last word alone stand beside each other.
        base, _, last = route.path.rpartition("/")
        assert f"`{route.method} {route.path}`" in page or f"`…/{last}`" in page.partition(f"{base}/")[2], route.path
    assert not [code.name for code in Code if f"| {code.status} | `{code.name}` |" not in page]


def test_every_state_of_the_tailnet_is_documented() -> None:
    """A state that people may see is found with what to do about it."""
    page = read("docs/reference/tailnet.md")
    assert not [state for state in STATES if f"| `{state}` |" not in page]


def test_every_signal_and_every_record_of_the_main_job_is_documented() -> None:
    """What may be sent to it, and what it says of itself, can be looked up."""
    page = read("docs/reference/processes.md")
    named = {signal.Signals(number).name.removeprefix("SIG") for number in FOR_THE_APP if number < signal.SIGRTMIN}
    assert not [name for name in named if name not in page]
    page = read("docs/reference/logs.md")
    said = {
        str(call.args[1].value)
        for module in modules("supervisor")
        if module.name.rpartition(".")[2] in {"child", "engine", "main_loop", "probes", "run", "stop"}
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("log.record", "self._record"))
        if isinstance(call.args[1], ast.Constant)
    }
    assert len(said) > 15
    assert not [text for text in said if f"`{text}`" not in page]


def test_links_lead_somewhere() -> None:
    """A link to a file of the repository leads to one that is there."""
    links = [(page, target) for page in PAGES for target in LINK.findall(FENCE.sub("", read(page)))]
    inside = [(page, target) for page, target in links if "://" not in target]
    assert not [(page, target) for page, target in inside if not (ROOT / page).parent.joinpath(target).exists()]


def test_tasks_that_are_named_exist() -> None:
    """A make command on the front pages is one the Makefile knows."""
    tasks = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", read(page), re.MULTILINE))
        assert named
        assert named <= tasks


def test_help_lists_every_task() -> None:
    """Every task that people are to call says in the Makefile what it does."""
    public = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    assert {"install", "run", "test", "test-slow", "check", "format", "bench", "help"} <= public


def test_help_says_how_long_each_task_takes() -> None:
    """So that nobody has to find out."""
    told = re.findall(r"^[a-z-]+:.*## (.*)$", read("Makefile"), re.MULTILINE)
    assert not [text for text in told if not re.search(r" \| \S", text)]


def test_the_changelog_keeps_its_shape() -> None:
    """The changelog begins with what is unreleased; releases follow, newest first, with known kinds of changes."""
    text = read("CHANGELOG.md")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", release) for release in releases[1:]]
    assert None not in dated
    numbers = [tuple(map(int, found.groups())) for found in dated if found is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= KINDS
