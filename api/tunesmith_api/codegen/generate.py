"""Writes `crds/`, the chart's copy and `docs/api.md` from the API models.

`python -m tunesmith_api.codegen.generate [--check]`
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith_api.codegen.crd import custom_resource_definitions
from tunesmith_api.codegen.docs import api_reference

_HEADER = "# Written by `make crds` from the API models. Change the models, not this file.\n"
_CHART = "helm/tunesmith/templates/crds"
_SHOWN_LINES = 40


class _Dumper(yaml.SafeDumper):
    """Writes repeated values in full, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - the signature is PyYAML's
        """Return whether to write a repeated value in full."""
        return True


def generated() -> dict[str, str]:
    """Return the generated files' contents by their paths in the repository.

    Raises:
        SchemaError: A model cannot be expressed as a structural schema.
        ValueError: Helm would take the text for a template.
    """
    files = {"docs/api.md": api_reference()}
    for definition in custom_resource_definitions():
        text = _HEADER + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        if "{{" in text:
            raise ValueError(f"{definition['metadata']['name']}: '{{{{' would be read by Helm; write it otherwise")
        files[f"crds/{definition['metadata']['name']}.yaml"] = text
        files[f"{_CHART}/{definition['metadata']['name']}.yaml"] = _chart_template(text)
    return files


def _chart_template(text: str) -> str:
    """Return a CRD as a template of the chart: Helm upgrades templates, but never what is in a chart's crds/."""
    comment, _, body = text.partition("\n")
    annotations = (
        '    {{- include "tunesmith.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n"
        "  annotations: {helm.sh/resource-policy: keep}\n"
        "  {{- end }}\n"
    )
    head, _, rest = body.partition("\nspec:\n")
    start = f"{comment}\n{{{{- if .Values.crds.install }}}}\n{head}\n  labels:\n"
    return f"{start}{annotations}spec:\n{rest}{{{{- end }}}}\n"


def drift(root: Path) -> list[str]:
    """Return the differences between a repository's files and those generated from the models, as lines of a diff."""
    lines: list[str] = []
    files = generated()
    for path, text in files.items():
        file = root / path
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        lines += difflib.unified_diff(old.splitlines(), text.splitlines(), path, f"{path} (models)", lineterm="", n=1)
    known = {root / path for path in files}
    present = [path for folder in ("crds", _CHART) for path in (root / folder).glob("*")]
    lines += [f"{path.relative_to(root)}: no model has it" for path in present if path not in known]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check with `--check` that they are up to date. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith_api.codegen.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not up to date")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: the current folder)")
    options = parser.parse_args(arguments)
    differences = drift(options.root)
    if options.check:
        for line in differences[:_SHOWN_LINES]:
            print(line, file=sys.stderr)
        if differences:
            print(f"{len(differences)} lines differ; run: make crds", file=sys.stderr)
        return 1 if differences else 0
    for path, text in generated().items():
        file = options.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
