"""Prints the hosts that Moltis' configuration names, and whether it has local models; run as the app's user.

    python -I -m supervisor.doctor.app_config FOLDER

The output is one JSON object: ``hosts`` by provider, ``local_models``, ``missing`` if there is no file, and ``why_not``
if it cannot be read.
It contains no keys of providers.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from typing import Any
from urllib.parse import urlsplit

from supervisor.moltis import CONFIG_FILE, LOCAL_MODELS_FILE, LOCAL_PROVIDERS, PROVIDER_HOSTS, PROVIDER_KEYS_FILE

_MOST_BYTES = 1024 * 1024


def main(folder: str) -> int:
    """Print the JSON object; return 0."""
    told = json.dumps(look(folder), ensure_ascii=False)
    # JSON may contain lone surrogates, which cannot be encoded.
    sys.stdout.buffer.write(told.encode(errors="replace") + b"\n")
    return 0


def look(folder: str) -> dict[str, Any]:
    """Return what the configuration in this folder names."""
    try:
        config = tomllib.loads(_read(os.path.join(folder, CONFIG_FILE)))
        missing = False
    except FileNotFoundError:
        config, missing = {}, True
    except (OSError, ValueError, RecursionError) as error:
        return {"why_not": f"cannot read {CONFIG_FILE}: {getattr(error, 'strerror', None) or error}"}
    named = _table(config, "providers")
    offered = named.get("offered")
    keys = _json(os.path.join(folder, PROVIDER_KEYS_FILE))
    hosts: dict[str, str] = {}
    for name in dict.fromkeys([*named, *keys]):
        table = named.get(name, {})
        is_offered = not isinstance(offered, list) or not offered or name in offered or name.startswith("custom-")
        if isinstance(table, dict) and table.get("enabled", True) and is_offered:
            host = _host(table.get("base_url") or table.get("url") or _table(keys, name).get("baseUrl"))
            hosts[name] = host or PROVIDER_HOSTS.get(name, "")
    models = _json(os.path.join(folder, LOCAL_MODELS_FILE)).get("models")
    local = any(_table(named, name).get("models") for name in LOCAL_PROVIDERS if name in hosts)
    memory = _table(config, "memory").get("provider") in LOCAL_PROVIDERS
    return {
        "hosts": {name: host for name, host in hosts.items() if host},
        "local_models": bool(models or local or memory),
        "missing": missing,
    }


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(_MOST_BYTES + 1) or b""
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    return data.decode()


def _json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_read(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(table: dict[str, Any], name: str) -> dict[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _host(url: object) -> str:
    try:
        return urlsplit(url).hostname or "" if isinstance(url, str) else ""
    except ValueError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
