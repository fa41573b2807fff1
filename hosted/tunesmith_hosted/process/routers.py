"""The routers of all rooms; each room adds its own here."""

from fastapi import APIRouter

from tunesmith_hosted.files import routes as files
from tunesmith_hosted.files import upload_routes as uploads
from tunesmith_hosted.models import routes as models
from tunesmith_hosted.routing import routes as routing

ROUTERS: tuple[APIRouter, ...] = (files.router, uploads.router, models.router, routing.router)
