"""The plan of a job: computed once, kept in the status, followed by what the stages ask for, and refused by."""

import json
import re

import pytest
import yaml

from support.job_facts import SETTINGS, TRAINED, World
from support.model_configs import LLAMA_8B, QWEN_05B
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner import DataShape, Machine, ModelShape, choose, parse_machines
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.finetunejob import FineTuneJobReconciler
from tunesmith_operator.finetunejob.decide import decide
from tunesmith_operator.models.configs import Lookup, ModelConfigs

PREPARE, TRAIN, PUBLISH = "tiny-prepare-1", "tiny-train-1", "tiny-publish-1"
LLAMA, QWEN = ModelShape.from_config(LLAMA_8B), ModelShape.from_config(QWEN_05B)
ROWS = [
    {"name": "cpu", "cpus": 8, "memory": "30Gi", "pricePerHour": 0.4},
    {
        "name": "t4", "gpu": "Tesla-T4", "gpus": 1, "cpus": 4, "memory": "24Gi", "pricePerHour": 0.6,
        "nodeSelector": {"pool": "t4"},
    },
    {
        "name": "a100", "gpu": "NVIDIA-A100-SXM4-80GB", "gpus": 1, "cpus": 24, "memory": "200Gi", "pricePerHour": 4,
        "nodeSelector": {"pool": "a100"}, "tolerations": [{"key": "team", "value": "search"}],
    },
    {"name": "a100x8", "gpu": "NVIDIA-A100-SXM4-80GB", "gpus": 8, "cpus": 96, "memory": "1800Gi", "pricePerHour": 32},
]  # fmt: skip
TABLE = OperatorSettings(machines=parse_machines(ROWS))
GPU = {"gpusPerNode": 1}


def settle(world: World, settings: OperatorSettings = TABLE) -> World:
    for _ in range(8):
        decision = decide(world.observed(), settings)
        assert decide(world.observed(), settings) == decision
        if not world.take(decision):
            return world
    raise AssertionError(f"never at rest: {world.status}")


def begun(shape: ModelShape | None, settings: OperatorSettings = TABLE, **spec) -> World:
    world = World(spec)
    world.shape = shape
    return settle(world, settings)


def container(world: World, job: str) -> dict:
    return world.jobs[job]["spec"]["template"]["spec"]["containers"][0]


def memory(world: World, job: str) -> tuple[str, str | None]:
    resources = container(world, job)["resources"]
    return resources["requests"]["memory"], resources.get("limits", {}).get("memory")


def variable(world: World, job: str, name: str) -> str | None:
    return {item["name"]: item.get("value") for item in container(world, job)["env"]}.get(name)


def test_the_plan_stands_in_the_status_before_any_pod_and_stays():
    world = World({"resources": GPU})
    world.shape = LLAMA
    decision = decide(world.observed(), TABLE)
    plan = decision.status["plan"]
    assert plan["model"] == {"parameters": 8030261248, "weights": "15Gi"}
    assert (plan["strategy"], plan["processes"], plan["stages"].keys()) == ("ddp", 1, {"prepare", "train", "publish"})
    settle(world)
    world.shape = QWEN  # nobody looks again
    settle(world)
    assert world.status["plan"] == plan


def test_stages_ask_for_what_the_plan_says_and_training_for_what_resources_say():
    world = begun(LLAMA, resources={**GPU, "memory": "64Gi", "cpu": "8", "nodeSelector": {"pool": "gpu"}})
    plan = world.status["plan"]["stages"]
    assert memory(world, PREPARE) == (plan["prepare"]["memory"],) * 2
    world.complete(PREPARE)
    settle(world)
    assert memory(world, TRAIN) == ("64Gi", "64Gi")
    world.complete(TRAIN, TRAINED)
    settle(world)
    assert memory(world, PUBLISH) == (plan["publish"]["memory"],) * 2
    for job in (PREPARE, PUBLISH):
        assert container(world, job)["resources"]["requests"]["cpu"] == "250m"
        assert "nodeSelector" not in world.jobs[job]["spec"]["template"]["spec"]
    chosen = world.status["resolved"]
    assert chosen["stages.publish.memory"]["value"] == plan["publish"]["memory"]
    assert "plan" in chosen["stages.publish.memory"]["reason"]
    assert chosen["stages.prepare.cpu"] == {"value": "250m", "reason": "default"}
    assert "resources.memory" not in chosen
    assert chosen["totalSteps"] == TRAINED["resolved"]["totalSteps"]


def test_training_without_memory_asks_for_that_of_the_plan_and_is_not_killed_for_more():
    world = begun(LLAMA, resources=GPU)
    world.complete(PREPARE)
    settle(world)
    assert memory(world, TRAIN) == (world.status["plan"]["stages"]["train"]["memory"], None)
    assert "no limit" in world.status["resolved"]["resources.memory"]["reason"]


def test_nothing_is_made_while_the_configuration_is_being_read():
    world = World({"resources": GPU})
    world.is_reading_model = True
    settle(world)
    decision = decide(world.observed(), TABLE)
    assert (world.jobs, world.reason, decision.requeue_after) == ({}, "Accepted", 0.5)
    world.is_reading_model, world.shape = False, LLAMA
    settle(world)
    assert list(world.jobs) == [PREPARE]
    assert "plan" in world.status
    size = world.claims["tiny-work"]["spec"]["resources"]["requests"]["storage"]
    assert world.status["resolved"]["storage.size"]["value"] == size != "20Gi"


def test_without_a_plan_prepare_gets_a_constant_and_the_stages_what_the_spec_says():
    world = begun(None, resources=GPU, stages={"publish": {"memory": "20Gi"}})
    assert "plan" not in world.status
    assert memory(world, PREPARE) == ("4Gi", None)
    assert "nothing is known" in world.status["resolved"]["stages.prepare.memory"]["reason"]
    world.complete(PREPARE)
    settle(world)
    world.complete(TRAIN)
    settle(world)
    assert memory(world, PUBLISH) == ("20Gi", "20Gi")


def test_a_job_that_has_begun_is_not_planned_anew():
    world = begun(None, resources=GPU)
    world.shape = LLAMA
    settle(world)
    assert "plan" not in world.status


def test_on_cpus_a_job_may_use_up_the_reserve():
    # Nothing is left for the planner to save memory with.
    spec = {"method": "full", "training": {**ONE_AT_A_TIME, "gradientCheckpointing": False}}
    free = begun(QWEN, **spec)
    found = choose(free.observed().spec, QWEN, DataShape(), [Machine(name="x", cpus=1, memory=2**60)])
    need, reserve = found.stages["train"].memory, found.rank.reserve
    assert reserve > 2**20
    tight = begun(QWEN, resources={"memory": f"{(need - reserve // 2) // 2**20}Mi"}, **spec)
    assert (tight.status["phase"], "plan" in tight.status) == ("Preparing", True)
    # Without the reserve it is too little, also with the smallest micro-batch.
    assert begun(QWEN, resources={"memory": "3Gi"}, **spec).reason == "DoesNotFit"


def test_prepare_of_a_machine_that_is_not_chosen_yet_runs_anywhere():
    resources = {"machine": "auto", "nodeSelector": {"zone": "1"}, "cpu": "16"}
    world = begun(None, resources=resources)
    assert "nodeSelector" not in world.jobs[PREPARE]["spec"]["template"]["spec"]
    assert container(world, PREPARE)["resources"]["requests"]["cpu"] == "250m"
    world.complete(PREPARE, {"plan": a_plan("a100")})
    settle(world)
    train = world.jobs[TRAIN]["spec"]["template"]["spec"]
    assert train["nodeSelector"] == {"pool": "a100", "zone": "1"}


def test_the_stages_know_how_many_machines_there_are():
    world = begun(LLAMA, resources={**GPU, "nodes": 4}, storage={"accessMode": "ReadWriteMany"})
    assert variable(world, PREPARE, "TUNESMITH_NODES") == "4"


def test_what_is_chosen_follows_the_plan_and_the_spec():
    world = begun(LLAMA, resources=GPU)
    first = world.status["resolved"]["stages.publish.memory"]["value"]
    world.complete(PREPARE, {"plan": a_plan()})
    settle(world)
    assert world.status["resolved"]["stages.publish.memory"]["value"] == "3Gi" != first
    world.change_spec(stages={"publish": {"memory": "9Gi"}})
    settle(world)
    assert "stages.publish.memory" not in world.status["resolved"]
    assert list(world.jobs) == [PREPARE, TRAIN]  # training is not disturbed


def test_publish_that_was_killed_for_its_memory_goes_on_with_more():
    world = begun(LLAMA, resources=GPU)
    for job in (PREPARE, TRAIN):
        world.complete(job)
        settle(world)
    world.ended(PUBLISH, 137, reason="OOMKilled")
    world.fail(PUBLISH)
    settle(world)
    limit = world.status["plan"]["stages"]["publish"]["memory"]
    assert f"more memory than the {limit} of its limit. Set stages.publish.memory, and apply the F" in world.message
    world.change_spec(stages={"prepare": {"memory": "1Gi"}})
    settle(world)
    assert world.status["phase"] == "Failed"
    world.change_spec(stages={"publish": {"memory": "64Gi"}})
    settle(world)
    assert memory(world, "tiny-publish-2") == ("64Gi", "64Gi")
    assert world.status["phase"] == "Publishing"


# What cannot fit: the job's resources and method, what the message says of the need and the machine.
REFUSED = {
    "a GPU of the table of devices": (
        LLAMA, {"gpusPerNode": 1, "gpu": {"product": "Tesla-T4"}}, "full", ("memory of each GPU", "Tesla-T4 has 15Gi"),
    ),
    "a GPU of a least memory": (
        LLAMA, {"gpusPerNode": 1, "gpu": {"minMemoryGiB": 24}}, "full", ("memory of each GPU", "a GPU of 24 GiB has"),
    ),
    "a usual instance type": (
        LLAMA, {"gpusPerNode": 1, "instanceType": "Standard_NC4as_T4_v3"}, "full", ("Standard_NC4as_T4_v3 has 15Gi",),
    ),
    "an instance type with more GPUs than are asked for": (
        LLAMA, {"gpusPerNode": 1, "instanceType": "Standard_ND96asr_v4"}, "full", ("Standard_ND96asr_v4 has 39Gi",),
    ),
    "a machine of the administrator": (LLAMA, {"machine": "t4"}, "lora", ("memory of each GPU", "t4 has 15Gi")),
    "the cheapest that comes near": (LLAMA, {"machine": "auto", "nodes": 1}, "full", ("memory of each GPU",)),
    "the memory of pods": (QWEN, {"memory": "4Gi"}, "full", ("Mi of memory, and a pod has 4096Mi",)),
    "the memory of pods with GPUs": (
        LLAMA, {"gpusPerNode": 1, "gpu": {"product": "H200"}, "memory": "8Gi"}, "lora", ("Gi of memory, and H200 has",),
    ),
}  # fmt: skip
ONE_AT_A_TIME = {"globalBatchSize": 1, "maxLength": 4096}
# Of which the largest of the table is too small for a full training of 8 billion parameters.
SMALL = OperatorSettings(machines=parse_machines(ROWS[:3]))


@pytest.mark.parametrize(("shape", "resources", "method", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_fit_is_refused_before_anything_exists(shape, resources, method, words):
    settings = SMALL if resources.get("machine") == "auto" else TABLE
    world = begun(shape, settings, resources=resources, method=method, training=ONE_AT_A_TIME)
    assert (world.status["phase"], world.reason) == ("Failed", "DoesNotFit")
    assert world.condition("Stalled")["status"] == "True"
    assert (world.jobs, world.claims, world.pods) == ({}, {}, {})
    for part in (*words, "needs"):
        assert part in world.message
    settle(world)  # and stays so


@pytest.mark.parametrize(("shape", "resources", "method", "words"), REFUSED.values(), ids=REFUSED)
def test_what_a_refusal_says_to_write_does_fit(shape, resources, method, words):
    settings = SMALL if resources.get("machine") == "auto" else TABLE
    spec = {"resources": resources, "method": method, "training": ONE_AT_A_TIME}
    world = begun(shape, settings, **spec)
    _, found, advice = world.message.partition("write ")
    assert found or "Use a larger machine" in world.message, world.message
    ways = [re.sub(r" (\(|and nothing ).*", "", way) for way in advice.split("; or ")] if advice else []
    for way in ways:
        changed = dict(spec)
        for name, value in yaml.safe_load(f"{{{way}}}").items():
            old = changed.get(name, {}) if isinstance(value, dict) else None
            if name == "resources" and "machine" in value:
                old = {}  # "and nothing else under resources"
            changed[name] = {**old, **value} if isinstance(value, dict) and old is not None else value
        assert begun(shape, settings, **changed).status["phase"] == "Preparing", (way, world.message)


def test_a_machine_of_the_table_is_suggested():
    world = begun(LLAMA, resources={"gpusPerNode": 1, "gpu": {"product": "Tesla-T4"}}, method="lora")
    assert "write resources: {machine: a100} and nothing else under resources" in world.message


def test_where_nothing_is_known_of_the_machine_the_need_is_said_and_nothing_refused():
    world = begun(LLAMA, resources=GPU, method="full", training={"maxSteps": 10})
    plan = world.status["plan"]
    assert list(world.jobs) == [PREPARE]
    assert float(plan["stages"]["train"]["gpuMemory"].removesuffix("Gi")) > 80
    assert not {"machine", "hours", "cost"} & set(plan)
    assert "seconds" not in plan["stages"]["train"]
    # And prepare is told so.
    (machine,) = parse_machines(variable(world, PREPARE, "TUNESMITH_MACHINE"))
    assert (machine.gpus, machine.memory_of_gpu) == (1, 2**60)


def test_a_configuration_with_absurd_sizes_means_no_plan():
    absurd = ModelShape.from_config({**LLAMA_8B, "hidden_size": 10**400})
    world = begun(absurd, resources=GPU)
    assert list(world.jobs) == [PREPARE]
    assert "plan" not in world.status


@pytest.mark.parametrize(("method", "machine"), [("lora", "a100"), ("full", "a100x8")])
def test_auto_takes_what_the_planner_says(method, machine):
    world = begun(LLAMA, resources={"machine": "auto"}, method=method)
    expected = choose(world.observed().spec, LLAMA, DataShape(), TABLE.machines)
    plan = world.status["plan"]
    assert plan["machine"] == expected.machine.name == machine
    assert (plan["strategy"], plan["microBatchSize"]) == (expected.setup.strategy, expected.setup.micro_batch_size)
    chosen = world.status["resolved"]
    assert chosen["resources.machine"] == {"value": machine, "reason": "the cheapest that fits"}
    assert chosen["resources.gpusPerNode"]["value"] == expected.machine.gpus
    (told,) = json.loads(variable(world, PREPARE, "TUNESMITH_MACHINE"))
    assert told["name"] == machine
    world.complete(PREPARE)
    settle(world)
    pod = world.jobs[TRAIN]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(expected.machine.gpus)
    assert pod.get("nodeSelector", {}) == (expected.machine.node_selector or {})
    keys = [item["key"] for item in pod["tolerations"]]
    assert keys == [*(["team"] if machine == "a100" else []), "sku", "nvidia.com/gpu"]
    prepare = world.jobs[PREPARE]["spec"]["template"]["spec"]
    assert not {"nodeSelector", "tolerations"} & set(prepare)


def test_a_machine_without_gpus_holds_for_all_stages():
    rows = [{"name": "big", "cpus": 32, "memory": "240Gi", "nodeSelector": {"pool": "big"}}]
    settings = OperatorSettings(machines=parse_machines(rows))
    world = begun(QWEN, settings, resources={"machine": "big", "nodeSelector": {"zone": "1"}})
    pod = world.jobs[PREPARE]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "big", "zone": "1"}


UNKNOWN_NAMES = {
    "not in the table": ({"machine": "h100"}, TABLE, ("resources.machine is h100", "cpu, t4, a100, a100x8")),
    "no table": ({"machine": "h100"}, SETTINGS, ("resources.machine is h100", "is empty", "machines")),
    "auto without a table": ({"machine": "auto"}, SETTINGS, ("resources.machine is auto", "is empty")),
}


@pytest.mark.parametrize(("resources", "settings", "words"), UNKNOWN_NAMES.values(), ids=UNKNOWN_NAMES)
def test_a_machine_that_is_not_there_is_an_invalid_spec(resources, settings, words):
    world = begun(LLAMA, settings, resources=resources)
    assert (world.status["phase"], world.reason, world.jobs) == ("Failed", "InvalidSpec", {})
    for part in words:
        assert part in world.message


def test_a_machine_that_is_taken_from_the_table_is_waited_for():
    world = begun(LLAMA, resources={"machine": "a100"})
    world.complete(PREPARE)
    settle(world, OperatorSettings(machines=parse_machines(ROWS[:2])))
    assert (world.status["phase"], world.reason) == ("Preparing", "MissingReference")
    assert "with a row a100" in world.message
    settle(world)
    assert TRAIN in world.jobs


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"training": {"globalBatchSize": 12}}, ("on machine a100x8", "12 rows cannot be shared equally by 8")),
        ({"distributed": {"numProcPerNode": 16}}, ("numProcPerNode: 16", "a100x8 has 8 GPUs")),
    ],
)
def test_what_does_not_go_with_the_gpus_of_a_machine_is_an_invalid_spec(spec, words):
    world = begun(LLAMA, resources={"machine": "a100x8"}, **spec)
    assert (world.reason, world.jobs) == ("InvalidSpec", {})
    for part in words:
        assert part in world.message


def a_plan(machine: str = "a100", **train) -> dict:
    needs = {"memory": "3Gi", "disk": "1Gi"}
    return {
        "machine": machine, "strategy": "ddp", "microBatchSize": 2, "reasons": {"strategy": "x"},
        "stages": {"prepare": needs, "train": {**needs, "gpuMemory": "20Gi", **train}, "publish": needs},
    }  # fmt: skip


def test_the_plan_of_prepare_replaces_what_was_planned_without_the_data():
    world = begun(LLAMA, resources={"machine": "a100"})
    assert world.status["plan"]["microBatchSize"] != 2
    world.complete(PREPARE, {"plan": {**a_plan(), "unknown": None}})
    settle(world)
    assert world.status["plan"] == a_plan()
    assert memory(world, TRAIN) == ("3Gi", None)
    world.complete(TRAIN)
    settle(world)
    assert memory(world, PUBLISH) == ("3Gi", "3Gi")
    assert world.status["plan"] == a_plan()


def test_where_only_prepare_reads_the_model_its_plan_chooses_the_machine():
    world = begun(None, resources={"machine": "auto"})
    assert [row["name"] for row in json.loads(variable(world, PREPARE, "TUNESMITH_MACHINE"))] == [
        "cpu", "t4", "a100", "a100x8",
    ]  # fmt: skip
    world.complete(PREPARE, {"plan": a_plan("a100")})
    settle(world)
    assert world.jobs[TRAIN]["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "a100"}
    assert world.status["resolved"]["resources.machine"]["value"] == "a100"


def test_a_plan_whose_pod_was_removed_is_asked_for_again():
    world = begun(None, resources={"machine": "auto"}, scheduling={"maxRestarts": 1})
    world.complete(PREPARE, {})
    settle(world)
    again = PREPARE.removesuffix("1") + "2"
    assert (world.reason, list(world.jobs)) == ("Preparing", [PREPARE, again])
    world.complete(again, {})
    settle(world)
    assert (world.reason, list(world.jobs)) == ("InvalidSpec", [PREPARE, again])


@pytest.mark.parametrize("result", [{"plan": {"machine": 3}}, {"plan": {"stages": "x"}}, {"plan": "x"}])
def test_without_a_valid_plan_there_is_no_machine_to_choose(result):
    world = begun(None, resources={"machine": "auto"})
    world.complete(PREPARE, result)
    settle(world)
    assert (world.reason, list(world.jobs)) == ("InvalidSpec", [PREPARE])
    assert "write one of the machines cpu, t4, a100, a100x8" in world.message


def test_a_plan_of_prepare_that_does_not_fit_asks_for_no_gpu():
    world = begun(None, resources={"machine": "a100"})
    world.complete(PREPARE, {"plan": a_plan(gpuMemory="90Gi")})
    settle(world)
    assert (world.status["phase"], world.reason, list(world.jobs)) == ("Failed", "DoesNotFit", [PREPARE])
    assert world.message.startswith("training needs 90Gi of memory of each GPU, and a100 has 79Gi")


def test_prepare_itself_refuses_what_does_not_fit():
    world = begun(None, resources=GPU)
    words = {"reason": "DoesNotFit", "message": "full of 8B needs 90Gi", "remedy": "Write method: lora", "result": {}}
    world.ended(PREPARE, 22, words=words)
    world.fail(PREPARE)
    settle(world)
    assert (world.status["phase"], world.reason) == ("Failed", "DoesNotFit")
    assert world.message == "full of 8B needs 90Gi. Write method: lora"


@pytest.mark.parametrize("memory_text", ["0", "lots", "3Gi; rm", 7])
def test_a_memory_that_is_no_quantity_reaches_no_pod(memory_text):
    world = begun(None, resources=GPU)
    plan = a_plan()
    plan["stages"]["publish"] = {"memory": memory_text}
    world.complete(PREPARE, {"plan": plan})
    settle(world)
    world.complete(TRAIN)
    settle(world)
    assert memory(world, PUBLISH) == ("512Mi", None)


def test_what_the_stages_took_stands_beside_the_plan():
    world = begun(LLAMA, resources=GPU)
    took = {
        "prepare": {"memory": "2.1Gi", "seconds": 30.5},
        "train": {"memory": "9Gi", "gpuMemory": "18Gi", "seconds": 300.0, "secondsPerStep": 1.5},
        "publish": {"memory": "20Gi", "seconds": 99.0},
    }
    world.complete(PREPARE, {"measured": took["prepare"]})
    settle(world)
    assert world.status["measured"] == {"prepare": took["prepare"]}
    world.complete(TRAIN, {**TRAINED, "measured": took["train"]})
    settle(world)
    result = {"artifact": {"uri": "s3://b/x", "digest": "d"}, "metrics": {}, "measured": took["publish"]}
    world.complete(PUBLISH, result)
    settle(world)
    assert world.status["phase"] == "Succeeded"
    assert world.status["measured"] == took
    assert "plan" in world.status


@pytest.mark.parametrize("measured", [None, {}, "x", {"memory": 3}, {"seconds": "long"}])
def test_what_is_no_measurement_is_left_out(measured):
    world = begun(LLAMA, resources=GPU)
    world.complete(PREPARE, {"measured": measured})
    settle(world)
    assert "measured" not in world.status
    assert TRAIN in world.jobs


def test_a_new_volume_is_as_large_as_what_all_stages_write():
    world = begun(LLAMA, resources={"machine": "a100x8"}, method="full")
    size = world.claims["tiny-work"]["spec"]["resources"]["requests"]["storage"]
    needed = world.status["plan"]["stages"]["publish"]["disk"]
    assert float(size.removesuffix("Gi")) >= float(needed.removesuffix("Gi")) > 20
    assert world.status["resolved"]["storage.size"] == {"value": size, "reason": "the plan: what all stages write"}
    world.complete(PREPARE, {"plan": a_plan("a100x8")})
    settle(world)  # by a smaller plan
    assert world.claims["tiny-work"]["spec"]["resources"]["requests"]["storage"] == size
    assert begun(QWEN).status["resolved"]["storage.size"] == {"value": "20Gi", "reason": "default"}
    given = begun(LLAMA, resources={"machine": "a100x8"}, method="full", storage={"size": "1Ti"})
    assert given.claims["tiny-work"]["spec"]["resources"]["requests"]["storage"] == "1Ti"


def test_a_machine_is_a_row_with_its_units():
    machine = TABLE.machines[2]
    assert isinstance(machine, Machine)
    assert (machine.memory, machine.memory_of_gpu) == (200 * 2**30, 79 * 2**30)


def test_what_prepare_has_found_to_fit_is_not_refused_for_being_rounded_up():
    rows = [{"name": "l4", "gpu": "L4", "gpus": 1, "cpus": 4, "memory": "60Gi", "gpuMemory": "22.1Gi"}]
    settings = OperatorSettings(machines=parse_machines(rows))
    world = begun(None, settings, resources={"machine": "l4"})
    world.complete(PREPARE, {"plan": a_plan("l4", gpuMemory="22.25Gi")})
    settle(world, settings)
    assert TRAIN in world.jobs


class Configs(ModelConfigs):
    """Notes which models are looked for."""

    def __init__(self) -> None:
        self.looked: list[tuple[str, str | None]] = []

    def look(self, uri: str, revision: str | None) -> Lookup:
        self.looked.append((uri, revision))
        return Lookup(LLAMA)


def look(settings: OperatorSettings = TABLE, **spec) -> tuple[Lookup, Configs]:
    configs = Configs()
    reconciler = FineTuneJobReconciler(settings, configs)
    return reconciler._look(FineTuneJobSpec.model_validate({**World().job["spec"], **spec})), configs


def test_a_model_from_scratch_is_known_from_the_spec():
    found, configs = look(model={"scratch": {"hiddenSize": 64}})
    assert found.shape is not None
    assert (found.shape.hidden, found.is_reading, configs.looked) == (64, False, [])


def test_a_hub_model_is_looked_for_at_its_revision():
    assert look(model={"uri": "hf://a/b", "revision": "v1"})[1].looked == [("hf://a/b", "v1")]


@pytest.mark.parametrize(
    ("variable", "endpoint", "looks"),
    [
        ({"name": "HF_ENDPOINT", "value": "https://other"}, "", False),
        ({"name": "HF_ENDPOINT", "value": "https://other"}, "https://mirror", False),
        ({"name": "HF_ENDPOINT", "value": "https://mirror"}, "https://mirror", True),
        ({"name": "HF_ENDPOINT", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}, "https://mirror", False),
        ({"name": "HTTPS_PROXY", "value": "http://proxy"}, "https://mirror", True),
    ],
)
def test_the_hub_that_only_a_job_reads_is_not_asked(variable, endpoint, looks):
    settings = OperatorSettings(hub_endpoint=endpoint)
    found, configs = look(settings, podTemplate={"env": [variable]})
    assert (bool(configs.looked), found.shape is not None) == (looks, looks)
