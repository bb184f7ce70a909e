"""The JSON Schemas of run and ablation files, with which editors complete and check them.

    python -m pipelines.config.json_schema      writes pipelines/config/schema/*.json

An editor with a YAML language server takes the schema from a first line such as
`# yaml-language-server: $schema=../pipelines/config/schema/run.schema.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.config import option_schema
from pipelines.config.ablation import AblationFile
from pipelines.config.run import RunConfig
from pipelines.registry import catalog

FOLDER = Path(__file__).parent / "schema"
SHORT_FORMS: dict[str, list[dict[str, Any]]] = {  # definition -> what YAML accepts besides a mapping
    "TaskSpec": [{"type": "string"}],
    "ArmConfig": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/VariantSpec"}}],
}


def run_schema() -> dict[str, Any]:
    """Return the schema of a run file: a part of a run, so nothing is required."""
    schema = _adapted(RunConfig.model_json_schema())
    del schema["required"]
    for section in schema["$defs"].values():
        section.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def ablation_schema() -> dict[str, Any]:
    """Return the schema of an ablation file; `set` and settings in a cell or an arm are those of a run."""
    run, ablation = run_schema(), _adapted(AblationFile.model_json_schema())
    definitions = ablation["$defs"] | run.pop("$defs") | {"RunFile": {**run, "title": "RunFile"}}
    del definitions["RunFile"]["$schema"]
    settings = {"$ref": "#/$defs/RunFile"}
    one = {"anyOf": [{"type": "string", "minLength": 1}, settings]}
    cell = {"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}
    [(pattern, _)] = ablation["properties"]["cells"]["patternProperties"].items()
    ablation["properties"]["cells"]["patternProperties"] = {pattern: cell}
    arm_settings = definitions["ArmConfig"]["anyOf"][0]["properties"]["set"]
    for place in (ablation["properties"]["set"], arm_settings):
        del place["additionalProperties"], place["type"]
        place["allOf"] = [settings]
    planted = {"$ref": "#/$defs/ArmConfig"}  # or the name of an arm
    ablation["properties"]["assay"]["anyOf"] = [*ablation["properties"]["assay"]["anyOf"], planted]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ablation, "$defs": definitions}


def _adapted(schema: dict[str, Any]) -> dict[str, Any]:
    """Add the short forms that YAML accepts: `task: ner`, `attention: gate`, `gate: [gate]`."""
    definitions = schema["$defs"]
    if "TaskSpec" in definitions:
        task = definitions["TaskSpec"]
        task["properties"] = {"name": task["properties"]["name"]}
        task["additionalProperties"] = True  # the options, where another file names the task
        task["allOf"] = option_schema.by_name(option_schema.of_every(catalog.TASK))
    if "GeneratedSpec" in definitions:
        corpora = option_schema.of_every(catalog.CORPUS)
        definitions["GeneratedSpec"]["allOf"] = option_schema.by_name(corpora, below="options")
    definitions["VariantSpec"] = {
        "title": "VariantSpec",
        "anyOf": [{"type": "string", "minLength": 1}, _named_variant()],
    }
    attention = {
        "anyOf": [
            {"$ref": "#/$defs/VariantSpec"},
            {"type": "array", "items": {"$ref": "#/$defs/VariantSpec"}},
        ]
    }
    for section in (schema, definitions.get("ArmConfig")):
        if section and "attention" in section["properties"]:
            described = section["properties"]["attention"]["description"]
            section["properties"]["attention"] = {"description": described, "default": []} | attention
    for name, forms in SHORT_FORMS.items():
        if name in definitions:
            definitions[name] = {"anyOf": [definitions[name], *forms]}
    return schema


def _named_variant() -> dict[str, Any]:
    """Return the schema of `{gate: {per: head}}`; the options of a variant of one's own are not known."""
    options = option_schema.of_every(catalog.VARIANT)
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in options.items()},
        "additionalProperties": {"type": ["object", "null"]},
    }


SCHEMAS = {"run": run_schema, "ablation": ablation_schema}


def text(name: str) -> str:
    """Return the content of `schema/<name>.schema.json`."""
    return json.dumps(SCHEMAS[name](), indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / f"{name}.schema.json").write_text(text(name), encoding="utf-8")
