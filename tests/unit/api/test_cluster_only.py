"""Fields that have no effect without a cluster."""

from tunesmith_api.objects import FineTuneJobSpec, InferenceWorkspaceSpec
from tunesmith_api.objects.cluster_only import cluster_only_fields, set_cluster_only_fields


def test_the_fields_of_both_kinds() -> None:
    assert set(cluster_only_fields(FineTuneJobSpec)) == {
        "resources", "stages", "scheduling", "storage", "output.retain", "ttlSecondsAfterFinished", "podTemplate",
    }  # fmt: skip
    assert cluster_only_fields(InferenceWorkspaceSpec) == (
        "model.secretRef", "runtime.draftModel.secretRef", "resources", "rollout", "podTemplate",
    )  # fmt: skip


def test_descriptions_say_the_same() -> None:
    told = {
        field.alias or name
        for name, field in FineTuneJobSpec.model_fields.items()
        if "Concerns clusters only." in str(field.description)
    }
    assert told <= set(cluster_only_fields(FineTuneJobSpec))


def test_only_what_is_set_is_returned() -> None:
    spec = InferenceWorkspaceSpec.model_validate({"model": {"fineTuneJob": "a"}, "resources": {"cpu": "2"}})
    assert set_cluster_only_fields(spec) == ["resources"]
    spec = InferenceWorkspaceSpec.model_validate({"model": {"fineTuneJob": "a"}, "rollout": {}})
    assert set_cluster_only_fields(spec) == []
