"""Writes expected.json with Python's own Jinja (3.1.6), set up as transformers' apply_chat_template sets it up.

The tests read the file and need no Python: python3 expected.py, after a change of a template or a case.
"""

import json
import pathlib

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationTags(Extension):
    """{% generation %} marks what the assistant said, for training; here it only stands for its body."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


here = pathlib.Path(__file__).parent
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTags, loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
cases = json.loads((here / "cases.json").read_text())
expected = {}
for path in sorted(here.glob("*.jinja")):
    template = environment.from_string(path.read_text())
    for name, case in cases.items():
        variables = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", **case}
        try:
            outcome = {"prompt": template.render(**variables)}
        except jinja2.exceptions.TemplateError as error:
            outcome = {"rejected": str(error)}
        expected.setdefault(path.stem, {})[name] = outcome
(here / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
