"""The routers of all rooms; each room adds its own here."""

from fastapi import APIRouter

from tunesmith_hosted.console import pages, session_routes
from tunesmith_hosted.console import routes as console
from tunesmith_hosted.console.sign_in import routes as sign_in
from tunesmith_hosted.files import routes as files
from tunesmith_hosted.files import upload_routes as uploads
from tunesmith_hosted.fine_tuning import permissions
from tunesmith_hosted.fine_tuning import routes as fine_tuning
from tunesmith_hosted.models import routes as models
from tunesmith_hosted.routing import routes as routing
from tunesmith_hosted.routing import unsupported
from tunesmith_hosted.tenants import audit_routes, key_routes, project_routes, usage_routes

ROUTERS: tuple[APIRouter, ...] = (
    routing.router,  # first, since it is asked most often
    files.router,
    uploads.router,
    fine_tuning.router,
    permissions.router,
    models.router,
    unsupported.router,
    project_routes.router,
    key_routes.router,
    audit_routes.router,
    usage_routes.router,
    console.router,
    session_routes.router,
    sign_in.router,
    pages.router,
)
