{{/* The release's name for its objects; shortened so that suffixes fit. */}}
{{- define "tunesmith.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tunesmith.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "tunesmith.fullname" . }}{{ else }}default{{ end }}
{{- end }}

{{- define "tunesmith.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "tunesmith.labels" -}}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{ include "tunesmith.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tunesmith
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's reference: (dict "image" IMAGE "root" $). */}}
{{- define "tunesmith.image" -}}
{{- $registry := .root.Values.registry | trimSuffix "/" -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The servers' images by execution provider, as JSON. */}}
{{- define "tunesmith.servingImages" -}}
{{- $images := dict -}}
{{- range $provider, $image := .Values.servingImages -}}
{{- $_ := set $images $provider (include "tunesmith.image" (dict "image" $image "root" $)) -}}
{{- end -}}
{{ $images | toJson }}
{{- end }}

{{/* What the operator may do where it watches. No Secrets: pods mount them by name, and the kubelet says when one is missing. */}}
{{- define "tunesmith.rules" -}}
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs, inferenceworkspaces]
  verbs: [get, list, watch]
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/status, inferenceworkspaces/status]
  verbs: [patch]
# Owner references that block deletion: where OwnerReferencesPermissionEnforcement is on, as on OpenShift, only who may
# finalize the owner may set them.
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs/finalizers, inferenceworkspaces/finalizers]
  verbs: [update]
# spec.ttlSecondsAfterFinished: the operator deletes jobs that ended so long ago.
- apiGroups: [tunesmith.dev]
  resources: [finetunejobs]
  verbs: [delete]
# Jobs are made once and never written again: what Kueue changes in them stays. Only an owner label that somebody has
# taken away is given back (patch).
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [""]
  resources: [services, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, update, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, update, delete]
# An annotation of a running server's pod is changed when its list of adapters does (patch): the kubelet then mounts the
# new list at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
# Told about its objects, and read where only an event says why a pod does not start.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create]
# The certificate authority of the progress server, one ConfigMap a namespace, and the list of adapters of a workspace,
# NAME-adapters. A rule cannot say such names. Those of others are neither listed nor watched.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, get, patch]
{{- end }}
