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

{{- /* The Job that tunes: the release's own, and the one that the controller makes for every TuningRun. */}}
{{- define "tune.jobSpec" -}}
backoffLimit: 0
{{- if semverCompare ">=1.26-0" .Capabilities.KubeVersion.Version }}
# A pod that was told to stop (its node is drained, say) is made anew: it is no failure of the run. 130 is `tune`'s own word.
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    - action: Ignore
      onPodConditions: [] # which older schemas require
      onExitCodes: {containerName: tune, operator: In, values: [130]}
{{- end }}
activeDeadlineSeconds: {{ .Values.tuner.activeDeadlineSeconds }}
template:
  metadata:
    labels: {{- include "tune.labels" . | nindent 6 }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "tune.name" . }}
    automountServiceAccountToken: true
    terminationGracePeriodSeconds: 120
    {{- include "tune.pod" . | nindent 4 }}
    containers:
      - name: tune
        {{- include "tune.container" . | nindent 8 }}
        args:
          - --service=/spec/spec.yaml
          - --runner=kubernetes
          - --output=/work/results
          - --budget={{ .Values.budget }}
          - --parallel={{ .Values.parallel }}
          - --seed={{ .Values.seed }}
          - --resume
          {{- if .Values.metrics.enabled }}
          - --metrics-host=0.0.0.0
          - --metrics-port={{ .Values.metrics.port }}
          {{- end }}
          - --json
        {{- if .Values.metrics.enabled }}
        ports:
          - {name: metrics, containerPort: {{ .Values.metrics.port }}}
        {{- end }}
        env:
          - {name: TUNE_IMAGE, value: {{ include "tune.image" . | quote }}}
          - {name: TUNE_LOAD_IMAGE, value: {{ include "tune.loadImage" . | quote }}}
          {{- with .Values.trials.namespace }}
          - {name: TUNE_NAMESPACE, value: {{ . | quote }}}
          {{- end }}
          - {name: HOME, value: /tmp}
          # Owns what its trials leave in this namespace, should it be killed before it has removed that itself.
          - {name: TUNE_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
          - {name: TUNE_POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
          - {name: TUNE_POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
          {{- if .Values.storage.secret }}
          - name: TUNE_STORAGE
            valueFrom: {secretKeyRef: {name: {{ .Values.storage.secret }}, key: {{ .Values.storage.key }}}}
          {{- end }}
        {{- if .Values.secrets }}
        envFrom:
          - secretRef: {name: {{ .Values.secrets }}}
        {{- end }}
        resources: {{- toYaml .Values.tuner.resources | nindent 10 }}
        volumeMounts:
          - {name: spec, mountPath: /spec, readOnly: true}
          - {name: work, mountPath: /work}
          - {name: tmp, mountPath: /tmp}
    volumes:
      - {name: spec, configMap: {name: {{ include "tune.name" . }}}}
      - name: work
        {{- if .Values.tuner.volumeClaim }}
        persistentVolumeClaim: {claimName: {{ .Values.tuner.volumeClaim }}}
        {{- else }}
        emptyDir: {}
        {{- end }}
      - {name: tmp, emptyDir: {}}
{{- end }}
