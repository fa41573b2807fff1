"""The routers of all rooms; each room adds its own here."""

from fastapi import APIRouter

ROUTERS: tuple[APIRouter, ...] = ()
