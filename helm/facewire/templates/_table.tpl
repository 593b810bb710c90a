{{/*
The services: what each needs, and what a stage consumes. tests/it/deploy/chart.rs compares this with the code's own table.
*/}}
{{- define "facewire.table" -}}
ingest: { stage: ingest, stream: CROPS, consumer: ingest, rows: true, images: true }
quality: { stage: quality, stream: QUALITY, consumer: quality, models: true, images: true }
embed-gpu: { stage: embed, stream: EMBED, consumer: embed-gpu, models: true }
match: { stage: match, stream: MATCH, consumer: match, rows: true, index: true }
enrich: { stage: enrich, stream: ENRICH, consumer: enrich, rows: true }
reconciler: { rows: true, index: true, images: true }
gateway: { rows: true, index: true, images: true, http: true, webhooks: true }
jobs: { rows: true, index: true, images: true }
migrate: { rows: true, index: true }
{{- end }}

{{/* (root, service): the service's values over the defaults, with its row of the table in `needs`. As YAML. */}}
{{- define "facewire.service" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $own := default dict (index $root.Values.services $name) -}}
{{- $values := mergeOverwrite (deepCopy $root.Values.defaults) (deepCopy $own) -}}
{{- /* A variable is taken whole: a `valueFrom` names one source. */ -}}
{{- $_ := set $values "env" (default dict $values.env) -}}
{{- range $key, $value := $own.env }}{{ $_ := set $values.env $key $value }}{{ end -}}
{{- $image := include "facewire.imageOver" (list $root.Values.image $root.Values.defaults.image) | fromYaml -}}
{{- $_ := set $values "image" (include "facewire.imageOver" (list $image $own.image) | fromYaml) -}}
{{- $row := index (include "facewire.table" $root | fromYaml) $name -}}
{{- toYaml (set $values "needs" (default dict $row)) -}}
{{- end }}

{{/* root: the services that are enabled, one a line of a YAML list, in the table's order of names. */}}
{{- define "facewire.enabled" -}}
{{- $root := . -}}
{{- range $name, $service := $root.Values.services }}
{{- if $service.enabled }}
- {{ $name }}
{{- end }}
{{- end }}
{{- end }}

{{/* (root, service): whether something else than `replicas` decides how many pods there are. */}}
{{- define "facewire.scaled" -}}
{{- $root := index . 0 -}}
{{- $service := index . 1 -}}
{{- if and (eq $root.Values.autoscaling.mode "keda") $service.needs.stage -}}keda
{{- else if and (ne $root.Values.autoscaling.mode "none") $service.autoscaling -}}hpa
{{- end -}}
{{- end }}

{{/* (root, "Kind/name", text): the object, with its patch from `merge` laid over it. As YAML. */}}
{{- define "facewire.patched" -}}
{{- $root := index . 0 -}}
{{- $object := index . 2 | fromYaml -}}
{{- if hasKey $object "Error" }}{{ fail (printf "%s: %s" (index . 1) $object.Error) }}{{ end -}}
{{- $patch := index $root.Values.merge (index . 1) -}}
{{- toYaml (mergeOverwrite $object (deepCopy (default dict $patch))) -}}
{{- end }}

{{/* The same as a document of its own. */}}
{{- define "facewire.object" -}}
---
{{ include "facewire.patched" . }}
{{ end }}
