"""Writes the schemas of docs/reference/openapi.json from the structs of requests and answers.

`python -m scripts.openapi_document FILE` updates it in place. Paths and descriptions are kept from the document, and
so are the schemas that structs cannot express: signing in takes one of two fields, RPC has two forms of answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from supervisor.web import handlers, handlers_tailnet, requests, schemas, schemas_incidents

REQUESTS = (
    requests.Empty,
    handlers.ProcessOrderRequest,
    handlers.RestoreRequest,
    handlers_tailnet.ConnectRequest,
    handlers_tailnet.DisconnectRequest,
)
BY_HAND = ("Error", "Taken", "Ordered", "Probe", "SignIn", "Request", "Response")
_REFERENCE = "#/components/schemas/"


def document(text: str) -> str:
    """Return the document with new schemas and its existing descriptions."""
    found: dict[str, Any] = json.loads(text)
    before = found["components"]["schemas"]
    shown = (*schemas.RESPONSES, *schemas_incidents.RESPONSES, *REQUESTS)
    _, made = msgspec.json.schema_components(shown, ref_template=_REFERENCE + "{name}")
    components = {_name(name): _plain(schema) for name, schema in made.items()}
    for name, schema in components.items():
        properties = before.get(name, {}).get("properties", {})
        for field, described in schema.get("properties", {}).items():
            if "description" in properties.get(field, {}):
                described["description"] = properties[field]["description"]
    found["components"]["schemas"] = {name: before[name] for name in BY_HAND} | dict(sorted(components.items()))
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _name(name: str) -> str:
    return {"State": "ProcessState"}.get(name, name.removesuffix("Body").removesuffix("Request"))


def _plain(schema: Any) -> Any:
    """Return a schema with the document's names, without titles."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _REFERENCE + _name(value.removeprefix(_REFERENCE)) if key == "$ref" else _plain(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(document(path.read_text()))
