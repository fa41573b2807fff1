"""Plans a job from its model's config.json: memory, disk, time and price, before anything runs. Imports no torch."""

from tunesmith_api.planner.choose import DoesNotFit, choose
from tunesmith_api.planner.devices import DEVICES, Device
from tunesmith_api.planner.disk import disk_of
from tunesmith_api.planner.machine import MACHINES, Machine, parse_machines
from tunesmith_api.planner.own_machine import OWN_MACHINE, own_machine
from tunesmith_api.planner.plan import Plan, plan, processes_on, quantity
from tunesmith_api.planner.price_list import PriceRow, price_list
from tunesmith_api.planner.rank_memory import RankMemory, rank_memory
from tunesmith_api.planner.setup import DataShape, Setup
from tunesmith_api.planner.shape import Linear, ModelShape, UnknownModel
from tunesmith_api.planner.stages import StageNeed

__all__ = [
    "DEVICES",
    "MACHINES",
    "OWN_MACHINE",
    "DataShape",
    "Device",
    "DoesNotFit",
    "Linear",
    "Machine",
    "ModelShape",
    "Plan",
    "PriceRow",
    "RankMemory",
    "Setup",
    "StageNeed",
    "UnknownModel",
    "choose",
    "disk_of",
    "own_machine",
    "parse_machines",
    "plan",
    "price_list",
    "processes_on",
    "quantity",
    "rank_memory",
]
