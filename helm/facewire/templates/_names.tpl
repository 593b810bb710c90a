{{/* Names and labels. Templates take a list: the root, then what they are about. */}}

{{- define "facewire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "facewire" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-facewire" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "facewire.selector" -}}
app.kubernetes.io/name: facewire
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* (root, component). `part-of` is what deploy/prometheus/kubernetes.yaml finds pods by. */}}
{{- define "facewire.labels" -}}
{{- $root := index . 0 -}}
{{ include "facewire.selector" $root }}
app.kubernetes.io/component: {{ index . 1 | quote }}
app.kubernetes.io/part-of: facewire
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* (root, component): name, namespace and labels of an object's metadata. */}}
{{- define "facewire.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "facewire.fullname" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "facewire.labels" . | nindent 2 }}
{{- end }}

{{/* (image, image over it), as YAML. A digest names one image: it does not hold for another repository, nor beside a tag over it. */}}
{{- define "facewire.imageOver" -}}
{{- $image := deepCopy (index . 0) -}}
{{- $over := default dict (index . 1) -}}
{{- if or $over.repository $over.tag }}{{ $_ := unset $image "digest" }}{{ end -}}
{{- toYaml (mergeOverwrite $image (deepCopy $over)) -}}
{{- end }}

{{/* (root, image): its reference. */}}
{{- define "facewire.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $repository := required "image.repository: name the image of `facewire`" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest | quote -}}
{{- else -}}
{{- printf "%s:%s" $repository (default $root.Chart.AppVersion $image.tag) | quote -}}
{{- end -}}
{{- end }}

{{/* (root, service) */}}
{{- define "facewire.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.serviceAccounts.create -}}
{{- include "facewire.fullname" $root }}-{{ index . 1 -}}
{{- else -}}
{{- $root.Values.serviceAccounts.name -}}
{{- end -}}
{{- end }}
