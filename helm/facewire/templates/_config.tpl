{{/* facewire.toml and the environment. */}}

{{/*
root: settings that values set, each with its value. What else follows from a value (ports, mounts, periods, policies) would not follow
from `config`, and a variable of the chart goes over it.
*/}}
{{- define "facewire.valued" -}}
nats.url: nats.url
nats.replicas: nats.replicas
nats.tls.required: nats.tls.required
{{- if .Values.nats.tls.existingSecret }}
nats.tls.ca: nats.tls.ca
nats.tls.certificate: nats.tls.certificate
nats.tls.key: nats.tls.key
{{- end }}
{{- if ne .Values.nats.auth "none" }}
nats.nkey: nats.existingSecret
nats.credentials: nats.existingSecret
nats.inbox_prefix: nats.inboxPrefix
{{- end }}
postgres.max_connections: postgres.maxConnections
qdrant.url: qdrant.url
qdrant.collection: qdrant.collection
images.url: images.url
images.region: images.region
images.endpoint: images.endpoint
{{- if .Values.images.existingSecret }}
images.access_key_id: images.existingSecret
{{- end }}
models.pack: models.pack
models.provider: models.provider
models.head: models.head.fingerprint
{{- /* Another address of the same port follows. */}}
{{- $config := .Values.config | default dict }}
{{- if ne (get (get $config "health" | default dict) "listen" | toString | splitList ":" | last) (toString .Values.health.port) }}
health.listen: health.port
{{- end }}
{{- if ne (get (get $config "gateway" | default dict) "listen" | toString | splitList ":" | last) (toString .Values.gateway.port) }}
gateway.listen: gateway.port
{{- end }}
{{- if .Values.gateway.tls.existingSecret }}
gateway.tls.certificate: gateway.tls.existingSecret
gateway.tls.key: gateway.tls.existingSecret
{{- end }}
telemetry.format: telemetry.format
telemetry.filter: telemetry.filter
telemetry.otlp.endpoint: telemetry.otlp.endpoint
telemetry.otlp.protocol: telemetry.otlp.protocol
telemetry.otlp.sample: telemetry.otlp.sample
shutdown.grace: shutdown.graceSeconds
{{- end }}

{{/* root: nothing, or the end where `config` sets what a value sets. */}}
{{- define "facewire.refuseValued" -}}
{{- $config := .Values.config -}}
{{- range $path, $value := include "facewire.valued" . | fromYaml -}}
{{- $found := $config -}}
{{- $there := true -}}
{{- range $key := splitList "." $path -}}
{{- if and $there (kindIs "map" $found) -}}
{{- $there = hasKey $found $key -}}
{{- $found = get $found $key -}}
{{- else -}}
{{- $there = false -}}
{{- end -}}
{{- end -}}
{{- if $there -}}
{{- fail (printf "config.%s: use the value %s, from which the chart also makes what has to fit it" $path $value) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* root: what the chart sets, with `config` over what has no value of its own. As YAML. */}}
{{- define "facewire.settings" -}}
{{- $values := .Values -}}
{{- $tls := dict -}}
{{- if $values.nats.tls.required }}{{ $_ := set $tls "required" true }}{{ end -}}
{{- with $values.nats.tls.existingSecret -}}
{{- range $option := list "ca" "certificate" "key" -}}
{{- with index $values.nats.tls $option }}{{ $_ := set $tls $option (printf "/etc/facewire/nats-tls/%s" .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $nats := dict "url" $values.nats.url "replicas" $values.nats.replicas -}}
{{- if $tls }}{{ $_ := set $nats "tls" $tls }}{{ end -}}
{{- $qdrant := dict "url" $values.qdrant.url "collection" $values.qdrant.collection -}}
{{- $clear := dig "qdrant" "allow_key_in_clear" false $values.config -}}
{{- if and $values.qdrant.existingSecret (hasPrefix "http://" $values.qdrant.url) (not $clear) -}}
{{- fail "qdrant.url: a key goes over https:// only, unless config.qdrant.allow_key_in_clear says that what lies between encrypts" -}}
{{- end -}}
{{- $plain := dig "images" "allow_http" false $values.config -}}
{{- with $values.images.endpoint -}}
{{- /* The program itself lets loopback through. */ -}}
{{- $loopback := regexMatch "^http://(localhost|[^/:]+\\.localhost|127\\.[0-9.]+|\\[::1\\])(:|/|$)" . -}}
{{- if and (hasPrefix "s3://" $values.images.url) (hasPrefix "http://" .) (not $loopback) (not $plain) -}}
{{- fail "images.endpoint: images go over https:// only, unless config.images.allow_http is set" -}}
{{- end -}}
{{- end -}}
{{- /* Another directory may be a volume of `merge`; this one is the claim's alone. */ -}}
{{- $mounted := regexMatch "^file:///images(/|$)" $values.images.url -}}
{{- if and $mounted (not $values.images.existingClaim) -}}
{{- fail "images.url: nothing is mounted at /images, and pods can write nowhere else: set images.existingClaim" -}}
{{- end -}}
{{- if and $values.images.existingClaim (not $mounted) -}}
{{- fail "images.existingClaim: it is mounted at /images: images.url has to be file:///images or below it" -}}
{{- end -}}
{{- range $path := list (list "postgres" "url") (list "qdrant" "api_key") (list "images" "secret_access_key") (list "telemetry" "otlp" "headers") -}}
{{- $found := $values.config -}}
{{- range $key := $path }}{{ $found = dig $key "" (kindIs "map" $found | ternary $found dict) }}{{ end -}}
{{- if $found -}}
{{- fail (printf "config.%s: a ConfigMap is no place for secrets: name an existing Secret, or give a service's `env` a `valueFrom`" (join "." $path)) -}}
{{- end -}}
{{- end -}}
{{- include "facewire.refuseValued" . -}}
{{- with $values.telemetry.otlp }}{{ if hasPrefix "https://" (.endpoint | default "") -}}
{{- if eq .protocol "http" -}}
{{- fail "telemetry.otlp: the protocol http goes without TLS; https:// takes grpc" -}}
{{- end -}}
{{- if not (or (dig "telemetry" "otlp" "ca" "" $values.config) (hasKey $values.defaults.env "FACEWIRE__TELEMETRY__OTLP__CA")) -}}
{{- fail "telemetry.otlp.endpoint: https:// takes the authority's file, config.telemetry.otlp.ca" -}}
{{- end -}}
{{- end }}{{ end -}}
{{- $otlp := dict -}}
{{- with $values.telemetry.otlp }}{{ if .endpoint -}}
{{- $otlp = dict "endpoint" .endpoint "protocol" .protocol "sample" .sample "metrics" false -}}
{{- end }}{{ end -}}
{{- $telemetry := dict "format" $values.telemetry.format -}}
{{- with $values.telemetry.filter }}{{ $_ := set $telemetry "filter" . }}{{ end -}}
{{- if $otlp }}{{ $_ := set $telemetry "otlp" $otlp }}{{ end -}}
{{- $settings := dict
  "nats" $nats
  "qdrant" $qdrant
  "postgres" (dict "max_connections" $values.postgres.maxConnections)
  "models" (dict
    "pack" $values.models.pack
    "provider" $values.models.provider
    "directory" (ternary "/usr/share/facewire/models" "/models" (eq $values.models.volume.type "none")))
  "health" (dict "listen" (printf "0.0.0.0:%d" (int $values.health.port)))
  "telemetry" $telemetry
  "gateway" (dict "listen" (printf "0.0.0.0:%d" (int $values.gateway.port)))
  "shutdown" (dict "grace" (printf "%ds" (int $values.shutdown.graceSeconds)))
-}}
{{- with $values.models.head }}{{ if .fingerprint -}}
{{- $_ := set $settings.models "head" (ternary (printf "/heads/%s.onnx" .fingerprint) .fingerprint (ne .existingClaim "")) -}}
{{- end }}{{ end -}}
{{- if $values.gateway.tls.existingSecret -}}
{{- $_ := set $settings.gateway "tls" (dict "certificate" "/etc/facewire/gateway-tls/tls.crt" "key" "/etc/facewire/gateway-tls/tls.key") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $settings (deepCopy $values.config)) -}}
{{- end }}

{{/*
(path, map): a TOML table with what is below it. JSON's scalars and lists of scalars are TOML's. Helm's own toToml writes every
number as a float.
*/}}
{{- define "facewire.toml" -}}
{{- $path := index . 0 -}}
{{- $table := index . 1 -}}
{{- if $path }}
[{{ $path }}]
{{ end -}}
{{- range $key, $value := $table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) -}}
{{ include "facewire.tomlKey" $key }} = {{ $value | toJson }}
{{ end -}}
{{- end -}}
{{- range $key, $value := $table }}
{{- if kindIs "map" $value -}}
{{- $below := include "facewire.tomlKey" $key -}}
{{ include "facewire.toml" (list (ternary (printf "%s.%s" $path $below) $below (ne $path "")) $value) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "facewire.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* root: the data of the ConfigMap. */}}
{{- define "facewire.configData" -}}
facewire.toml: |
  # Made by the chart. What no value of it sets is set in `config`.
  {{- include "facewire.toml" (list "" (include "facewire.settings" . | fromYaml)) | nindent 2 }}
{{- end }}

{{/* (env, name, value): a variable of the chart; the one of the values, where `env` has it, stands alone. */}}
{{- define "facewire.plainEnv" -}}
{{- if not (hasKey (index . 0) (index . 1)) -}}
- name: {{ index . 1 }}
  value: {{ index . 2 | quote }}
{{ end -}}
{{- end }}

{{/* (env, name, secret, key, what to do without a secret): the same from a secret. */}}
{{- define "facewire.secretEnv" -}}
{{- if not (hasKey (index . 0) (index . 1)) -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ required (index . 4) (index . 2) | quote }}
      key: {{ index . 3 | quote }}
{{ end -}}
{{- end }}

{{/* (root, name, service): every variable of a container. */}}
{{- define "facewire.env" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $service := index . 2 -}}
{{- $env := $service.env -}}
{{- $needs := $service.needs -}}
{{- $values := $root.Values -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE_CONFIG" "/etc/facewire/config/facewire.toml") -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE_CACHE" "/tmp/cache") -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE_DATA" "/tmp/data") -}}
{{ if eq $values.nats.auth "nkey" -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__NATS__NKEY" (printf "/etc/facewire/nats/%s.nk" $name)) -}}
{{ else if eq $values.nats.auth "creds" -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__NATS__CREDENTIALS" (printf "/etc/facewire/nats/%s.creds" $name)) -}}
{{ end -}}
{{ if ne $values.nats.auth "none" -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__NATS__INBOX_PREFIX" (printf "%s%s" $values.nats.inboxPrefix $name)) -}}
{{ end -}}
{{ if $needs.rows -}}
{{ include "facewire.secretEnv" (list $env "FACEWIRE__POSTGRES__URL" $values.postgres.existingSecret (default $name $values.postgres.key) "postgres.existingSecret: name the secret with the URLs") -}}
{{ end -}}
{{ if $values.authorities.existingSecret -}}
{{ include "facewire.plainEnv" (list $env "SSL_CERT_FILE" (printf "/etc/facewire/authorities/%s" $values.authorities.key)) -}}
{{ end -}}
{{ if and $needs.index $values.qdrant.existingSecret -}}
{{ include "facewire.secretEnv" (list $env "FACEWIRE__QDRANT__API_KEY" $values.qdrant.existingSecret $values.qdrant.key "") -}}
{{ end -}}
{{ if and $needs.images $values.images.url -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__IMAGES__URL" $values.images.url) -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__IMAGES__REGION" $values.images.region) -}}
{{ with $values.images.endpoint -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__IMAGES__ENDPOINT" .) -}}
{{ end -}}
{{ with $values.images.existingSecret -}}
{{ include "facewire.secretEnv" (list $env "FACEWIRE__IMAGES__ACCESS_KEY_ID" . "access-key-id" "") -}}
{{ include "facewire.secretEnv" (list $env "FACEWIRE__IMAGES__SECRET_ACCESS_KEY" . "secret-access-key" "") -}}
{{ end -}}
{{ end -}}
{{ if and $needs.models $service.provider -}}
{{ include "facewire.plainEnv" (list $env "FACEWIRE__MODELS__PROVIDER" $service.provider) -}}
{{ end -}}
{{ range $key, $value := $env -}}
- name: {{ $key | quote }}
  {{ if kindIs "map" $value }}{{ toYaml $value | nindent 2 | trim }}{{ else }}value: {{ $value | quote }}{{ end }}
{{ end -}}
{{- end }}
