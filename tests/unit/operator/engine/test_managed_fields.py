"""What was created counts as applied."""

from typing import Any

from tunesmith_operator.engine.apply.managed_fields import as_applied


def entry(manager: str, operation: str, fields: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **rest}


def test_a_creation_becomes_an_apply_and_others_stay() -> None:
    other = entry("kubectl", "Update", {"f:spec": {"f:y": {}}})
    status = entry("tunesmith", "Update", {"f:status": {}}, subresource="status")
    made = as_applied([other, entry("tunesmith", "Update", {"f:spec": {"f:x": {}}}), status], "tunesmith")
    assert made == [other, status, entry("tunesmith", "Apply", {"f:spec": {"f:x": {}}})]


def test_both_become_one() -> None:
    entries = [
        entry("tunesmith", "Apply", {"f:spec": {"f:x": {}, "f:z": {"f:a": {}}}}),
        entry("tunesmith", "Update", {"f:spec": {"f:y": {}, "f:z": {"f:b": {}}}, "f:metadata": {}}),
    ]
    fields = {"f:spec": {"f:x": {}, "f:y": {}, "f:z": {"f:a": {}, "f:b": {}}}, "f:metadata": {}}
    assert as_applied(entries, "tunesmith") == [entry("tunesmith", "Apply", fields)]


def test_nothing_to_change() -> None:
    assert as_applied([entry("tunesmith", "Apply", {}), entry("kubectl", "Update", {})], "tunesmith") is None
    assert as_applied([], "tunesmith") is None
