"""Validates files by a JSON Schema: validate.py SCHEMA FILE…

Prints a line for each file: its name, and `valid` or the first things that are wrong. What is not TOML
by version 1.0 is told to be `not TOML`.
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        try:
            content = tomllib.loads(file.read().decode("utf-8-sig"))
        except ValueError as error:
            print(name, "not TOML:", error)
            continue
    wrong = [f"{error.json_path}: {error.message[:100]}" for error in validator.iter_errors(content)]
    print(name, "; ".join(wrong[:5]).replace("\n", " ") or "valid")
