"""What the pods of both kinds have in common: the Pod Security level `restricted`, and secrets of registries."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith_api.objects.pod_template import PodTemplateSpec
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.reconciler import Object

_USER = 65532

DEFAULT_REQUESTS = {"cpu": "250m", "memory": "512Mi"}
"""Requests of a container whose spec gives none."""


def restricted_pod() -> Object:
    """Return the fields of a pod's spec that `restricted` asks for, without rights at the API server."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def restricted_container() -> Object:
    """Return the fields of a container that `restricted` asks for, with a root file system that is read-only."""
    return {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # The last lines of the log are what a status can quote.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def with_template_env(variables: Iterable[Object], template: PodTemplateSpec | None) -> list[Object]:
    """Return the variables of a container with those of the pod template, which win."""
    found = {variable["name"]: variable for variable in variables}
    for added in (template.env or ()) if template else ():
        found[added.name] = added.to_api()
    return list(found.values())


def accounts(template: PodTemplateSpec | None, settings: OperatorSettings) -> Object:
    """Return the service account and the registries' secrets of a pod, as the settings and its template name them."""
    fields: Object = {}
    if template and template.service_account_name:
        fields["serviceAccountName"] = template.service_account_name
    own = [item.name for item in (template.image_pull_secrets or ())] if template else []
    if pull := [*settings.image_pull_secrets, *own]:
        fields["imagePullSecrets"] = [{"name": name} for name in dict.fromkeys(pull)]
    return fields
