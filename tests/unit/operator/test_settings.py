"""The operator's settings, from the variables that the chart sets."""

import json

import pytest
from pydantic import ValidationError

from tunesmith_operator.config.settings import OperatorSettings

ROW = {"name": "a100", "gpu": "NVIDIA-A100-SXM4-80GB", "gpus": 1, "cpus": 24, "memory": "200Gi", "pricePerHour": 3.7}


def test_the_table_of_machines_is_read_from_json():
    settings = OperatorSettings.from_environment({"TUNESMITH_MACHINES": json.dumps([ROW])})
    (machine,) = settings.machines
    assert (machine.name, machine.memory, machine.price_per_hour) == ("a100", 200 * 2**30, 3.7)


@pytest.mark.parametrize("text", ["", "[]"])
def test_there_need_be_no_table(text):
    assert OperatorSettings.from_environment({"TUNESMITH_MACHINES": text}).machines == ()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**ROW, "memory": "many"}], "machines[0].memory"),
        ([ROW, ROW], "machines[1].name: a100 is there twice"),
        ([{**ROW, "gpu": "Unheard-Of"}], "machines[0].gpuMemory: Unheard-Of is not known"),
        ([{**ROW, "name": "auto"}], "machines[0].name: auto"),
    ],
)
def test_a_wrong_row_is_named(rows, words):
    with pytest.raises(ValidationError) as refused:
        OperatorSettings.from_environment({"TUNESMITH_MACHINES": json.dumps(rows)})
    assert words in str(refused.value)


def test_the_hub_is_that_of_the_chart_else_that_of_the_environment():
    given = {"HF_ENDPOINT": "https://a.example.com"}
    assert OperatorSettings.from_environment({}).hub_endpoint == ""
    assert OperatorSettings.from_environment(given).hub_endpoint == "https://a.example.com"
    assert (
        OperatorSettings.from_environment({**given, "TUNESMITH_HUB_ENDPOINT": ""}).hub_endpoint == given["HF_ENDPOINT"]
    )
    given["TUNESMITH_HUB_ENDPOINT"] = "https://b.example.com"
    assert OperatorSettings.from_environment(given).hub_endpoint == "https://b.example.com"
    with pytest.raises(ValidationError):
        OperatorSettings.from_environment({"TUNESMITH_HUB_ENDPOINT": "a.example.com"})
