"""Nobody finds what belongs to another project: it answers exactly as what does not exist."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.hosted import Hosted, serving
from support.isolation import BODIES, CANARY, plant
from tunesmith_hosted.config.settings import Settings
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.process.app import create_app

UNUSED: Any = None
DOCUMENT = create_app(Context(Settings(), UNUSED, UNUSED, lambda: None)).openapi()
ROUTES = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]
WITH_IDS = [(method, path) for method, path in ROUTES if "{" in path]
LISTS = [
    (path, parameter["name"])
    for path, methods in DOCUMENT["paths"].items()
    for parameter in methods.get("get", {}).get("parameters", ())
    if "{" not in path and parameter["name"] in {"after", "before"}
]
CLIENT = httpx.Client(verify=False)  # one for all: making one costs more than a request
fast = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving(tmp_path_factory.mktemp("hosted"), None) as service:
        yield service


@pytest.fixture(scope="module")
def foreign(hosted: Hosted) -> dict[str, str]:
    return plant(hosted)


def ask(hosted: Hosted, method: str, path: str, ids: dict[str, str], **options: Any) -> httpx.Response:
    filled = re.sub(r"\{(\w+)(:path)?\}", lambda found: quote(ids[found[1]], safe=""), path)
    given = {"json": {}} if method == "post" else {}
    headers = {"Authorization": f"Bearer {hosted.other_key}"}
    request = {**given, **BODIES.get((method, path), {}), **options}
    return CLIENT.request(method, hosted.url + filled, headers=headers, **request)


@pytest.mark.parametrize(("method", "path"), WITH_IDS)
def test_ids_of_another_project_are_not_found(hosted: Hosted, foreign: dict[str, str], method: str, path: str) -> None:
    unknown = {name: id[:-1] + ("x" if id[-1] != "x" else "y") for name, id in foreign.items()}
    answer, expected = ask(hosted, method, path, foreign), ask(hosted, method, path, unknown)
    assert answer.status_code == expected.status_code == 404, (answer.text, expected.text)
    for name in re.findall(r"\{(\w+)", path):
        same = answer.text.replace(foreign[name], "ID"), expected.text.replace(unknown[name], "ID")
        if foreign[name] in answer.text:
            assert same[0] == same[1]
    assert set(answer.headers) == set(expected.headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_routes_want_a_key(hosted: Hosted, foreign: dict[str, str], method: str, path: str) -> None:
    filled = re.sub(r"\{(\w+)(:path)?\}", lambda found: quote(foreign[found[1]], safe=""), path)
    answer = CLIENT.request(method, hosted.url + filled, **BODIES.get((method, path), {}))
    assert answer.status_code == 401, answer.text
    assert answer.json()["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize(("path", "cursor"), LISTS)
def test_cursors_of_another_project_are_not_found(
    hosted: Hosted, foreign: dict[str, str], path: str, cursor: str
) -> None:
    assert CANARY not in ask(hosted, "get", path, {}).text
    for id in (*foreign.values(), "ftevent-canary", "unknown"):
        answer = ask(hosted, "get", path, {}, params={cursor: id})
        assert answer.status_code == 404, answer.text
        assert CANARY not in answer.text.replace(id, "")


@fast
@given(route=st.sampled_from(WITH_IDS), id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_any_id_is_answered_without_a_fault(
    hosted: Hosted, foreign: dict[str, str], route: tuple[str, str], id: str
) -> None:
    assert ask(hosted, *route, dict.fromkeys(foreign, id)).status_code < 500


@fast
@given(
    cursor=st.sampled_from(LISTS),
    id=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    limit=st.integers(-1, 200),
)
def test_any_cursor_is_answered_without_a_fault(hosted: Hosted, cursor: tuple[str, str], id: str, limit: int) -> None:
    answer = ask(hosted, "get", cursor[0], {}, params={cursor[1]: id, "limit": limit})
    assert answer.status_code < 500 and CANARY not in answer.text.replace(id, "")
