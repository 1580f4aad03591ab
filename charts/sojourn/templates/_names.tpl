{{/* Labels of every object of the release. */}}
{{- define "sojourn.labels" -}}
{{ include "sojourn.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the operator's pod. */}}
{{- define "sojourn.selector" -}}
app.kubernetes.io/name: sojourn-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Name of everything in the release's namespace. */}}
{{- define "sojourn.name" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of everything that belongs to no namespace, so that two releases do not share it. */}}
{{- define "sojourn.clusterName" -}}
{{ printf "%s-%s-operator" .Release.Namespace .Release.Name }}
{{- end }}

{{/* An image of ours: what the values say, or the one of this version. */}}
{{- define "sojourn.image" -}}
{{ .own | default (printf "ghcr.io/sojourn-dev/%s:%s" .name .root.Chart.AppVersion) }}
{{- end }}
