{{- /* What the schema cannot say: values that contradict each other, each with what would be right. */ -}}
{{- define "claviger.refuse" -}}
{{- $profiles := include "claviger.profiles" . | fromJson -}}
{{- if not $profiles }}
{{- fail "\n\nThere is no config. Set `config` with at least one of its `workloads`, or `profiles`, or `existingConfigMap`; `claviger check` explains what is wrong with one." }}
{{- end -}}
{{- range $profile, $values := $profiles -}}
{{- $at := ternary "" (printf "profiles.%s." $profile) (eq $profile "true") -}}
{{- if hasKey $.Values.profiles "false" }}{{ fail "\n\nprofiles.false: the label claviger.io/inject: \"false\" asks for no sidecar; give the profile another name." }}{{ end -}}
{{- if hasKey $.Values.profiles "true" }}{{ fail "\n\nprofiles.true: \"true\" is the profile without a name; its values stand at the top." }}{{ end -}}
{{- if and $values.existingConfigMap $values.caBundle.pem }}{{ fail (printf "\n\n%scaBundle.pem: put it into the ConfigMap %s, under the key vault-ca.pem." $at $values.existingConfigMap) }}{{ end -}}
{{- if and $values.existingConfigMap (hasKey (index $.Values.profiles $profile | default dict) "config") }}
{{- fail (printf "\n\n%sexistingConfigMap and %sconfig contradict each other; remove one." $at $at) }}
{{- end -}}
{{- $bundles := compact (list $values.caBundle.pem $values.caBundle.configMapName $values.caBundle.secretName $values.caBundle.clusterTrustBundle) -}}
{{- if gt (len $bundles) 1 }}{{ fail (printf "\n\n%scaBundle: give one of pem, configMapName, secretName and clusterTrustBundle, not %d." $at (len $bundles)) }}{{ end -}}
{{- if not $values.existingConfigMap -}}
{{- $ca := (($values.config).vault).ca_file | default "" -}}
{{- if and $bundles (ne $ca "/etc/claviger/vault-ca.pem") }}
{{- fail (printf "\n\n%sconfig.vault.ca_file is %q, but caBundle stands at /etc/claviger/vault-ca.pem; write that, or remove caBundle." $at $ca) }}
{{- end -}}
{{- if and (eq $ca "/etc/claviger/vault-ca.pem") (not $bundles) }}
{{- fail (printf "\n\n%sconfig.vault.ca_file is /etc/claviger/vault-ca.pem, but nothing is there: give %scaBundle the certificates, or a ConfigMap, a Secret or a ClusterTrustBundle that has them." $at $at) }}
{{- end -}}
{{- $listen := (($values.config).health).listen | default "[::]:8099" -}}
{{- if not (regexMatch "^(\\[::\\]|0\\.0\\.0\\.0):[1-9][0-9]*$" $listen) }}
{{- fail (printf "\n\n%sconfig.health.listen is %q, where the kubelet does not reach it; write \"[::]:8099\", or another port." $at $listen) }}
{{- end -}}
{{- end -}}
{{- $app := false }}{{ range $.Values.apps }}{{ if eq (.profile | default "true") $profile }}{{ $app = true }}{{ end }}{{ end -}}
{{- range $name, $rotation := ternary dict (($values.config).rotations | default dict) (not (not $values.existingConfigMap)) -}}
{{- if include "claviger.leaseOf" (dict "name" $name "rotation" $rotation "namespace" "any") -}}
{{- if eq $values.token.apiServer "never" }}{{ fail (printf "\n\n%stoken.apiServer is never, but %sconfig.rotations.%s has coordination: kubernetes, which needs the token; write auto." $at $at $name) }}{{ end -}}
{{- $pods := include "claviger.namespaces" $ | fromJsonArray -}}
{{- if and (gt (len $pods) 1) (hasPrefix "any/" (include "claviger.leaseOf" (dict "name" $name "rotation" $rotation "namespace" "any"))) }}
{{- fail (printf "\n\n%sconfig.rotations.%s: pods of %s would each have a Lease of their own; write coordination: {kubernetes: {namespace: %s}}." $at $name (join " and " $pods) (first $pods)) }}
{{- end -}}
{{- if not (or $.Values.rbac.rotators $.Values.rbac.leases $app) }}
{{- fail (printf "\n\n%sconfig.rotations.%s has coordination: kubernetes, but nobody may have its Lease: write the ServiceAccounts of these pods into rbac.rotators." $at $name) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $.Values.strictMode -}}
{{- if not $values.image.digest }}{{ fail (printf "\n\nstrictMode: %simage.digest is empty; `deploy/image` prints it." $at) }}{{ end -}}
{{- if has (toString ($values.config).sandbox) (list "off" "false") }}{{ fail (printf "\n\nstrictMode: %sconfig.sandbox is off; remove it." $at) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $.Values.strictMode -}}
{{- if or (eq .Values.injector.failurePolicy "Ignore") (eq .Values.guard.failurePolicy "Ignore") }}{{ fail "\n\nstrictMode: failurePolicy is Ignore; pods would be made without their sidecar, or unguarded. Write Fail." }}{{ end -}}
{{- if not .Values.guard.enabled }}{{ fail "\n\nstrictMode: guard.enabled is false." }}{{ end -}}
{{- end -}}
{{- if and (eq .Values.injector.mode "auto") (semverCompare "<1.36.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "\n\ninjector.mode: Kubernetes %s has no MutatingAdmissionPolicy; that is of 1.36 and later. Set injector.mode to off, and put the sidecar into your pods by the library chart claviger-lib or the kustomize component (deploy/kustomize/component)." .Capabilities.KubeVersion.Version) }}
{{- end -}}
{{- range $name, $app := .Values.apps -}}
{{- $profile := $app.profile | default "true" -}}
{{- if not (hasKey $profiles $profile) }}{{ fail (printf "\n\napps.%s.profile: there is no profile %q; there are: %s." $name $profile (keys $profiles | sortAlpha | join ", ")) }}{{ end -}}
{{- $names := list }}{{ range $app.containers }}{{ $names = append $names .name }}{{ end -}}
{{- range $app.clients }}{{ if not (has . $names) }}{{ fail (printf "\n\napps.%s.clients: there is no container %q; there are: %s." $name . (join ", " $names)) }}{{ end }}{{ end -}}
{{- $placement := (index $profiles $profile).sidecar.placement -}}
{{- $after := list }}{{ range $app.initContainers }}{{ $after = append $after (printf "after:%s" .name) }}{{ end -}}
{{- if not (has $placement (concat (list "first" "last") $after)) }}{{ fail (printf "\n\napps.%s: sidecar.placement is %s, but there is no init container %s here. If a webhook adds it later, give a profile without this placement to the app, or label a workload of your own." $name $placement (trimPrefix "after:" $placement)) }}{{ end -}}
{{- if and (eq $app.kind "CronJob") (not $app.schedule) }}{{ fail (printf "\n\napps.%s.schedule is missing: when does the CronJob run?" $name) }}{{ end -}}
{{- end -}}
{{- end -}}
