"""The configuration of a server process."""

import json
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from tunesmith_api.contract import API_KEY
from tunesmith_api.spec import Rule
from tunesmith_api.spec.runtime import BATCH_RULE, DRAFT_RULES, OPTION_RULES, RuntimeSpec


def _parsed(value: object) -> object:
    """Return the options that are given as a JSON object."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('must be a JSON object such as {"device_id": "0"}') from None


_ProviderOptions = Annotated[
    dict[str, str] | None,
    BeforeValidator(_parsed),
    Field(description='Options of the execution provider, as a JSON object: {"device_id": "0"}.'),
]


class ServingConfig(RuntimeSpec):
    """The configuration of a server process; the API key itself comes from the environment only."""

    # Any precision of an artifact: the server says of those that it cannot compute what to serve instead.
    rules: ClassVar[tuple[Rule, ...]] = (*OPTION_RULES, BATCH_RULE, *DRAFT_RULES)

    provider_options: _ProviderOptions = None
    prefill_chunk: Annotated[
        int,
        Field(
            ge=1,
            le=65_536,
            description="Prompt tokens computed between two decode steps, so that long prompts do not hold up others; "
            "rounded up to a multiple of 16.",
        ),
    ] = 128
    threads: Annotated[
        int,
        Field(ge=0, le=1024, description="Threads of ONNX Runtime; 0 uses all processors that this process may use."),
    ] = 0
    model_name: Annotated[
        str,
        Field(min_length=1, max_length=253, description="Name that requests give in `model`."),
    ] = "model"
    adapters: Annotated[
        str,
        Field(
            description="File that lists the LoRA adapters to serve beside the model, followed while the server "
            'runs: {"adapters": [{"name": ..., "path": folder or URI, "digest": ...}]}; empty serves none.',
        ),
    ] = ""
    draft_model: Annotated[
        str,
        Field(
            description="Folder of the artifact of a small model with the same tokenizer, which drafts tokens that the "
            "model checks; empty drafts by prompt lookup alone.",
        ),
    ] = ""
    draft_digest: Annotated[
        str,
        Field(
            pattern=r"^(sha256:[0-9a-f]{64})?$",
            description="Digest that the draft model's artifact must have; empty accepts any.",
        ),
    ] = ""
    host: Annotated[str, Field(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="Port to listen on; 0 chooses a free one.")] = 8080
    max_body_bytes: Annotated[
        int,
        Field(ge=1024, le=1 << 30, description="Largest request body that is read, in bytes."),
    ] = 4 << 20
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=86_400,
            description="Seconds after SIGTERM during which requests are still accepted while /readyz already fails, "
            "so that clients and load balancers can switch to another server.",
        ),
    ] = 0.0
    shutdown_seconds: Annotated[
        float,
        Field(gt=0, le=86_400, description="Seconds that requests in flight then have to finish."),
    ] = 30.0
    expect_digest: Annotated[
        str,
        Field(
            pattern=r"^(sha256:[0-9a-f]{64})?$",
            description="Digest that the artifact must have; empty accepts any.",
        ),
    ] = ""
    api_key_env: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Environment variable that holds the API key; unset or empty requires no key.",
        ),
    ] = API_KEY
