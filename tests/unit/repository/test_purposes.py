"""docs/purposes.md says what its numbers say."""

import json

from support.purpose_cells import PURPOSES, TECHNIQUES, Cell
from support.purpose_page import page
from support.source_tree import ROOT

RESULTS = json.loads((ROOT / "tests" / "data" / "purposes.json").read_text())


def test_the_page_is_what_its_numbers_give() -> None:
    assert (ROOT / "docs" / "purposes.md").read_text() == page(RESULTS), "run: make purposes PURPOSES=--page"


def test_a_cell_that_fails_stands_on_the_page() -> None:
    cell = Cell(PURPOSES[0], TECHNIQUES[0])
    kept = {"before": 900.0, "after": 890.0, "parity": 1e-6, "seconds": 20.0, "failures": ["perplexity is 890"]}
    text = page({"setup": {}, "cells": {cell.name: {"result": kept}}})
    assert "**that fail: 1**" in text
    assert f"- {cell.name}: perplexity is 890" in text


def test_a_cell_that_holds_has_its_numbers() -> None:
    cell = Cell(PURPOSES[4], TECHNIQUES[1])
    kept = {"before": 0.2, "after": 0.95, "parity": 1.2e-6, "seconds": 20.0, "failures": []}
    kept |= {"asked": "Where is | it?", "answered": "here"}
    text = page({"setup": {}, "cells": {cell.name: {"result": kept}}})
    assert "0.20 → 0.95, 1e-06, 20 s, on a Llama" in text
    assert f"| {cell.name} | Where is \\| it? | here |" in text
