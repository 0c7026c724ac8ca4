"""The first child starts before anything costly is loaded: counted in modules, as times vary."""

from __future__ import annotations

import ast
import http.client
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conventions.tree import ROOT, modules
from tests.process.running import running

# Each of these would delay the app's start by milliseconds; they are loaded after it.
LATE = frozenset(
    [
        "aiohttp",
        "anyio",
        "argparse",
        "asyncio",
        "concurrent",
        "dataclasses",
        "email",
        "hashlib",
        "hmac",
        "http",
        "importlib.metadata",
        "inspect",
        "json",
        "logging",
        "msgspec",
        "multiprocessing",
        "pathlib",
        "prometheus_client",
        "ssl",
        "structlog",
        "tempfile",
        "tenacity",
        "tomllib",
        "traceback",
        "urllib.request",
    ]
)
MOST_MODULES = 105


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The modules loaded by a plain run when it starts its first child."""
    folder: Path = tmp_path_factory.mktemp("first-spawn")
    report = folder / "modules"
    driver = str(ROOT / "tests" / "conventions" / "first_spawn.py")
    ended = subprocess.run(
        [sys.executable, "-I", driver, str(report), "run", "--", "/bin/true"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PORT": "0",
            "SUPERVISOR_RUN_DIR": str(folder / "run"),
            "SUPERVISOR_TAILSCALE": "off",
        },
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert report.exists(), f"the supervisor started no child: {ended.stdout}{ended.stderr}"
    return frozenset(report.read_text().split("\n"))


def test_nothing_heavy_is_loaded_before_the_first_child(loaded: frozenset[str]) -> None:
    """No event loop, no library and no costly part of the standard library delays the first child."""
    assert not LATE & loaded


def test_few_modules_are_loaded_before_the_first_child(loaded: frozenset[str]) -> None:
    """The total is limited; a further module must be worth it."""
    assert len(loaded) <= MOST_MODULES, sorted(loaded)


def test_no_costly_class_is_made_before_the_first_child(loaded: frozenset[str]) -> None:
    """A NamedTuple of typing takes ten times as long to create as one of ours, and there are dozens of them."""
    ours = [module for module in modules("supervisor") if module.name in loaded - {"supervisor.namedtuples"}]
    wrong = [module.path for module in ours if any(map(_is_typings, ast.walk(module.tree)))]
    assert not wrong, "import NamedTuple from supervisor.namedtuples there"


def _is_typings(node: ast.AST) -> bool:
    """Return whether this imports typing's NamedTuple."""
    if not isinstance(node, ast.ImportFrom) or node.module != "typing":
        return False
    return any(alias.name == "NamedTuple" for alias in node.names)


def test_nothing_of_backups_is_loaded_where_there_are_none(loaded: frozenset[str]) -> None:
    """While off, they cost nothing: only the store's view of them is loaded."""
    assert {name for name in loaded if "backup" in name} == {"supervisor.core.backup"}


def test_the_api_is_loaded_when_it_is_first_asked_for() -> None:
    """Health needs no aiohttp, whose compiled parts appear among the mapped files of a process."""
    token = "an-admin-token-of-good-length"
    with running("sleep", "300", env={"SUPERVISOR_TOKEN": token}) as run:
        port = run.wait_for("starting")["listen"].rpartition(":")[2]

        def get(path: str, **headers: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
            connection.request("GET", path, headers=headers)
            status = connection.getresponse().status
            connection.close()
            return status

        def loads(name: str) -> bool:
            return name in Path(f"/proc/{run.pid}/maps").read_text()

        for path in ("/healthz", "/readyz", "/health") * 3:
            assert get(path) == 200
        assert loads("msgspec")
        assert not loads("aiohttp")
        # It takes a megabyte, including what it loads itself.
        assert not loads("_hashlib")
        assert get("/api/processes", Authorization=f"Bearer {token}") == 200
        assert loads("aiohttp")
        assert get("/health") == 200


def _printed(code: str) -> str:
    """Run code in an interpreter of its own, in which nothing is loaded yet, and return what it prints."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_api_needs_no_http_client() -> None:
    """aiohttp's client takes 4 MB; a later import still gets all of it."""
    code = (
        "import sys\n"
        "from supervisor.web.server import API, load_without_client\n"
        "load_without_client()\n"
        "__import__(API)\n"
        "print('aiohttp.web' in sys.modules, 'aiohttp.client' in sys.modules)\n"
        "import aiohttp\n"
        "print(aiohttp.ClientSession.__name__, aiohttp.web.__name__, bool(aiohttp.__version__))\n"
    )
    assert _printed(code) == "True False\nClientSession aiohttp.web True\n"


def test_a_login_needs_no_hashes() -> None:
    """Keys are told apart without them: libcrypto's take 2 MB in the image."""
    code = (
        "import sys\n"
        "from supervisor.secret import Secret\n"
        "from supervisor.tailnet import tailnet_service\n"
        "one, same, other = map(tailnet_service.fingerprint, map(Secret, ('key', 'key', 'another')))\n"
        "print(one == same, one == other, '_hashlib' in sys.modules)\n"
    )
    assert _printed(code) == "True False False\n"


def test_no_library_brings_that_of_c_plus_plus() -> None:
    """The compiled frozenlist takes 1.6 MB with it, and aiohttp's server and client use it for a few short lists."""
    code = (
        "import sys, supervisor, aiohttp.web\n"
        "maps = open('/proc/self/maps').read()\n"
        "print('frozenlist' in sys.modules, 'frozenlist/' in maps, 'libstdc++' in maps)\n"
    )
    assert _printed(code) == "True False False\n"


@pytest.mark.parametrize("found", ["'aiohttp'", "'sys'"], ids=["its source", "its folder"])
def test_the_api_is_loaded_whole_where_the_source_cannot_be_opened(found: str) -> None:
    """No descriptor is free at that moment, for the source file or for listing its folder."""
    code = (
        "import importlib.util, resource, sys\n"
        "from supervisor.web.server import API, load_without_client\n"
        f"importlib.util.find_spec({found})\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "load_without_client()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "__import__(API)\n"
        "print('aiohttp.web' in sys.modules, 'aiohttp.client' in sys.modules)\n"
    )
    assert _printed(code) == "True True\n"
