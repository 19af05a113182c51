{{- define "millrace.name" -}}{{ .Values.name | default .Release.Name }}{{- end }}

{{/* The labels of an object: root, component, flow. */}}
{{- define "millrace.labels" -}}
app.kubernetes.io/name: millrace
app.kubernetes.io/instance: {{ include "millrace.name" .root }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .flow }}
millrace/flow: {{ . | quote }}
millrace/metrics: http
{{- end }}
{{- end }}

{{/* The labels by which its pods are found again. */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/instance: {{ include "millrace.name" .root }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .flow }}
millrace/flow: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Name, namespace and labels: root, name, component, flow. */}}
{{- define "millrace.metadata" -}}
name: {{ printf "%s-%s" (include "millrace.name" .root) .name }}
{{- with .root.Values.namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "millrace.labels" . | nindent 2 }}
{{- end }}

{{/* What tells one content of flows.yaml and its modules from another. */}}
{{- define "millrace.flows" -}}
{{- $all := "" -}}
{{- range $name, $text := .Values.files }}{{ $all = printf "%s%s\n%s\n" $all $name $text }}{{ end -}}
{{ include "millrace.name" . }}-flows-{{ $all | sha256sum | trunc 10 }}
{{- end }}

{{- define "millrace.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "millrace.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{- define "millrace.nodes" -}}
{{- range $name, $value := . }}
{{ if eq $name "hostname" }}kubernetes.io/hostname{{ else }}{{ $name }}{{ end }}: {{ $value | quote }}
{{- end }}
{{- end }}
