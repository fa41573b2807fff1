"""The fields that have no effect without a cluster are marked in the models."""

from typing import Annotated

from pydantic import BaseModel

from tunesmith_api.codegen.schema import model_schema
from tunesmith_api.objects import FineTuneJobSpec, InferenceWorkspaceSpec, cluster_only_fields
from tunesmith_api.objects.cluster_only import CLUSTER_ONLY


def test_fields_of_a_job():
    assert cluster_only_fields(FineTuneJobSpec) == [
        "output.retain",
        "resources",
        "scheduling",
        "storage",
        "ttlSecondsAfterFinished",
        "podTemplate",
    ]


def test_fields_of_a_workspace():
    assert cluster_only_fields(InferenceWorkspaceSpec) == ["model.secretRef", "resources", "rollout", "podTemplate"]


def test_a_description_that_says_so_comes_with_the_mark():
    for spec in (FineTuneJobSpec, InferenceWorkspaceSpec):
        described = {
            name
            for name, field in model_schema(spec)["properties"].items()
            if "Concerns clusters only" in field["description"]
        }
        assert described
        assert described <= set(cluster_only_fields(spec))


def test_the_mark_changes_neither_schema_nor_what_is_below_it():
    class Inner(BaseModel):
        marked: Annotated[int, CLUSTER_ONLY] = 1
        plain: int = 2

    class Outer(BaseModel):
        whole: Annotated[Inner, CLUSTER_ONLY] = Inner()
        optional: Inner | None = None
        several: tuple[Inner, ...] = ()

    assert cluster_only_fields(Outer) == ["whole", "optional.marked"]
    assert "cluster" not in str(Outer.model_json_schema()).lower()
