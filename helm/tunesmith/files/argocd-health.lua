-- Health of FineTuneJob and InferenceWorkspace for Argo CD (resource.customizations.health.tunesmith.dev_KIND).
-- Without it Argo CD takes every custom resource for healthy. docs/gitops.md says how to install it.
local health = {status = "Progressing", message = "Waiting for the operator"}
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  return health
end
local status = obj.status
if status == nil or status.observedGeneration == nil then
  return health
end
if obj.metadata.generation ~= nil and status.observedGeneration < obj.metadata.generation then
  health.message = "The operator has not seen the last change yet"
  return health
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready, stalled = found["Ready"], found["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.reason .. ": " .. stalled.message}
end
if ready == nil then
  return health
end
health.message = ready.reason .. ": " .. ready.message
-- What its user has stopped is as it should be: a sync does not wait for it.
if obj.spec ~= nil and obj.spec.suspend == true and ready.status == "Unknown" then
  health.status = "Suspended"
elseif ready.status == "True" then
  health.status = "Healthy"
end
return health
