"""Which artifact is served: what the spec asks for, else what was served before, and what is said meanwhile."""

import pytest

from support.workspaces import DIGEST, a_job
from tunesmith_api.objects.served_model import ServedModelSpec
from tunesmith_operator.inferenceworkspace.model import Target
from tunesmith_operator.inferenceworkspace.source import choose

NAMED = {"fineTuneJob": "job-a"}
FOLLOWED = {"fineTuneJobSelector": {"matchLabels": {"app": "faq"}}}
FAQ = {"app": "faq"}
JAN, FEB, MARCH = (f"2026-0{month}-01T00:00:00Z" for month in (1, 2, 3))
LAST_A = Target("pvc://a/a", DIGEST["a"], "job-a", JAN)
LAST_FOLLOWED = Target("pvc://b/b", DIGEST["b"], "job-b", FEB, FAQ)


def no_onnx(job, *precisions):
    """The same job with `export.precisions: []`, or with others."""
    return {**job, "spec": {**job["spec"], "export": {"precisions": list(precisions)}}}


CASES = {
    "unknown job": (NAMED, [], None, None, "WaitingForJob", "There is no FineTuneJob job-a"),
    "job at work": (NAMED, [a_job()], None, None, "WaitingForJob", "FineTuneJob job-a is Training"),
    "job done": (NAMED, [a_job("job-a", DIGEST["a"])], None, "job-a", None, ""),
    "job failed": (NAMED, [a_job(failed="GateFailed")], None, None, "JobFailed", "job-a has failed (GateFailed)"),
    "job without ONNX": (
        NAMED, [no_onnx(a_job("job-a", DIGEST["a"]))], None, None, "InvalidArtifact", "job-a holds no ONNX model",
    ),
    "job for GPUs": (
        NAMED, [no_onnx(a_job("job-a", DIGEST["a"]), "fp16")], None, None, "InvalidArtifact",
        "job-a holds only fp16, which a server on the CPU cannot compute; add fp32, or a smaller one",
    ),
    "job for GPUs and CPUs": (
        NAMED, [no_onnx(a_job("job-a", DIGEST["a"]), "fp16", "int4")], None, "job-a", None, "",
    ),
    "the newest is without ONNX": (
        FOLLOWED,
        [a_job("x", DIGEST["a"], labels=FAQ, completed=JAN), no_onnx(a_job("y", DIGEST["b"], labels=FAQ))],
        None, "x", None, "",
    ),
    "all are without ONNX": (
        FOLLOWED, [no_onnx(a_job("x", DIGEST["a"], labels=FAQ))], None, None, "WaitingForJob", "holds no ONNX model",
    ),
    "job gone after it was served": (NAMED, [], LAST_A, "job-a", None, ""),
    "job made anew": (NAMED, [a_job()], LAST_A, "job-a", "WaitingForJob", "job-a is Training"),
    "job made anew and done": (NAMED, [a_job("job-a", DIGEST["c"])], LAST_A, "job-a", None, ""),
    "other job named, unknown": (NAMED, [], LAST_FOLLOWED, "job-b", "WaitingForJob", "There is no FineTuneJob job-a"),
    "other job named, failed": (
        NAMED, [a_job(failed="OutOfMemory")], LAST_FOLLOWED, "job-b", "JobFailed", "delete it and apply it again",
    ),
    "served job that is being deleted": (
        NAMED, [a_job("job-a", DIGEST["a"], deletionTimestamp=JAN)], LAST_A, "job-a", None, "",
    ),
    "job that is being deleted": (
        NAMED, [a_job("job-a", DIGEST["a"], deletionTimestamp=JAN)], None, None, "WaitingForJob", "job-a",
    ),
    "no job has the label": (FOLLOWED, [a_job()], None, None, "WaitingForJob", "has the labels app=faq"),
    "none has completed": (
        FOLLOWED, [a_job("x", labels=FAQ), a_job("y", failed="GateFailed", labels=FAQ)], None, None, "WaitingForJob",
        "x is Training, y is Failed",
    ),
    "the newest": (
        FOLLOWED,
        [a_job("x", DIGEST["a"], labels=FAQ, completed=FEB), a_job("y", DIGEST["b"], labels=FAQ, completed=JAN)],
        None, "x", None, "",
    ),
    "a newer one without the label": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ), a_job("y", DIGEST["b"], completed=MARCH)], None, "x", None, "",
    ),
    "a newer one that failed": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ), a_job("y", failed="X", labels=FAQ)], None, "x", None, "",
    ),
    "a newer one at work": (
        FOLLOWED, [a_job("job-b", DIGEST["b"], labels=FAQ, completed=FEB), a_job("y", labels=FAQ)], LAST_FOLLOWED,
        "job-b", None, "",
    ),
    "the newest is deleted": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ, completed=JAN)], LAST_FOLLOWED, "job-b", None, "",
    ),
    "the newest is deleted, then there is a newer": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ, completed=MARCH)], LAST_FOLLOWED, "x", None, "",
    ),
    "the newest is being deleted": (
        FOLLOWED,
        [
            a_job("x", DIGEST["a"], labels=FAQ, completed=JAN),
            a_job("job-b", DIGEST["b"], labels=FAQ, completed=FEB, deletionTimestamp=MARCH),
        ],
        LAST_FOLLOWED, "job-b", None, "",
    ),
    "the newest is made anew": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ, completed=JAN), a_job("job-b", labels=FAQ)], LAST_FOLLOWED,
        "job-b", None, "",
    ),
    "all are deleted": (FOLLOWED, [], LAST_FOLLOWED, "job-b", None, ""),
    "the newest lost its label": (
        FOLLOWED,
        [a_job("x", DIGEST["a"], labels=FAQ, completed=JAN), a_job("job-b", DIGEST["b"], completed=FEB)],
        LAST_FOLLOWED, "x", None, "",
    ),
    "other labels are followed, and the job before is gone": (
        FOLLOWED, [a_job("x", DIGEST["a"], labels=FAQ)], LAST_A, "x", None, "",
    ),
    "other labels are followed, which none has": (FOLLOWED, [], LAST_A, "job-a", "WaitingForJob", "has the labels"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "jobs", "last", "job", "reason", "said"), CASES.values(), ids=CASES)
def test_choice(model, jobs, last, job, reason, said):
    choice = choose(ServedModelSpec.model_validate(model), jobs, last)
    assert (choice.target.job if choice.target else None) == job
    assert (choice.wait.reason if choice.wait else None) == reason
    if choice.wait:
        assert said in choice.wait.message
        assert choice.wait.final == (reason in ("JobFailed", "InvalidArtifact"))
    else:
        assert choice.why


def test_the_order_of_jobs_does_not_matter():
    jobs = [a_job(name, DIGEST["a"], labels=FAQ, completed=FEB) for name in ("x", "y", "z")]
    model = ServedModelSpec.model_validate(FOLLOWED)
    assert {choose(model, order, None).target.job for order in (jobs, jobs[::-1])} == {"z"}


@pytest.mark.parametrize("uri", ["./artifact", "/srv/artifact", "file:///srv/artifact"])
def test_what_no_pod_can_reach_is_refused_for_good(uri):
    for choice in (
        choose(ServedModelSpec(uri=uri), [], None),
        choose(ServedModelSpec(fine_tune_job="job-a"), [a_job("job-a", DIGEST["a"], uri=uri)], None),
    ):
        assert choice.target is None
        assert (choice.wait.reason, choice.wait.final) == ("InvalidSpec", True)
        assert "write pvc://CLAIM/PATH" in choice.wait.message
    # What was there before is served on.
    assert choose(ServedModelSpec(uri=uri), [], LAST_A).target is LAST_A


def test_the_revision_of_a_uri_is_a_hash_of_it():
    one, same, other = (Target(uri) for uri in ("s3://bucket/a", "s3://bucket/a", "s3://bucket/b"))
    assert one.revision == same.revision != other.revision
    assert len(one.revision) == 10
    assert Target("s3://bucket/a", DIGEST["a"]).revision == "a" * 10


@pytest.mark.parametrize(
    "spec",
    [
        {"output": {"uri": "s3://bucket/a", "secretRef": {"name": "storage"}}, "storage": {}},
        {"output": {"retain": True}, "storage": {"uri": "s3://bucket", "secretRef": {"name": "storage"}}},
    ],
)
def test_the_secret_of_a_jobs_output_is_remembered(spec):
    job = a_job("job-a", DIGEST["a"], uri="s3://bucket/a")
    job["spec"] = spec
    target = choose(ServedModelSpec(fine_tune_job="job-a"), [job], None).target
    assert target.secret == "storage"
    assert Target.from_status({"resolved": {"model": {"value": target.to_status(), "reason": ""}}}) == target
