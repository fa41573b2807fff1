"""Dashboard, alerts and docs name metrics and reasons that there are, and all of them."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tunesmith_api.failures import Reason
from tunesmith_api.status.reasons import OperatorReason
from tunesmith_operator.engine.metrics import Metrics

ROOT = Path(__file__).parents[3]
FILES = ROOT / "helm/tunesmith/files"
DOCS = (ROOT / "docs/operations.md").read_text()
OPERATOR = ROOT / "operator/tunesmith_operator"

SUFFIXES = ("_bucket", "_sum", "_count", "_created", "_total")
# What sets a condition's reason, and which of its arguments the reason is.
SETTERS = {
    "Wait": 0, "PendingReason": 0, "PodProblem": 0,
    "Failure": 0, "failed": 1, "waiting": 1, "held": 1, "blocked": 1, "working": 2,
    "with_conditions": 4,
}  # fmt: skip


def operator_metrics() -> set[str]:
    metrics = Metrics()
    metrics.observe_queue(lambda: 0, lambda: 0)
    metrics.observe_phases(lambda: [("FineTuneJob", "Pending", 1)])
    return {family.name for family in metrics.registry.collect() if family.name.startswith("tunesmith_")}


def server_metrics() -> set[str]:
    """By the source: importing the server takes ONNX Runtime."""
    package = ROOT / "serving/tunesmith_serving"
    sources = [package / "http/metrics.py", *package.glob("engines/**/*.py")]
    return {name for path in sources for name in re.findall(r'"(tunesmith_[a-z_]+)"', path.read_text())}


KNOWN = operator_metrics() | server_metrics()


def named_in(text: str) -> set[str]:
    names = set(re.findall(r"\btunesmith_[a-z_]+\b", text)) - {"tunesmith_dev_owner_name"}
    return {name if name in KNOWN else re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in names}


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yaml"])
def test_only_metrics_that_there_are(file: str) -> None:
    names = named_in((FILES / file).read_text())
    assert len(names) >= 8
    assert names <= KNOWN


def test_the_dashboard_shows_all_of_the_operators_metrics() -> None:
    shown = named_in((FILES / "dashboard.json").read_text())
    assert operator_metrics() - shown <= {"tunesmith_resyncs"}


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["targets"]


def test_the_docs_tell_of_every_metric() -> None:
    assert named_in(DOCS) >= KNOWN


def test_the_docs_tell_what_to_do_at_every_alert() -> None:
    alerts = {rule["alert"] for group in yaml.safe_load((FILES / "alerts.yaml").read_text()) for rule in group["rules"]}
    assert alerts == set(re.findall(r"^\| `(Tunesmith\w+)` \|", DOCS, re.MULTILINE))


def reasons_in(path: Path) -> Iterator[str]:
    """The reasons that a module's calls say as constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = SETTERS.get(name)
        given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
        if place is not None and len(node.args) > place:
            given.append(node.args[place])
        for value in given:
            if isinstance(value, ast.JoinedStr):  # Made of a kind, such as SecretNotFound.
                continue
            for constant in ast.walk(value):
                if isinstance(constant, ast.Attribute) and getattr(constant.value, "id", "") == "OperatorReason":
                    yield OperatorReason[constant.attr].value
                if isinstance(constant, ast.Constant) and re.fullmatch(r"[A-Z][A-Za-z]+", str(constant.value)):
                    yield str(constant.value)


def test_the_docs_tell_what_to_do_at_every_reason() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", DOCS, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    told |= {"Completed", "Serving", "ScaledToZero"} & set(re.findall(r"`(\w+)`", DOCS))
    closed = {reason.value for reason in (*Reason, *OperatorReason)}
    used = set(closed)
    kinds = (*OPERATOR.glob("finetunejob/*.py"), *OPERATOR.glob("inferenceworkspace/*.py"))
    modules = [*(ROOT / "api/tunesmith_api/status").glob("*.py"), *kinds]
    for module in modules:
        used |= set(reasons_in(module))
    assert {"Accepted", "OutOfMemory", "Queued"} <= used
    assert used - closed == set()  # every reason is in one of the two lists
    assert used - told == set()
