{{- /*
The one template of the sidecar. Charts include it, the injection policy says it as CEL, the kustomize component is made of it.

Each takes one dict:
  values      the values of claviger-lib (or those of the chart claviger, which begin alike)
  config      the name of the ConfigMap whose key `config.yaml` is the config; its other keys are files beside it, as vault-ca.pem
  containers  the names of the containers that get a socket, in the order of the pod
*/ -}}

{{- /* The sidecar: put it first among initContainers. */ -}}
{{- define "claviger.sidecar" -}}
name: claviger
image: {{ include "claviger.image" .values | quote }}
{{- with .values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
restartPolicy: Always
args: {{ concat (list "run" "--config=/etc/claviger/config.yaml") .values.sidecar.extraArgs | toJson }}
env:
- {name: CLAVIGER_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: CLAVIGER_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: CLAVIGER_POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: CLAVIGER_SERVICE_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: CLAVIGER_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
{{- with .values.sidecar.env }}
{{ toYaml . }}
{{- end }}
ports:
- {name: claviger, containerPort: {{ include "claviger.port" .values }}, protocol: TCP}
{{- $probe := ternary "ready" "startup" (eq .values.sidecar.waitFor "secrets") }}
startupProbe:
  exec: {command: [/claviger, probe, {{ $probe }}, --config=/etc/claviger/config.yaml]}
  {{- toYaml .values.sidecar.startupProbe | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: claviger}
  {{- toYaml .values.sidecar.livenessProbe | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: claviger}
  {{- toYaml .values.sidecar.readinessProbe | nindent 2 }}
resources: {{- toYaml .values.sidecar.resources | nindent 2 }}
{{- $security := .values.sidecar.securityContext }}
{{- if ((.values.global).openshift) }}{{ $security = omit $security "runAsUser" "runAsGroup" }}{{ end }}
securityContext: {{- toYaml $security | nindent 2 }}
volumeMounts:
- {name: claviger-config, mountPath: /etc/claviger, readOnly: true}
- {name: claviger-token, mountPath: /var/run/secrets/claviger, readOnly: true}
- {name: claviger-journal, mountPath: /var/lib/claviger}
{{- if include "claviger.needsApi" .values }}
- {name: claviger-api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
{{- with .values.sidecar.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- range $number, $container := .containers }}
- {{ include "claviger.socketMount" (dict "number" $number "container" $container) }}
{{- end }}
{{- end -}}

{{- /* The pod's volumes. */ -}}
{{- define "claviger.volumes" -}}
- name: claviger-config
  projected:
    sources:
    - configMap: {name: {{ .config }}}
    {{- with .values.caBundle.configMapName }}
    - configMap: {name: {{ . }}, items: [{key: {{ $.values.caBundle.key }}, path: vault-ca.pem}]}
    {{- end }}
    {{- with .values.caBundle.secretName }}
    - secret: {name: {{ . }}, items: [{key: {{ $.values.caBundle.key }}, path: vault-ca.pem}]}
    {{- end }}
    {{- with .values.caBundle.clusterTrustBundle }}
    - clusterTrustBundle: {name: {{ . }}, path: vault-ca.pem}
    {{- end }}
- name: claviger-token
  projected:
    sources:
    - serviceAccountToken: {audience: {{ .values.token.audience }}, expirationSeconds: {{ .values.token.expirationSeconds }}, path: token}
- name: claviger-journal
  emptyDir: {sizeLimit: {{ .values.volumes.journal.sizeLimit }}}
{{- if include "claviger.needsApi" .values }}
- name: claviger-api
  projected:
    sources:
    - serviceAccountToken: {expirationSeconds: 3600, path: token}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with .values.sidecar.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- range $number, $container := .containers }}
- {{ include "claviger.socketVolume" (dict "values" $.values "number" $number) }}
{{- end }}
{{- end -}}

{{- /* The mount of one client container, which is `container` of the dict: the same at every client, so that /run/claviger/claviger.sock is its own. */ -}}
{{- define "claviger.mount" -}}
{{- if not (has .container .containers) }}{{ fail (printf "claviger.mount: %q is not among the containers %s" .container (.containers | toJson)) }}{{ end -}}
{{- range $number, $container := .containers -}}
{{- if eq $container $.container -}}
{{ include "claviger.clientMount" (dict "number" $number) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
The parts that belong to one client. They are numbered, as a container's name may have 63 characters and a volume's no more. The
policy says them with CEL in place of the number and the name.
*/ -}}
{{- define "claviger.socketVolume" -}}
{name: claviger-socket-{{ .number }}, emptyDir: {medium: Memory, sizeLimit: {{ .values.volumes.socket.sizeLimit }}}}
{{- end -}}
{{- define "claviger.socketMount" -}}
{name: claviger-socket-{{ .number }}, mountPath: /run/claviger/{{ .container }}}
{{- end -}}
{{- define "claviger.clientMount" -}}
{name: claviger-socket-{{ .number }}, mountPath: /run/claviger, readOnly: true}
{{- end -}}

{{- /* registry/repository:tag@digest; takes the values. */ -}}
{{- define "claviger.image" -}}
{{- $registry := (.global).imageRegistry | default .image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}:{{ .image.tag | default (include "claviger.version" .) }}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- /* The port of health, by the config that is known; takes the values. */ -}}
{{- define "claviger.port" -}}
{{- $listen := ((.config).health).listen | default "[::]:8099" -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{- /* Whether the sidecar speaks to the API server, by the config that is known; takes the values. */ -}}
{{- define "claviger.needsApi" -}}
{{- if eq .token.apiServer "always" -}}
yes
{{- else if eq .token.apiServer "auto" -}}
{{- range $name, $rotation := ((.config).rotations) -}}
{{- if include "claviger.leaseOf" (dict "name" $name "rotation" $rotation "namespace" "any") -}}yes{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
The Lease of a rotation, as NAMESPACE/NAME, if it has `coordination: kubernetes`. Takes {name, rotation, namespace: that of the pod}.
*/ -}}
{{- define "claviger.leaseOf" -}}
{{- $said := (.rotation).coordination | default "vault" -}}
{{- if kindIs "map" $said -}}
{{- $lease := $said.kubernetes | default dict -}}
{{ $lease.namespace | default .namespace }}/{{ $lease.lease | default (printf "rot-%s" .name) }}
{{- else if eq $said "kubernetes" -}}
{{ .namespace }}/rot-{{ .name }}
{{- end -}}
{{- end -}}

{{- /* The version that these templates are for. */ -}}
{{- define "claviger.version" -}}0.1.0{{- end -}}
