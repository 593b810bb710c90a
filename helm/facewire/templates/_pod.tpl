{{/* Pods. */}}

{{- define "facewire.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "facewire.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
root: whether those that compare embeddings read the packs' volume as well: a manifest, or a head. Of the pack `default` the program
knows the checksums, and with them the fingerprint; of every other only the installed manifest has them.
*/}}
{{- define "facewire.comparingReadsModels" -}}
{{- $models := .Values.models -}}
{{- if or (ne $models.pack "default") $models.custom (and $models.head.fingerprint (not $models.head.existingClaim)) }}true{{ end -}}
{{- end }}

{{/* (root, service): whether the pod mounts the packs. */}}
{{- define "facewire.mountsModels" -}}
{{- $root := index . 0 -}}
{{- $needs := (index . 1).needs -}}
{{- $mounts := or $needs.models (and $needs.index (include "facewire.comparingReadsModels" $root)) -}}
{{- if and $mounts (ne $root.Values.models.volume.type "none") }}true{{ end -}}
{{- end }}

{{/* (root, service): whether the pod mounts the claim with heads: it makes or compares embeddings. */}}
{{- define "facewire.mountsHead" -}}
{{- $needs := (index . 1).needs -}}
{{- $head := (index . 0).Values.models.head -}}
{{- if and (or $needs.models $needs.index) $head.existingClaim }}true{{ end -}}
{{- end }}

{{/* (root, name, service): volumes as a YAML list. */}}
{{- define "facewire.volumes" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $service := index . 2 -}}
{{- $values := $root.Values -}}
- name: config
  configMap:
    name: {{ include "facewire.fullname" $root }}-{{ ternary "migrate" "config" (eq $name "migrate") }}
- name: tmp
  emptyDir: {}
{{ if ne $values.nats.auth "none" -}}
{{ $file := printf "%s.%s" $name (ternary "nk" "creds" (eq $values.nats.auth "nkey")) -}}
- name: nats
  secret:
    secretName: {{ required "nats.existingSecret: name the secret with the users' keys" $values.nats.existingSecret | quote }}
    defaultMode: 0440
    # This user's key and no other.
    items:
      - { key: {{ $file | quote }}, path: {{ $file | quote }} }
{{ end -}}
{{ with $values.nats.tls.existingSecret -}}
- name: nats-tls
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{ end -}}
{{ if and $service.needs.rows $values.postgres.tls.existingSecret -}}
- name: postgres-tls
  secret:
    secretName: {{ $values.postgres.tls.existingSecret | quote }}
    defaultMode: 0440
{{ end -}}
{{ if $values.authorities.existingSecret -}}
- name: authorities
  secret:
    secretName: {{ $values.authorities.existingSecret | quote }}
    defaultMode: 0440
{{ end -}}
{{ if and $service.needs.http $values.gateway.tls.existingSecret -}}
- name: gateway-tls
  secret:
    secretName: {{ $values.gateway.tls.existingSecret | quote }}
    defaultMode: 0440
{{ end -}}
{{ if and $service.needs.images $values.images.existingClaim -}}
- name: images
  persistentVolumeClaim:
    claimName: {{ $values.images.existingClaim | quote }}
{{ end -}}
{{ if include "facewire.mountsModels" (list $root $service) -}}
- name: models
  {{- include "facewire.modelsVolume" $root | nindent 2 }}
{{ end -}}
{{ if include "facewire.mountsHead" (list $root $service) -}}
- name: head
  persistentVolumeClaim:
    claimName: {{ $values.models.head.existingClaim | quote }}
    readOnly: true
{{ end -}}
{{- end }}

{{- define "facewire.modelsVolume" -}}
{{- $volume := .Values.models.volume -}}
{{- if eq $volume.type "pvc" -}}
persistentVolumeClaim:
  claimName: {{ default (printf "%s-models" (include "facewire.fullname" .)) $volume.existingClaim | quote }}
{{- else if eq $volume.type "image" -}}
{{- if semverCompare "<1.35.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail "models.volume.type: `image` needs Kubernetes 1.35: older servers drop such a volume without a word" -}}
{{- end -}}
image:
  reference: {{ required "models.volume.image: name the image with the packs" $volume.image | quote }}
  pullPolicy: {{ $volume.pullPolicy }}
{{- else -}}
emptyDir: {}
{{- end -}}
{{- end }}

{{/* (root, service): where volumes are seen. */}}
{{- define "facewire.mounts" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- $values := $root.Values -}}
- { name: config, mountPath: /etc/facewire/config, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{ if ne $values.nats.auth "none" -}}
- { name: nats, mountPath: /etc/facewire/nats, readOnly: true }
{{ end -}}
{{ if $values.nats.tls.existingSecret -}}
- { name: nats-tls, mountPath: /etc/facewire/nats-tls, readOnly: true }
{{ end -}}
{{ if and $service.needs.rows $values.postgres.tls.existingSecret -}}
- { name: postgres-tls, mountPath: /etc/facewire/postgres, readOnly: true }
{{ end -}}
{{ if $values.authorities.existingSecret -}}
- { name: authorities, mountPath: /etc/facewire/authorities, readOnly: true }
{{ end -}}
{{ if and $service.needs.http $values.gateway.tls.existingSecret -}}
- { name: gateway-tls, mountPath: /etc/facewire/gateway-tls, readOnly: true }
{{ end -}}
{{ if and $service.needs.images $values.images.existingClaim -}}
- { name: images, mountPath: /images }
{{ end -}}
{{ if include "facewire.mountsModels" (list $root $service) -}}
- { name: models, mountPath: /models, readOnly: true }
{{ end -}}
{{ if include "facewire.mountsHead" (list $root $service) -}}
- { name: head, mountPath: /heads, readOnly: true }
{{ end -}}
{{- end }}

{{/* root: the init container that installs the pack of an image. Several may do so at once: whoever looks sees whole files. */}}
{{- define "facewire.install" -}}
{{- if ne .Values.models.pack "default" }}{{ fail "models.packImage holds the pack `default`" }}{{ end -}}
{{- with .Values.models }}
{{- if and .head.fingerprint (not .head.existingClaim) (eq .volume.type "emptyDir") }}
{{- fail "models.head: an emptyDir has only what packImage holds; name a claim with the head in models.head.existingClaim" }}
{{- end }}
{{- end -}}
initContainers:
  - name: models
    image: {{ .Values.models.packImage | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    securityContext:
      {{- include "facewire.containerSecurity" . | nindent 6 }}
    args: [models, install, default, --from, /usr/share/facewire/models/default]
    env:
      - { name: FACEWIRE__MODELS__DIRECTORY, value: /models }
    resources:
      {{- toYaml .Values.models.download.resources | nindent 6 }}
    volumeMounts:
      - { name: models, mountPath: /models }
      - { name: tmp, mountPath: /tmp }
{{- end }}

{{/* root: the init container that puts a missing pack in place. */}}
{{- define "facewire.download" -}}
{{- $root := . -}}
{{- $models := .Values.models -}}
initContainers:
  - name: models
    image: {{ required "models.download.image: name an image with sh, curl, tar and sha256sum" $models.download.image | quote }}
    imagePullPolicy: IfNotPresent
    securityContext:
      {{- include "facewire.containerSecurity" $root | nindent 6 }}
    # What is there stays. Several pods may do this at once: each unpacks beside, and the first one to rename wins.
    command:
      - sh
      - -euc
      - |
        test ! -e "/models/$PACK/pack.toml" || exit 0
        beside="/models/.$PACK.$POD"
        rm -rf "$beside"
        mkdir "$beside"
        trap 'rm -rf "$beside"' EXIT
        curl --fail --silent --show-error --location --proto =https --retry 5 --output "$beside/pack.tar.gz" "$URL"
        echo "$SHA256  $beside/pack.tar.gz" | sha256sum -c -
        tar -xzf "$beside/pack.tar.gz" -C "$beside"
        test -e "$beside/$PACK/pack.toml"
        mv -T "$beside/$PACK" "/models/$PACK" || test -e "/models/$PACK/pack.toml"
    env:
      - { name: URL, value: {{ $models.download.url | quote }} }
      - { name: SHA256, value: {{ required "models.download.sha256: a download is checked" $models.download.sha256 | quote }} }
      - { name: PACK, value: {{ $models.pack | quote }} }
      - name: POD
        valueFrom: { fieldRef: { fieldPath: metadata.name } }
    resources:
      {{- toYaml $models.download.resources | nindent 6 }}
    volumeMounts:
      - { name: models, mountPath: /models }
      - { name: tmp, mountPath: /tmp }
{{- end }}

{{/* (root, name, service): what every pod spec has, the migration's too. */}}
{{- define "facewire.podCommon" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
serviceAccountName: {{ include "facewire.serviceAccount" (list $root (index . 1)) | quote }}
automountServiceAccountToken: false
# Variables of Services in the namespace are none of ours.
enableServiceLinks: false
securityContext:
  {{- include "facewire.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $service.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $service.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $service.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $service.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $service.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and (include "facewire.mountsModels" (list $root $service)) (ne $root.Values.models.volume.type "image") }}
{{- if and $root.Values.models.packImage $root.Values.models.download.url }}
{{- fail "models: packImage and download both fill the volume: choose one" }}
{{- else if $root.Values.models.packImage }}
{{ include "facewire.install" $root }}
{{- else if $root.Values.models.download.url }}
{{ include "facewire.download" $root }}
{{- else if eq $root.Values.models.volume.type "emptyDir" }}
{{- fail "models.volume.type: nothing fills an emptyDir: name models.packImage or models.download" }}
{{- end }}
{{- end }}
volumes:
  {{- include "facewire.volumes" . | nindent 2 }}
{{- end }}

{{/* (root, name, service): the only container. */}}
{{- define "facewire.container" -}}
{{- $root := index . 0 -}}
{{- $service := index . 2 -}}
name: facewire
image: {{ include "facewire.image" (list $root $service.image) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  {{- include "facewire.containerSecurity" $root | nindent 2 }}
env:
  {{- include "facewire.env" . | nindent 2 }}
{{- $resources := deepCopy $service.resources }}
{{- with $service.gpu }}{{ if .enabled }}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict .resource (.count | int | toString))) }}
{{- end }}{{ end }}
resources:
  {{- toYaml $resources | nindent 2 }}
volumeMounts:
  {{- include "facewire.mounts" (list $root $service) | nindent 2 }}
{{- end }}
