{{- define "component.pod" -}}
{{- $from := dict "values" (index .Values "claviger-lib") "config" "claviger-config" "containers" (list "app") -}}
initContainers:
- {{- include "claviger.sidecar" $from | nindent 2 }}
containers:
- name: app
  volumeMounts:
  - {{ include "claviger.mount" (merge (dict "container" "app") $from) }}
volumes:
{{ include "claviger.volumes" $from }}
{{- end -}}
