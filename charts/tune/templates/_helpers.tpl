{{- define "tune.name" -}}
{{ printf "%s-tune" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "tune.labels" -}}
app.kubernetes.io/name: tune
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "tune.trials" -}}
{{ .Values.trials.namespace | default .Release.Namespace }}
{{- end }}

{{- define "tune.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "tune.loadImage" -}}
{{ .Values.loadImage.repository | default (printf "%s-load" .Values.image.repository) }}:{{ .Values.loadImage.tag | default .Values.image.tag }}
{{- end }}

{{- define "tune.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
enableServiceLinks: false
{{- with .Values.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tune.container" -}}
image: {{ include "tune.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
