"""The bodies of the Open Inference Protocol (https://github.com/kserve/open-inference-protocol)."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Parameters = Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)]
Dimension = Annotated[int, Field(ge=0, le=1 << 32)]


class InputTensor(BaseModel):
    """A tensor of a request.

    Attributes:
        name: Its name.
        shape: Its dimensions.
        datatype: The type of its elements; texts are BYTES.
        parameters: `binary_data_size` if the elements follow the JSON part of the body.
        data: The elements, else.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    shape: Annotated[list[Dimension], Field(max_length=8, fail_fast=True)]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """A tensor that the response is to have.

    Attributes:
        name: Its name.
        parameters: `binary_data`: whether its elements are to follow the JSON part of the response.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """The body of a request.

    Attributes:
        id: Comes back in the response.
        parameters: Parameters of the task, and `binary_data_output`.
        inputs: The tensors.
        outputs: The tensors that are wanted; all if there are none here.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1, fail_fast=True)]
    outputs: Annotated[list[RequestedOutput], Field(fail_fast=True)] | None = None
