"""What Prefect's form knows of the settings: each by its dotted name, with its type, bounds and description."""

from typing import Annotated, Any, cast

from pydantic import BaseModel, WithJsonSchema

from flows.settings import TrainingSettings

Schema = dict[str, Any]


def overrides_schema(settings: type[BaseModel]) -> Schema:
    """Return the JSON schema of settings by dotted name, such as {"model.epochs": 8}; any other name is refused.

    A group that can be switched off, such as `linear`, is a name too, and takes null.
    """
    whole = settings.model_json_schema()
    named: Schema = {}

    def walk(group: Schema, prefix: str) -> None:
        for name, entry in group["properties"].items():
            parts = [_resolved(part, whole) for part in (entry, *entry.get("anyOf", []))]
            below = next((part for part in parts if "properties" in part), None)
            if below is None:
                named[prefix + name] = _plain(entry, prefix + name, whole)
                continue
            if len(parts) > 1:
                named[prefix + name] = {"type": "null", "title": prefix + name, "description": f"null switches {prefix + name} off"}
            walk(below, f"{prefix}{name}.")

    walk(whole, "")
    named.pop("preset", None)  # named beside the settings
    return {"type": "object", "properties": named, "additionalProperties": False}


def _resolved(entry: Schema, whole: Schema) -> Schema:
    reference = entry.get("$ref")
    return cast(Schema, whole["$defs"][reference.rpartition("/")[2]]) if reference else entry


def _plain(entry: Schema, name: str, whole: Schema) -> Schema:
    """Return a setting's schema without references; its default goes into the description, as an empty field leaves the preset's value."""

    def inline(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: inline(value) for key, value in _resolved(part, whole).items()}
        return [inline(value) for value in part] if isinstance(part, list) else part

    plain = {key: value for key, value in inline(entry).items() if key not in ("default", "title")}
    others = [part for part in plain.get("anyOf", []) if part != {"type": "null"}]
    if len(others) == 1 and entry.get("default") is None:  # Prefect's server lets null in by itself
        plain = {key: value for key, value in plain.items() if key != "anyOf"} | others[0]
    return {**plain, "title": name}


# Bounds of the form alone: from Python and the command line the flow itself refuses, in its own words.
Overrides = Annotated[dict[str, Any] | None, WithJsonSchema(overrides_schema(TrainingSettings))]
Folds = Annotated[int | None, WithJsonSchema({"type": "integer", "minimum": 2})]
Trials = Annotated[int | None, WithJsonSchema({"type": "integer", "minimum": 1})]
Sources = Annotated[list[str], WithJsonSchema({"type": "array", "items": {"type": "string"}, "minItems": 1})]
Minutes = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
Words = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
