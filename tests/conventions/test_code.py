"""The house rules for code that the linter does not know."""

from __future__ import annotations

import ast
import tomllib

from tests.conventions.tree import Module, is_python, modules, read, tracked

MOST_LINES = 500
MOST_FUNCTION_LINES = 40
# Tables may be longer: one entry follows the other, and there is nothing to follow across them.
TABLES = frozenset({"supervisor/config/settings.py", "supervisor/telemetry/metrics.py"})
# Where a secret's value is taken out, by module and function. Each is a place to look at when one has leaked.
REVEALED_IN = frozenset(
    {
        "supervisor.commands.check:check",  # what its output is to mask
        "supervisor.commands.run:_log",  # what the log is to mask
        "supervisor.client.commands:connect",  # what the supervisor is to log in with
        "supervisor.backup.objects:readable",  # what signs a request to the bucket, and seals the object
        "supervisor.backup.restic:Restic._secrets",  # what restic alone gets
        "supervisor.config.backup_plan:_check_identity",  # whether a key is for devices that do not stay
        "supervisor.config.plan:_password",  # Moltis' password, which is the app's own
        "supervisor.config.load:_check_alerts",  # whether it is a URL that may be used
        "supervisor.incidents.alert_formats:_signature",  # what signs an alert
        "supervisor.incidents.alerts:AlertSender._try",  # where an alert is sent to
        "supervisor.config.build:_check_token",  # how long it is
        "supervisor.config.tailscale_env:_revealed",  # whether it is an OAuth client's, and well written
        "supervisor.tailnet.executor:Executor._log_in",  # the key that tailscaled takes in a request's body
        "supervisor.tailnet.oauth_client:Keys.usable",  # what the log is to mask, and whether it is an OAuth client's
        "supervisor.tailnet.oauth_client:fingerprint",  # what tells one key from another
        "supervisor.tailnet.log:StateLogger.tell_url",  # the login URL that only the container's log shows
        "supervisor.tailnet.oauth_client:OAuthClient.known_key",
        "supervisor.tailnet.oauth_client:OAuthClient._authorized",  # what Tailscale's API takes
        "supervisor.tailnet.oauth_client:OAuthClient._prepared",  # what it consists of, and what the log is to mask
        "supervisor.doctor.facts:credentials",  # whether it is an OAuth client's
        "supervisor.doctor.subject:of_settings",  # what the report is to mask
        "supervisor.web.sessions:Keyring._compare",  # whether it has changed, and what the log is to mask
        "supervisor.web.sessions:SignInCodes.link",  # what whoever asks over the control socket gets
        "supervisor.web.sessions:SignInCodes.print_code",  # what only the container's log shows
        "supervisor.web.handlers:new_code",  # what whoever asks over the control socket gets
        "supervisor.web.handlers_tailnet:_auth_url",  # what whoever is signed in gets, to log the device in
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> list[Function]:
    """Return every function of a module, methods and inner ones too."""
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Return how many lines a function's body has, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def uses(module: Module, name: str) -> set[str]:
    """Return the functions, by their dotted names, in which something of this name is used."""
    found: set[str] = set()

    def visit(node: ast.AST, where: str) -> None:
        if isinstance(node, Function | ast.ClassDef):
            where = f"{where}.{node.name}" if where else node.name
        if name in {getattr(node, "id", None), getattr(node, "attr", None)}:
            found.add(f"{module.name}:{where}")
        for child in ast.iter_child_nodes(node):
            visit(child, where)

    visit(module.tree, "")
    return found


def used_in_package(name: str) -> set[str]:
    """Return the functions of the whole package in which something of this name is used."""
    return set[str]().union(*(uses(module, name) for module in modules("supervisor")))


def test_a_file_can_be_read_in_one_go() -> None:
    """No file is longer than what a person reads at once."""
    lines = {module.path: len(module.text.splitlines()) for module in modules()}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES and path not in TABLES}


def test_a_function_fits_on_a_screen() -> None:
    """No function's body is longer than a screen."""
    found = [(module.path, node.name, body_lines(node)) for module in modules() for node in functions(module)]
    assert not [each for each in found if each[2] > MOST_FUNCTION_LINES]


def test_nothing_is_raised_in_an_except_star() -> None:
    """Python before 3.11.4, as in Debian 12, wraps it in a group, which nobody catches."""
    found = [
        (module.path, raised.lineno)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.TryStar)
        for handler in node.handlers
        for raised in ast.walk(handler)
        if isinstance(raised, ast.Raise)
    ]
    assert found == []


def test_nothing_is_printed() -> None:
    """What the supervisor says goes through its log or a command's own stream, which know about pipes and masks."""
    assert not used_in_package("print")


def test_secrets_are_revealed_in_listed_places_only() -> None:
    """A new place where a secret's value is taken out has to be put on the list above, one that is gone off it."""
    assert used_in_package("reveal") == REVEALED_IN


def test_what_is_linted_before_a_commit_is_linted_by_make_check() -> None:
    """Pre-commit finds Python by its first line too, ruff by its name alone, so that the rest has to be named."""
    named = tomllib.loads(read("pyproject.toml"))["tool"]["ruff"]["extend-include"]
    assert {path for path in tracked() if is_python(path) and not path.endswith(".py")} == set(named)
