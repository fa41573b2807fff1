{{- define "tunesmith.hosted.name" -}}
{{ include "tunesmith.fullname" . }}-hosted
{{- end }}

{{- define "tunesmith.hosted.serviceAccount" -}}
{{ .Values.hosted.serviceAccount.name | default (include "tunesmith.hosted.name" .) }}
{{- end }}

{{/* ClusterRole of what the service may do in the namespaces of projects. */}}
{{- define "tunesmith.hosted.projectRole" -}}
{{ .Release.Namespace }}-{{ include "tunesmith.hosted.name" . }}-project
{{- end }}

{{- define "tunesmith.hosted.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-hosted
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: hosted
{{- end }}

{{/* Labels of an object of the service: (dict "root" $ "selector" TEMPLATE). */}}
{{- define "tunesmith.hosted.labelsOf" -}}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{ include .selector .root }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tunesmith
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tunesmith.hosted.labels" -}}
{{ include "tunesmith.hosted.labelsOf" (dict "root" . "selector" "tunesmith.hosted.selector") }}
{{- end }}

{{/* Names of the Secrets of which every project's namespace gets a copy. */}}
{{- define "tunesmith.hosted.secrets" -}}
{{- $names := .Values.hosted.projects.secrets -}}
{{- with .Values.hosted.files.existingSecret }}{{ $names = append $names . }}{{ end -}}
{{ uniq $names | toJson }}
{{- end }}

{{/* The variable with the database's URL. */}}
{{- define "tunesmith.hosted.database" -}}
- name: TUNESMITH_HOSTED_DATABASE
  valueFrom:
    secretKeyRef:
      {{- if .Values.hosted.database.trial.enabled }}
      name: {{ include "tunesmith.hosted.name" . }}-database
      key: url
      {{- else }}
      name: {{ .Values.hosted.database.existingSecret }}
      key: {{ .Values.hosted.database.key }}
      {{- end }}
{{- end }}

{{/* What a pod of the service is, whatever it runs. */}}
{{- define "tunesmith.hosted.pod" -}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.hosted.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hosted.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The container that brings the tables up to date. */}}
{{- define "tunesmith.hosted.migrate" -}}
- name: migrate
  image: {{ include "tunesmith.image" (dict "image" .Values.hosted.image "root" .) | quote }}
  imagePullPolicy: {{ .Values.imagePullPolicy }}
  args: [migrate]
  securityContext: {{- toYaml .Values.securityContext | nindent 4 }}
  env:
    {{- include "tunesmith.hosted.database" . | nindent 4 }}
    {{- with .Values.hosted.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources:
    requests: {cpu: 50m, memory: 128Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
{{- end }}
