"""The routers of all rooms; each room adds its own here."""

from fastapi import APIRouter

from tunesmith_hosted.fine_tuning.permissions import router as permissions
from tunesmith_hosted.fine_tuning.routes import router as fine_tuning

ROUTERS: tuple[APIRouter, ...] = (fine_tuning, permissions)
