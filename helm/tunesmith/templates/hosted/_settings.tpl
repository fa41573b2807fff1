{{/* The service's settings, as its file has them. JSON, for numbers stay what they are in it. */}}
{{- define "tunesmith.hosted.settings" -}}
{{- $hosted := .Values.hosted -}}
{{- $projects := $hosted.projects -}}
{{- $quotas := dict -}}
{{- range $name, $value := $hosted.quotas -}}
{{- $_ := set $quotas (snakecase $name) (ternary nil $value (eq (toString $value) "unlimited")) -}}
{{- end -}}
{{- $cluster := dict
  "system_namespace" .Release.Namespace
  "service_account" (include "tunesmith.hosted.serviceAccount" .)
  "role" (include "tunesmith.hosted.projectRole" .)
  "binding" (include "tunesmith.hosted.name" .)
  "files_secret" $hosted.files.existingSecret
  "pod_labels" $projects.podLabels
  "account_annotations" $projects.serviceAccountAnnotations
  "quota" $projects.resourceQuota
  "ingress" $projects.ingress
  "egress" $projects.egress -}}
{{- if include "tunesmith.hosted.secrets" . | fromJsonArray -}}
{{- $_ := set $cluster "secrets" "/etc/tunesmith/secrets" -}}
{{- end -}}
{{- $settings := dict
  "backend" "cluster"
  "files" $hosted.files.uri
  "namespace_prefix" $projects.namespacePrefix
  "bases" $hosted.bases
  "quotas" $quotas
  "idle_seconds" $hosted.idleSeconds
  "drain_seconds" (max 1 (sub (int $hosted.terminationGracePeriodSeconds) 20))
  "cluster" $cluster -}}
{{- with .Values.machines -}}
{{- $_ := set $settings "machines" . -}}
{{- end -}}
{{- if $hosted.signIn.providers -}}
{{- $_ := set $settings "sign_in" (pick $hosted.signIn "providers" "grants") -}}
{{- end -}}
{{- with $hosted.publicUrl -}}
{{- $_ := set $settings "public_url" . -}}
{{- end -}}
{{ merge (deepCopy $hosted.extraSettings) $settings | toPrettyJson }}
{{- end }}
