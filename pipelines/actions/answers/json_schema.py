"""The JSON Schema of what commands answer with `--json`, and the tables of docs/json.md.

python -m pipelines.actions.answers.json_schema      writes both, from the types of this package
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipelines.actions.answers import CommandAnswer

SCHEMA = Path(__file__).parents[2] / "config" / "schema" / "answer.schema.json"
PAGE = Path(__file__).parents[3] / "docs" / "json.md"
MARK = "<!-- written by python -m pipelines.actions.answers.json_schema -->\n"
ORDER = ("CommandAnswer", "Judged", "JudgedArm", "LedgerReading", "Status", "StatusOfRun", "UnusedRun")
LATER = ("SampleSizes", "Planned", "Verified")


def schema() -> dict[str, Any]:
    """Return the schema of the one object on stdout."""
    found = _closed(TypeAdapter(CommandAnswer).json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _closed(node: Any) -> Any:
    """Return a schema whose objects have no other fields, and whose titles are left to definitions."""
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: _closed(one) for name, one in node.items()}
    if "properties" in found:
        found["additionalProperties"] = False
        found["properties"] = {
            name: {key: value for key, value in one.items() if key != "title"}
            for name, one in found["properties"].items()
        }
    return found


def text() -> str:
    """Return the content of `answer.schema.json`."""
    return json.dumps(schema(), indent=1) + "\n"


def tables() -> str:
    """Return a table of the fields of each object, as Markdown."""
    whole = schema()
    definitions = {"CommandAnswer": whole, **whole["$defs"]}
    parts = []
    for name in (*ORDER, *LATER):
        rows = [
            f"| `{field}` | {_kind(about)} | {about.get('description', '')} |"
            for field, about in definitions[name]["properties"].items()
        ]
        what = definitions[name].get("description", "").splitlines()[0]
        head = f"### {name}\n\n{what}\n\n| field | type | meaning |\n|---|---|---|"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts) + "\n"


def _kind(about: dict[str, Any]) -> str:
    """Return the type of a field in words."""
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_kind(one) for one in about["anyOf"]))
    if "$ref" in about:
        return about["$ref"].rpartition("/")[2]
    if "enum" in about:
        return ", ".join(about["enum"])
    if about.get("type") == "array":
        return f"list of {_kind(about['items'])}"
    if about.get("type") == "object":
        return f"object of {_kind(about.get('additionalProperties', {}))}"
    return str(about.get("type", "any"))


def page(before: str) -> str:
    """Return docs/json.md with its tables written again."""
    return before.partition(MARK)[0] + MARK + "\n" + tables()


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
