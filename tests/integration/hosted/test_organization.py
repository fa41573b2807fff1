"""Administration by OpenAI's own client: projects, keys, the audit log, usage and costs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.admin.organization import Project, UsageCompletionsResponse, UsageCostsResponse
from openai.types.admin.organization.audit_log_list_response import AuditLogListResponse
from openai.types.admin.organization.projects import ProjectAPIKey
from sqlalchemy import text

from support.hosted import BASE, Hosted, serving
from tunesmith_hosted.tenants import callers
from tunesmith_hosted.tenants.usage import SECONDS_A_DAY, add_usage

PRICES = {**BASE, "price": {"training": 8.0, "input": 1.0, "output": 4.0}}


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callers, "_SECONDS", 0.2)
        with serving(tmp_path_factory.mktemp("hosted"), None, bases=[PRICES]) as service:
            yield service


@pytest.fixture
def admin(hosted: Hosted) -> Any:
    return administrator(hosted, hosted.key)


def administrator(hosted: Hosted, key: str) -> Any:
    return hosted.client(key, admin_api_key=key).admin.organization


def own(admin: Any) -> Any:
    return next(project for project in admin.projects.list() if project.name == "research")


def new_key(hosted: Hosted, project: str, key: str = "", **body: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {hosted.key}"} | ({"Idempotency-Key": key} if key else {})
    answer = httpx.post(
        f"{hosted.url}/v1/organization/projects/{project}/api_keys", headers=headers, json={"name": "a", **body}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def valid(hosted: Hosted, key: str) -> bool:
    return httpx.get(f"{hosted.url}/healthz", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def exact(model: Any, found: Any) -> Any:
    """Check that an answer has all fields that the client asks for, of their types, and no others."""
    checked = model.model_validate(found.to_dict(), strict=True)
    assert not checked.model_extra, checked
    return checked


def test_projects(hosted: Hosted, admin: Any) -> None:
    created = [exact(Project, admin.projects.create(name=f"project-{n}")) for n in range(5)]
    assert created[0].status == "active"
    assert exact(Project, admin.projects.retrieve(created[0].id)) == created[0]
    listed = [item.id for item in admin.projects.list(limit=2)]
    assert sorted(listed) == sorted([own(admin).id, *(item.id for item in created)])
    assert admin.projects.update(created[0].id, name="renamed").name == "renamed"
    for name, says in (("project-1", "already"), ("Not Valid", "lower-case")):
        with pytest.raises(openai.BadRequestError, match=says):
            admin.projects.create(name=name)
        with pytest.raises(openai.BadRequestError, match=says):
            admin.projects.update(created[0].id, name=name)
    key = new_key(hosted, created[1].id)["value"]
    assert admin.projects.archive(created[1].id).status == "archived"
    hosted_forgets(hosted)
    assert not valid(hosted, key)
    assert created[1].id not in [item.id for item in admin.projects.list()]
    assert created[1].id in [item.id for item in admin.projects.list(include_archived=True)]
    with pytest.raises(openai.BadRequestError, match="another project"):
        admin.projects.archive(own(admin).id)


def hosted_forgets(hosted: Hosted) -> None:
    """Let the moment pass in which a replica may still remember a key."""
    time.sleep(callers._SECONDS)


def test_keys(hosted: Hosted, admin: Any) -> None:
    project = own(admin)
    made = new_key(hosted, project.id, name="mine", scopes=["files"], expires_in_seconds=60)
    assert valid(hosted, made["value"]) and made["scopes"] == ["files"]
    key = exact(ProjectAPIKey, admin.projects.api_keys.retrieve(made["id"], project_id=project.id))
    assert key.name == "mine" and key.expires_at == key.created_at + 60
    assert key.last_used_at is not None and made["value"].startswith(key.redacted_value.removesuffix("***"))
    assert made["value"] not in admin.projects.api_keys.list(project.id).to_json()
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope admin"):
        list(administrator(hosted, made["value"]).projects.list())
    changed = admin.projects.api_keys.update(made["id"], project_id=project.id, scopes=["admin"])
    assert changed.id == made["id"] and list(administrator(hosted, made["value"]).projects.list())
    with pytest.raises(openai.BadRequestError, match="no scope all"):
        admin.projects.api_keys.update(made["id"], project_id=project.id, scopes=["all"])
    deleted = admin.projects.api_keys.delete(made["id"], project_id=project.id)
    assert deleted.deleted and not valid(hosted, made["value"])
    with pytest.raises(openai.NotFoundError):
        admin.projects.api_keys.retrieve(made["id"], project_id=project.id)


def test_a_key_is_rotated(hosted: Hosted, admin: Any) -> None:
    project = own(admin)
    url = f"{hosted.url}/v1/organization/projects/{project.id}/api_keys"
    made = new_key(hosted, project.id, name="old", scopes=["usage"])

    def rotate(id: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {hosted.key}"}
        return httpx.post(f"{url}/{id}/rotate", headers=headers, json=body).json()

    second = rotate(made["id"], overlap_seconds=60)
    assert valid(hosted, made["value"]) and valid(hosted, second["value"])
    assert (second["name"], second["scopes"]) == ("old", ["usage"])
    third = rotate(second["id"])
    assert not valid(hosted, second["value"]) and valid(hosted, third["value"])


def test_a_replica_refuses_a_key_that_another_has_revoked(hosted: Hosted, admin: Any) -> None:
    made = new_key(hosted, own(admin).id)
    assert valid(hosted, made["value"])

    async def revoke() -> None:
        async with hosted.sessions.begin() as session:
            await session.execute(text("UPDATE api_keys SET revoked_at = 1 WHERE id = :id"), {"id": made["id"]})

    hosted.run(revoke())
    hosted_forgets(hosted)
    assert not valid(hosted, made["value"])


def test_a_secret_is_not_kept_for_a_repeated_request(hosted: Hosted, admin: Any) -> None:
    made = new_key(hosted, own(admin).id, "once")
    with pytest.raises(AssertionError, match="holds a secret"):
        new_key(hosted, own(admin).id, "once")

    async def rows() -> str:
        async with hosted.sessions() as session:
            tables = ("idempotency_keys", "api_keys")
            return repr([(await session.execute(text(f"SELECT * FROM {table}"))).all() for table in tables])

    kept = hosted.run(rows())
    assert made["id"] in kept and made["value"] not in kept and made["value"].split("-", 3)[3] not in kept


def test_the_audit_log(hosted: Hosted, admin: Any) -> None:
    project = admin.projects.create(name="audited")
    made = new_key(hosted, project.id)
    admin.projects.api_keys.delete(made["id"], project_id=project.id)
    found = list(admin.audit_logs.list(limit=1, resource_ids=[project.id, made["id"]]))
    assert [entry.type for entry in found] == ["api_key.deleted", "api_key.created", "project.created"]
    found = [exact(AuditLogListResponse, entry) for entry in found]
    assert found[1].api_key_created.id == made["id"] and found[0].actor.api_key.id.startswith("key_")
    names = [entry.type for entry in admin.audit_logs.list(event_types=["project.created"])]
    assert set(names) == {"project.created"}
    before = admin.audit_logs.list(limit=1, resource_ids=[project.id, made["id"]], before=found[2].id)
    assert [entry.id for entry in before.data] == [found[1].id] and before.has_more


def test_usage_and_costs(hosted: Hosted, admin: Any) -> None:
    project = own(admin).id

    async def use() -> None:
        for _ in range(2):
            async with hosted.sessions.begin() as session:
                tokens = {"input_tokens": 500_000, "cached_tokens": 100, "output_tokens": 250_000}
                await add_usage(session, project, "tiny", requests=1, **tokens)
                await add_usage(session, project, "ft:tiny:acme::1", requests=1, trained_tokens=1000, gpu_seconds=1.5)

    hosted.run(use())
    today = int(time.time()) // SECONDS_A_DAY * SECONDS_A_DAY
    found = exact(UsageCompletionsResponse, admin.usage.completions(start_time=today - SECONDS_A_DAY))
    (result,) = found.data[-1].results
    assert (result.input_tokens, result.output_tokens, result.num_model_requests) == (1_000_000, 500_000, 4)
    assert (result.input_cached_tokens, result.model) == (200, None)
    grouped = admin.usage.completions(start_time=today, group_by=["model", "project_id"])
    requests = {item.model: item.num_model_requests for item in grouped.data[0].results}
    assert requests == {"tiny": 2, "ft:tiny:acme::1": 2}
    assert {item.project_id for item in grouped.data[0].results} == {project}
    costs = exact(UsageCostsResponse, admin.usage.costs(start_time=today))
    assert costs.data[0].results[0].amount.value == pytest.approx(1.0 + 2.0 + 0.016)
    lines = admin.usage.costs(start_time=today, group_by=["line_item"]).data[0].results
    assert {item.line_item: item.amount.value for item in lines}["tiny, output_tokens"] == pytest.approx(2.0)
    other = administrator(hosted, hosted.other_key).usage.completions(start_time=today)
    assert [item.input_tokens for item in other.data[0].results] in ([], [0])
    first = admin.usage.completions(start_time=today - 10 * SECONDS_A_DAY, limit=4)
    assert (len(first.data), first.has_more) == (4, True)
    second = admin.usage.completions(start_time=today - 10 * SECONDS_A_DAY, limit=31, page=first.next_page)
    assert second.data[0].start_time == first.data[-1].end_time and not second.has_more
    answer = httpx.get(
        f"{hosted.url}/v1/organization/usage/fine_tuning?start_time={today}",
        headers={"Authorization": f"Bearer {hosted.key}"},
    ).json()
    assert answer["data"][0]["results"][0]["trained_tokens"] == 2000
    assert answer["data"][0]["results"][0]["gpu_seconds"] == 3.0


def test_quotas_of_a_project(hosted: Hosted, admin: Any) -> None:
    url = f"{hosted.url}/v1/organization/projects/{admin.projects.create(name='limited').id}/quotas"
    headers = {"Authorization": f"Bearer {hosted.key}"}
    before = httpx.get(url, headers=headers).json()
    changed = httpx.post(url, headers=headers, json={"jobs_at_once": 1, "stored_bytes": None}).json()
    assert changed == {**before, "jobs_at_once": 1, "stored_bytes": None} == httpx.get(url, headers=headers).json()
    assert httpx.post(url, headers=headers, json={"jobs": 1}).status_code == 400


@pytest.mark.parametrize("name", ["\x00", "\ud800"])
def test_what_postgresql_cannot_store_is_refused(tmp_path: Path, postgres_url: str, name: str) -> None:
    with serving(tmp_path, None, database=postgres_url) as hosted:
        admin = administrator(hosted, hosted.key)
        body = json.dumps({"name": name})
        headers = {"Authorization": f"Bearer {hosted.key}", "Content-Type": "application/json"}
        url = f"{hosted.url}/v1/organization/projects/{own(admin).id}/api_keys"
        assert httpx.post(url, headers=headers, content=body).status_code == 400
        assert httpx.get(f"{url}/%00", headers=headers).status_code in {400, 404}
