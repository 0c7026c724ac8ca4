"""Pages match the code: settings, the API, states, log records, links, tasks, and the form of the changelog."""

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
# Calls that write a record; its message is the second argument.
RECORDS = (".record", "._record", ".log_unredacted", "LogEntry", "tell")
# Records with a composed message.
MADE = (
    *("tailnet: …", "health is ", "SIGTERM changes nothing", "SIGHUP ignored"),
    *("leaving the tailnet failed", "the last snapshot failed", "closing the web server failed"),
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def test_every_setting_is_documented() -> None:
    """Each setting, and each of its aliases, is on the settings' page."""
    page = read("docs/reference/settings.md")
    names = [name for setting in SETTINGS for name in (setting.name, *setting.aliases)]
    assert not [name for name in names if f"`{name}`" not in page]


def test_every_path_and_error_of_the_api_is_documented() -> None:
    """Each route is on the API's page with its method, each error with its status."""
    page = read("docs/reference/api.md")
    for route in ROUTES:
        # Paths that differ only in their last segment are in one row.
        base, _, last = route.path.rpartition("/")
        assert f"`{route.method} {route.path}`" in page or f"`…/{last}`" in page.partition(f"{base}/")[2], route.path
    assert not [code.name for code in Code if f"| {code.status} | `{code.name}` |" not in page]


def test_every_state_of_the_tailnet_is_documented() -> None:
    """Each state that users may see is on the page, with what to do about it."""
    page = read("docs/reference/tailnet.md")
    whole = re.findall(r"^\| `(.+?)` \| \S.* \| \S.* \|$", page, re.MULTILINE)
    assert not [state for state in STATES if state not in whole]


def test_every_signal_is_documented() -> None:
    """Each signal that may be sent to the main job is on the page."""
    page = read("docs/reference/processes.md")
    named = {signal.Signals(number).name.removeprefix("SIG") for number in FOR_THE_APP if number < signal.SIGRTMIN}
    assert not [name for name in named if name not in page]


def test_every_record_is_documented() -> None:
    """Each message of the supervisor in the log is on the page, which lists no others."""
    page = read("docs/reference/logs.md")
    said, texts = set(), set()
    for node in (node for module in modules("supervisor") for node in ast.walk(module.tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(RECORDS) and len(node.args) > 1:
            event = node.args[1]
            ends = (event.body, event.orelse) if isinstance(event, ast.IfExp) else (event,)
            said |= {str(end.value) for end in ends if isinstance(end, ast.Constant)}
        texts |= {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
    assert len(said) > 60
    assert not [text for text in said if f"`{text}`" not in page]
    rows = re.findall(r"^\| (`.+?) \|", page.partition("## The supervisor's own records")[2], re.MULTILINE)
    listed = {text for row in rows for text in re.findall(r"`([^`]+)`", row)}
    assert not [text for text in listed - texts if not text.startswith(MADE)]


def test_links_lead_somewhere() -> None:
    """Links to files of the repository have existing targets."""
    links = [(page, target) for page in PAGES for target in LINK.findall(FENCE.sub("", read(page)))]
    inside = [(page, target) for page, target in links if "://" not in target]
    assert not [(page, target) for page, target in inside if not (ROOT / page).parent.joinpath(target).exists()]


def test_tasks_that_are_named_exist() -> None:
    """Each make command on the front pages is in the Makefile."""
    tasks = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", read(page), re.MULTILINE))
        assert named
        assert named <= tasks


def test_help_lists_every_task() -> None:
    """Each public task of the Makefile has a description."""
    public = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    assert {"install", "run", "test", "test-slow", "check", "format", "bench", "help"} <= public


def test_help_says_how_long_each_task_takes() -> None:
    """Each description ends with the duration, after a bar."""
    told = re.findall(r"^[a-z-]+:.*## (.*)$", read("Makefile"), re.MULTILINE)
    assert not [text for text in told if not re.search(r" \| \S", text)]


def test_the_changelog_keeps_its_shape() -> None:
    """The changelog starts with unreleased changes; releases follow, newest first, with known kinds of changes."""
    text = read("CHANGELOG.md")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d", release) for release in releases[1:]]
    assert None not in dated
    numbers = [tuple(map(int, found.groups())) for found in dated if found is not None]
    assert numbers == sorted(numbers, reverse=True)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= KINDS
