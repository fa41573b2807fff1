{{/* What the operator is told, by the names of its settings without the prefix TUNESMITH_. */}}
{{- define "tunesmith.settings" -}}
NAMESPACES: {{ join "," .Values.watchNamespaces | quote }}
TRAINER_IMAGE: {{ include "tunesmith.image" (dict "image" .Values.trainerImage "root" .) | quote }}
SERVING_IMAGE: {{ include "tunesmith.image" (dict "image" .Values.servingImage "root" .) | quote }}
SERVING_IMAGES: {{ include "tunesmith.servingImages" . | quote }}
IMAGE_PULL_POLICY: {{ .Values.imagePullPolicy | quote }}
IMAGE_PULL_SECRETS: {{ join "," .Values.imagePullSecrets | quote }}
MACHINES: {{ .Values.machines | toJson | quote }}
HUB_ENDPOINT: {{ .Values.hubEndpoint | quote }}
LEADER_ELECTION: {{ .Values.leaderElection.enabled | quote }}
LEASE_NAME: {{ include "tunesmith.fullname" . | quote }}
LEASE_SECONDS: {{ .Values.leaderElection.leaseSeconds | quote }}
WORKERS: {{ .Values.workers | quote }}
RESYNC_SECONDS: {{ .Values.resyncSeconds | quote }}
HEALTH_PORT: {{ .Values.metrics.port | quote }}
{{- if .Values.progress.enabled }}
PROGRESS_PORT: {{ .Values.progress.port | quote }}
PROGRESS_URL: {{ printf "https://%s-progress.%s.svc:%d" (include "tunesmith.fullname" .) .Release.Namespace (int .Values.progress.port) | quote }}
PROGRESS_SECRET: {{ printf "%s-progress" (include "tunesmith.fullname" .) | quote }}
{{- else }}
PROGRESS_PORT: "0"
{{- end }}
CLUSTER_DOMAIN: {{ .Values.clusterDomain | quote }}
LOG_FORMAT: {{ .Values.log.format | quote }}
LOG_LEVEL: {{ .Values.log.level | quote }}
{{- end }}
