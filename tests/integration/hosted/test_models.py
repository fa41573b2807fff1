"""Models by name, by OpenAI's own client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Model, ModelDeleted
from sqlalchemy import select

from support.hosted import BASE, Hosted, serving
from support.hosted_models import add_checkpoint, add_model, add_project, project_of
from tunesmith_hosted.database.tables import Outbox, TunedModel


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    backend: Any = None
    with serving(tmp_path_factory.mktemp("hosted"), backend) as service:
        yield service


def names(client: openai.OpenAI) -> list[str]:
    return [model.id for model in client.models.list()]


def strict(kind: Any, value: Any) -> None:
    given = value.model_dump()
    assert set(given) <= set(kind.model_fields)
    kind.model_validate(given, strict=True)


def test_bases_are_listed_once_and_have_aliases(hosted: Hosted) -> None:
    client = hosted.client(add_project(hosted, "acme", "bases"))
    assert names(client) == [BASE["name"]]
    for name in (BASE["name"], *BASE["aliases"]):
        model = client.models.retrieve(name)
        strict(Model, model)
        assert (model.id, model.owned_by) == (name, "system")
    with pytest.raises(openai.PermissionDeniedError, match="base model"):
        client.models.delete(BASE["name"])


def test_a_project_sees_and_deletes_its_own_models(hosted: Hosted) -> None:
    client, other = hosted.client(), hosted.client(hosted.other_key)
    own, foreign = add_model(hosted, hosted.key, "own"), add_model(hosted, hosted.other_key, "own", id="other123")
    checkpoint = add_checkpoint(hosted, own, 5)
    assert {own, checkpoint} <= set(names(client)) and foreign not in names(client)
    assert {own, checkpoint} & set(names(other)) == set()
    strict(Model, client.models.retrieve(checkpoint))
    assert client.models.retrieve(own).owned_by == "acme"
    for id in (own, checkpoint, "ft:tiny:acme:own:zzzzzzzz"):
        for ask in (other.models.retrieve, other.models.delete):
            with pytest.raises(openai.NotFoundError) as refused:
                ask(id)
            assert refused.value.code == "model_not_found"
    for id in (own, checkpoint):
        strict(ModelDeleted, client.models.delete(id))
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(id)
        assert id not in names(client)

    async def wanted() -> list[tuple[str, bool]]:
        async with hosted.sessions() as session:
            asked = set((await session.execute(select(Outbox.subject).where(Outbox.kind == "model"))).scalars())
            rows = [await session.get_one(TunedModel, id) for id in (own, checkpoint)]
            return [(row.wanted, row.id in asked) for row in rows]

    assert hosted.run(wanted()) == [("deleted", True), ("deleted", True)]


def test_a_shared_checkpoint_is_seen_by_that_project_only(hosted: Hosted) -> None:
    friend, neighbour = (add_project(hosted, "acme", name) for name in ("friend", "neighbour"))
    model = add_model(hosted, hosted.key, "shared", id="shared12")
    checkpoint = add_checkpoint(hosted, model, 7, share_with=project_of(hosted, friend))
    # A permission for another organisation's project, which no route can make, lets nobody in.
    stray = add_checkpoint(hosted, model, 8, share_with=project_of(hosted, hosted.other_key))
    client = hosted.client(friend)
    assert client.models.retrieve(checkpoint).id == checkpoint
    assert checkpoint in names(client) and model not in names(client)
    with pytest.raises(openai.PermissionDeniedError, match="another project shares"):
        client.models.delete(checkpoint)
    for key, id in ((neighbour, checkpoint), (hosted.other_key, stray), (friend, model)):
        with pytest.raises(openai.NotFoundError):
            hosted.client(key).models.retrieve(id)
        assert id not in names(hosted.client(key))
