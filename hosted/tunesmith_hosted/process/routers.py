"""The routers of all rooms; each room adds its own here."""

from fastapi import APIRouter

from tunesmith_hosted.tenants import audit_routes, key_routes, project_routes, usage_routes

ROUTERS: tuple[APIRouter, ...] = (
    project_routes.router,
    key_routes.router,
    audit_routes.router,
    usage_routes.router,
)
