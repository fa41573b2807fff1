"""docs/techniques.md says what its numbers say, and what holds is computed from them."""

import json

from support.source_tree import ROOT
from support.technique_cells import Cell, cells
from support.technique_claims import CLAIMS, findings
from support.technique_page import page, picture

RESULTS = json.loads((ROOT / "tests" / "data" / "techniques.json").read_text())


def measured(**changes: dict[str, float]) -> dict[str, dict]:
    """Numbers of all techniques: an adapter takes half of what full training takes."""
    found = {}
    names = {name for claim in CLAIMS for name in claim.needs}
    for name in names | {cell.name for cell in cells() if cell.strategy == "ddp"}:
        values = {"trained": 1e4, "kept": 1e4, "allocated": 4e8, "atRest": 2e8, "speed": 2e3, "loss": 0.5}
        if name.startswith("full"):
            values |= {"trained": 1e6, "kept": 1e6, "allocated": 8e8, "atRest": 4e8, "speed": 1e3, "loss": 0.4}
        values |= changes.get(name.replace(" ", "_"), {})
        after = {"evalLoss": values["loss"], "perplexity": 1.0, "exactMatch": 0.5}
        found[name] = {
            "memory": {"allocated": values["allocated"], "planned": 4e8, "atRest": values["atRest"], "resident": 1e9},
            "learned": {"trained": values["trained"], "total": 1e6, "kept": values["kept"], "after": after},
            "tokensPerSecond": values["speed"],
        }
    return found


def holds(technique: str, text: str, **changes: dict[str, float]) -> bool:
    return next(
        h for claim, _, h in findings(measured(**changes)) if (claim.technique, claim.text) == (technique, text)
    )


def test_the_page_is_what_its_numbers_give() -> None:
    assert (ROOT / "docs" / "techniques.md").read_text() == page(RESULTS), "run: make techniques TECHNIQUES=--page"
    assert (ROOT / "docs" / "techniques.svg").read_text() == picture(RESULTS["measured"])


def test_a_claim_holds_by_the_numbers_alone() -> None:
    assert holds("LoRA", "cuts memory")
    assert not holds("LoRA", "cuts memory", lora_ddp={"allocated": 9e8})
    assert holds("ZeRO 2", "partitions the gradients too", full_zero2={"allocated": 7e8})
    assert not holds("ZeRO 2", "partitions the gradients too", full_zero2={"allocated": 9e8})
    assert holds("DoRA", "comes at least as near to full training as LoRA", dora_ddp={"loss": 0.45})
    assert not holds("DoRA", "comes at least as near to full training as LoRA", dora_ddp={"loss": 0.6})
    assert not holds("PEFT", "trains a small part of the parameters", vera_ddp={"trained": 5e5})
    assert len(list(findings(measured()))) == len(CLAIMS)


def test_a_cell_that_fails_stands_on_the_page() -> None:
    checks = {"equal": {"passed": False, "detail": "from ddp: losses 3e-1", "value": 0.3}}
    cell, refused = Cell("full", "zero3"), Cell("full", "zero2", "all")
    matrix = {
        cell.key(): {"result": {"checks": checks, "seconds": 1.0}},
        refused.key(): {"result": {"refused": "all goes with zero3"}},
    }
    text = page({"setup": {}, "measured": {}, "matrix": matrix})
    assert "**that fail: 1**" in text
    assert "full zero3: ends as ddp does: from ddp: losses 3e-1" in text
    assert "1. all goes with zero3" in text
