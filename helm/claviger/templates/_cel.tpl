{{- /*
A YAML value as a CEL literal. Every value in it is wrapped in dyn(), as CEL's literals are homogeneous. What is CEL
already stands in it as {$cel: EXPRESSION}.
*/ -}}
{{- define "claviger.cel" -}}
{{- if and (kindIs "map" .) (hasKey . "$cel") -}}
{{ index . "$cel" }}
{{- else if kindIs "map" . -}}
{ {{- $first := true }}{{ range $key, $value := . }}{{ if not $first }}, {{ end }}{{ $first = false }}{{ $key | toRawJson }}: dyn({{ include "claviger.cel" $value }}){{ end -}} }
{{- else if kindIs "slice" . -}}
[ {{- range $number, $value := . }}{{ if $number }}, {{ end }}dyn({{ include "claviger.cel" $value }}){{ end -}} ]
{{- else -}}
{{ toRawJson . }}
{{- end -}}
{{- end -}}
