"""The reconciler of FineTuneJobs: gathers the observed state for `decide`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError

from tunesmith_api import status as state
from tunesmith_api.failures import Reason
from tunesmith_api.objects import FineTuneJobSpec
from tunesmith_api.planner import ModelShape, UnknownModel
from tunesmith_api.planner.hub import HUB_ENDPOINT
from tunesmith_api.work_folder import Stage
from tunesmith_operator.config.settings import OperatorSettings
from tunesmith_operator.engine.invalid import invalid_spec
from tunesmith_operator.engine.labels import OWNER_UID
from tunesmith_operator.engine.reconciler import Context, Decision, KubeObject, Store
from tunesmith_operator.finetunejob import names, pending
from tunesmith_operator.finetunejob.decide import decide
from tunesmith_operator.finetunejob.observed import Observed
from tunesmith_operator.finetunejob.publish_inputs import must_publish_again
from tunesmith_operator.models.configs import Lookup, ModelConfigs

_CLAIM = "PersistentVolumeClaim"
_REMEMBERED = 4096


class FineTuneJobReconciler:
    """Runs each stage of a FineTuneJob as a Job.

    Args:
        settings: Images, machines and the progress server.
        configs: Reads the configurations of models.
    """

    kind = names.KIND

    def __init__(self, settings: OperatorSettings, configs: ModelConfigs | None = None) -> None:
        self._settings = settings
        self._configs = configs or ModelConfigs(settings.hub_endpoint)
        self._specs: OrderedDict[tuple[str, int], FineTuneJobSpec] = OrderedDict()

    async def reconcile(self, obj: KubeObject, context: Context) -> Decision:
        """Return the decision about a FineTuneJob that exists."""
        try:
            spec = self._spec(obj)
        except ValidationError as error:
            return _invalid(obj, error)
        observed = await self._observe(obj, spec, context)
        return decide(observed, self._settings)

    def map_to_names(self, kind: str, obj: KubeObject, store: Store) -> list[str]:
        """Return nothing: a FineTuneJob depends on its own children only."""
        return []

    def _spec(self, obj: KubeObject) -> FineTuneJobSpec:
        """Return the spec of a job, parsed once for each generation."""
        key = (obj["metadata"]["uid"], obj["metadata"].get("generation", 1))
        if key not in self._specs:
            self._specs[key] = FineTuneJobSpec.model_validate(obj["spec"])
            if len(self._specs) > _REMEMBERED:
                self._specs.popitem(last=False)
        return self._specs[key]

    async def _observe(self, obj: KubeObject, spec: FineTuneJobSpec, context: Context) -> Observed:
        store, about = context.store, obj["metadata"]
        uid, namespace = about["uid"], about["namespace"]
        claim_name, claim = self._own_claim(obj, spec, store)
        observed = Observed(
            job=obj,
            spec=spec,
            now=datetime.now(UTC),
            claim_name=claim_name,
            claim=claim,
            jobs=tuple(store.owned("Job", uid)),
            pods=tuple(store.owned("Pod", uid)),
            errors=context.errors,
        )
        if "deletionTimestamp" in about or (state.is_finished(observed.status) and not must_publish_again(observed)):
            return observed
        if spec.storage.claim_name is not None:
            # The user's own claim has no owner label, so it is not watched.
            observed = replace(observed, claim=await context.api.read(_CLAIM, namespace, spec.storage.claim_name))
        attempts = observed.attempts()
        if not attempts and not observed.status.get("plan"):
            found = self._look(spec)
            observed = replace(observed, shape=found.shape, is_reading_model=found.is_reading)
        stage = Stage(list(attempts)[-1]) if attempts else Stage.PREPARE
        job = observed.job_of(stage, attempts.get(stage.value, 0))
        wanted = pending.needs_events(observed, job, observed.now) if job is not None else []
        events = {name: await context.api.events(kind, namespace, name) for kind, name in wanted}
        return replace(observed, events=events)

    def _look(self, spec: FineTuneJobSpec) -> Lookup:
        """Return what can be known of a job's model before its first stage."""
        model, template = spec.model, spec.pod_template
        if model.scratch is not None:
            try:
                return Lookup(ModelShape.of_scratch(model.scratch))
            except UnknownModel:
                return Lookup()  # planned by no one, as any model that the planner does not know
        own = {variable.name: variable.value for variable in (template.env or ())} if template else {}
        if HUB_ENDPOINT in own and own[HUB_ENDPOINT] != self._settings.hub_endpoint:
            return Lookup()  # The stages read another hub.
        return self._configs.look(model.uri or "", model.revision)

    def _own_claim(self, obj: KubeObject, spec: FineTuneJobSpec, store: Store) -> tuple[str | None, KubeObject | None]:
        """Return the name of the work volume's claim if it has one, and the claim if it exists and is the job's own."""
        about = obj["metadata"]
        if spec.storage.claim_name is not None or spec.storage.uri is not None:
            return spec.storage.claim_name, None
        for claim in store.owned(_CLAIM, about["uid"]):
            return str(claim["metadata"]["name"]), claim
        # An earlier job of this name may have left its artifact on a volume of the usual name.
        usual = names.claim_name(about["name"], about["uid"], taken=False)
        left = store.get(_CLAIM, about["namespace"], usual)
        taken = left is not None and (left["metadata"].get("labels") or {}).get(OWNER_UID) != about["uid"]
        return names.claim_name(about["name"], about["uid"], taken=taken), None


def _invalid(obj: KubeObject, error: ValidationError) -> Decision:
    """Return the decision about a job that the API server accepted, but whose spec this operator cannot parse."""
    status = {key: value for key, value in (obj.get("status") or {}).items() if key != "progress"}
    if not status.get("conditions"):
        status = state.accepted({}, obj["metadata"].get("generation", 1))
    if state.is_finished(status):
        return Decision(status=status)
    return Decision(status=state.failed(status, Reason.INVALID_SPEC.value, invalid_spec(error)))
