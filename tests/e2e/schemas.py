"""Validates events, a line of JSON each ({"type": …, "payload": …}), against the schemas of their types.

A property that a schema does not name is an error here, though consumers ignore it: the schema would not be the contract's.
"""

import json
import pathlib
import sys

from jsonschema import Draft202012Validator

folder = pathlib.Path(sys.argv[1])


def strict(schema):
    """Make every property that is not named an error."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        if "additionalProperties" in closed:
            closed["additionalProperties"] = False
        return closed
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


validators = {}
for path in folder.glob("*.json"):
    schema = strict(json.loads(path.read_text()))
    Draft202012Validator.check_schema(schema)
    validators[path.stem] = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)

failures, seen = [], {}
for line in sys.stdin:
    event = json.loads(line)
    validator = validators.get(event["type"])
    if validator is None:
        failures.append(f"{event['type']} has no schema")
        continue
    seen[event["type"]] = seen.get(event["type"], 0) + 1
    failures += [f"{event['type']}: {error.message} in {line}" for error in validator.iter_errors(event["payload"])]
failures += [f"no {event_type} was there to be validated" for event_type in sorted(validators.keys() - seen.keys())]
print(json.dumps(seen, sort_keys=True))
sys.exit("\n".join(failures) if failures else 0)
