"""The project's rules for code that the linter does not know."""

from __future__ import annotations

import ast
import tomllib

from tests.conventions.tree import Module, is_python, modules, read, tracked

MOST_LINES = 500
MOST_FUNCTION_LINES = 40
# Tables may be longer: their entries are independent of each other.
TABLES = frozenset({"supervisor/config/settings.py", "supervisor/telemetry/metrics.py"})
# Where the value of a secret is revealed, by module and function: the places to check if one has leaked.
REVEALED_IN = frozenset(
    {
        "supervisor.commands.check:check",  # to mask it in the output
        "supervisor.commands.run:_log",  # to mask it in the log
        "supervisor.client.commands:connect",  # to send it to the supervisor for a login
        # To pass it to restic only, to sign a request to the bucket, and to seal the object.
        "supervisor.backup.threads:SecretReader.text",
        "supervisor.config.backup_plan:_check_identity",  # whether a key is for ephemeral devices
        "supervisor.config.plan:_password",  # to pass Moltis' password to the app, whose it is
        "supervisor.config.load:_check_alerts",  # whether it is a permitted URL
        "supervisor.incidents.alert_formats:_signature",  # to sign an alert
        "supervisor.incidents.alerts:AlertSender._try",  # to send an alert to it
        "supervisor.config.build:_check_token",  # its length
        "supervisor.config.tailscale_env:_revealed",  # whether it is an OAuth client's, and well-formed
        "supervisor.tailnet.executor:Executor._log_in",  # to pass the key to tailscaled in a request's body
        "supervisor.tailnet.oauth_client:Keys.usable",  # to mask it in the log, and whether it is an OAuth client's
        "supervisor.tailnet.oauth_client:fingerprint",  # to distinguish keys
        "supervisor.tailnet.log:StateLogger.tell_url",  # to show the login URL in the container's log only
        "supervisor.tailnet.oauth_client:OAuthClient.known_key",
        "supervisor.tailnet.oauth_client:OAuthClient._authorized",  # to send it to Tailscale's API
        "supervisor.tailnet.oauth_client:OAuthClient._prepared",  # its parts, and to mask it in the log
        "supervisor.doctor.facts:credentials",  # whether it is an OAuth client's
        "supervisor.doctor.subject:of_settings",  # to mask it in the report
        "supervisor.web.sessions:Keyring._compare",  # whether it has changed, and to mask it in the log
        "supervisor.web.sessions:SignInCodes.link",  # to send it to a client of the control socket
        "supervisor.web.sessions:SignInCodes.print_code",  # to show it in the container's log only
        "supervisor.web.handlers:new_code",  # to send it to a client of the control socket
        "supervisor.web.handlers_tailnet:_auth_url",  # to send it to a signed-in client, to log the device in
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> list[Function]:
    """Return all functions of a module, including methods and nested ones."""
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Return the number of lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def uses(module: Module, name: str) -> set[str]:
    """Return the functions, by their dotted names, that use this name."""
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
    """Return the functions of the whole package that use this name."""
    return set[str]().union(*(uses(module, name) for module in modules("supervisor")))


def test_a_file_can_be_read_in_one_go() -> None:
    """No file is too long to be read in one go."""
    lines = {module.path: len(module.text.splitlines()) for module in modules()}
    assert not {path: count for path, count in lines.items() if count > MOST_LINES and path not in TABLES}


def test_a_function_fits_on_a_screen() -> None:
    """The body of a function is no longer than a screen."""
    found = [(module.path, node.name, body_lines(node)) for module in modules() for node in functions(module)]
    assert not [each for each in found if each[2] > MOST_FUNCTION_LINES]


def test_nothing_is_raised_in_an_except_star() -> None:
    """Python before 3.11.4, as in Debian 12, wraps it in a group, which nothing catches."""
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
    """The supervisor writes to its log or to a command's stream, which handle pipes and mask secrets."""
    assert not used_in_package("print")


def test_secrets_are_revealed_in_listed_places_only() -> None:
    """A new place that reveals a secret must be added to the list above, and one that is gone removed from it."""
    assert used_in_package("reveal") == REVEALED_IN


def test_what_is_linted_before_a_commit_is_linted_by_make_check() -> None:
    """Pre-commit also detects Python by the first line, ruff only by the name, so the other files must be listed."""
    named = tomllib.loads(read("pyproject.toml"))["tool"]["ruff"]["extend-include"]
    assert {path for path in tracked() if is_python(path) and not path.endswith(".py")} == set(named)
