{{- /* Cut, so that a Service of a profile and a CronJob of an app, of 20 characters each, still have names that Kubernetes takes. */ -}}
{{- define "claviger.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 30 | trimSuffix "-" }}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The head of each object. Takes {root, name, namespace (none for what belongs to the cluster), labels, annotations}. */ -}}
{{- define "claviger.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
  {{- with merge (dict) (.labels | default dict) .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The namespaces in which pods may use the configs; a list as JSON. */ -}}
{{- define "claviger.namespaces" -}}
{{ .Values.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- end -}}

{{- /*
The profiles by the value of the label, each the sidecar's values with its own merged in; a dict as JSON. "true" is the one without a name: it is
there once the config has workloads.
*/ -}}
{{- define "claviger.profiles" -}}
{{- $base := pick .Values "image" "caBundle" "token" "volumes" "sidecar" "global" "config" "existingConfigMap" -}}
{{- $found := dict -}}
{{- if or .Values.existingConfigMap .Values.config.workloads }}{{ $_ := set $found "true" $base }}{{ end -}}
{{- range $name, $own := .Values.profiles }}{{ $_ := set $found $name (mergeOverwrite (deepCopy $base) (deepCopy $own)) }}{{ end -}}
{{ $found | toJson }}
{{- end -}}

{{- /* The ConfigMap of a profile. Takes {root, profile, values}. */ -}}
{{- define "claviger.configMap" -}}
{{- if .values.existingConfigMap -}}
{{ .values.existingConfigMap }}
{{- else if eq .profile "true" -}}
{{ include "claviger.fullname" .root }}-config
{{- else -}}
{{ include "claviger.fullname" .root }}-config-{{ .profile }}
{{- end -}}
{{- end -}}

{{- /* The policy that injects a profile. Takes {root, profile}. */ -}}
{{- define "claviger.policyName" -}}
{{ include "claviger.fullname" .root }}{{ if ne .profile "true" }}-{{ .profile }}{{ end }}
{{- end -}}

{{- /* Which pods have the sidecar, whatever their profile. */ -}}
{{- define "claviger.selector" -}}
matchExpressions:
- {key: claviger.io/inject, operator: Exists}
- {key: claviger.io/inject, operator: NotIn, values: ["false"]}
{{- end -}}
