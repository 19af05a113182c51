{{/* The services of flows.yaml, as JSON {"services": […], "scaler": …}: what millrace/render/plan.py finds out by making each source and sink, here
     by their types. */}}
{{- define "millrace.plan" -}}
{{- $root := . -}}
{{- $text := index .Values.files "flows.yaml" | default "" -}}
{{- if not $text }}{{ fail "files: expected flows.yaml: --set-file 'files.flows\\.yaml=flows.yaml'" }}{{ end -}}
{{- $document := fromYaml $text -}}
{{- if $document.Error }}{{ fail (printf "files.flows.yaml: %s" $document.Error) }}{{ end -}}
{{- range $name, $_ := .Values.flows -}}
  {{- if not (hasKey $document.flows $name) }}{{ fail (printf "flows.%s: there is no such flow: expected %s" $name (keys $document.flows | sortAlpha | join ", ")) }}{{ end -}}
{{- end -}}
{{- $services := list -}}
{{- range $name, $flow := $document.flows -}}
  {{- $slug := $name | replace "_" "-" | trimAll "-" -}}
  {{- $own := get $root.Values.flows $name | default dict -}}
  {{- $source := $flow.source -}}
  {{- if eq $source.type "stdin" }}{{ fail (printf "flows.%s.source: nobody writes to the standard input of a service: expected another source" $name) }}{{ end -}}
  {{- if ne $source.type "external" -}}
    {{- $share := dict "memory" "1GiB" "reserve" "256MiB" -}}
    {{- range $key, $value := $root.Values.producer }}{{ $_ := set $share $key $value }}{{ end -}}
    {{- range $key, $value := ($own.producer | default dict) }}{{ $_ := set $share $key $value }}{{ end -}}
    {{- $ends := include "millrace.ends" $source | eq "true" -}}
    {{- if hasKey $share "ends" }}{{ $ends = $share.ends }}{{ end -}}
    {{- $exclusive := include "millrace.exclusive" $source | eq "true" -}}
    {{- $replicas := ternary 2 1 (and $exclusive (not $ends)) -}}
    {{- if hasKey $share "replicas" }}{{ $replicas = int $share.replicas }}{{ end -}}
    {{- if and $ends (gt $replicas 1) }}{{ fail (printf "flows.%s.source: comes to an end, and then one of %d producers that stood by would read all of it again: expected flows.%s.producer.replicas: 1" $name $replicas $name) }}{{ end -}}
    {{- $services = append $services (dict "role" "producer" "flow" $name "slug" $slug "share" $share "replicas" $replicas "ends" $ends "files" false) -}}
  {{- end -}}
  {{- $share := dict "memory" "1GiB" "reserve" "256MiB" -}}
  {{- range $key, $value := $root.Values.consumer }}{{ $_ := set $share $key $value }}{{ end -}}
  {{- range $key, $value := ($own.consumer | default dict) }}{{ $_ := set $share $key $value }}{{ end -}}
  {{- $replicas := 2 -}}
  {{- if hasKey $share "replicas" }}{{ $replicas = int $share.replicas }}{{ end -}}
  {{- $sinks := ternary $flow.sink (list $flow.sink) (kindIs "slice" $flow.sink) -}}
  {{- $files := false -}}
  {{- range $sink := $sinks -}}
    {{- if has $sink.type (list "jsonl" "csv" "parquet" "delta" "sqlite" "duckdb") -}}
      {{- $path := include "millrace.text" (dict "root" $root "text" $sink.path) -}}
      {{- if not (contains "://" $path) -}}
        {{- $files = true -}}
        {{- if not (hasPrefix "/data/" $path) }}{{ fail (printf "flows.%s.sink.path: only /data can be written in a container: expected such as ${DATA:-data}/%s" $name (base $path)) }}{{ end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- $services = append $services (dict "role" "consumer" "flow" $name "slug" $slug "share" $share "replicas" $replicas "ends" false "files" $files) -}}
{{- end -}}
{{- $scaler := dict "role" "scaler" "flow" "" -}}
{{- range $service := append $services $scaler -}}
  {{- $needed := dict -}}
  {{- range $name, $flow := $document.flows -}}
    {{- range $part, $value := $flow -}}
      {{- $apart := has $part (list "source" "sink" "transforms") -}}
      {{- $mine := and (eq $name $service.flow) (ternary (eq $part "source") (ne $part "source") (eq $service.role "producer")) -}}
      {{- if or (not $apart) $mine }}{{ $_ := set $needed (printf "%s/%s" $name $part) $value }}{{ end -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $needed "project" ($document.project | default "") -}}
  {{- $variables := list -}}
  {{- range $kind := list "env" "secrets" -}}
    {{- range $name, $_ := get $root.Values $kind -}}
      {{- $pattern := printf "\\$\\{%s[-:}]" $name -}}
      {{- if or (regexMatch $pattern (toJson $needed)) (not (regexMatch $pattern (toJson $document))) }}{{ $variables = append $variables $name }}{{ end -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $service "variables" $variables -}}
{{- end -}}
{{- dict "services" $services "scaler" $scaler | toJson -}}
{{- end }}

{{/* A text of flows.yaml with the variables that the values give, and defaults for others. */}}
{{- define "millrace.text" -}}
{{- $text := toString .text -}}
{{- range $name, $value := merge dict .root.Values.env (dict "DATA" "/data") }}{{ $text = regexReplaceAllLiteral (printf "\\$\\{%s(:?-[^}]*)?\\}" $name) $text (toString $value) }}{{ end -}}
{{- regexReplaceAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*:?-([^}]*)\\}" $text "${1}" -}}
{{- end }}

{{/* Does the source come to an end by itself? */}}
{{- define "millrace.ends" -}}
{{- if eq .type "scrapy" }}true
{{- else if eq .type "rest" }}{{ not (or .every .cron) }}
{{- else if eq .type "files" }}{{ eq (.mode | default "once") "once" }}
{{- else if eq .type "schedule" }}{{ hasKey . "until" }}
{{- else if has .type (list "kafka" "redis" "sqs") }}{{ .until_empty | default false }}
{{- else }}false{{ end -}}
{{- end }}

{{/* Would two producers at once read all of it twice? */}}
{{- define "millrace.exclusive" -}}
{{- if has .type (list "sse" "websocket" "rest" "schedule" "files" "python") }}true
{{- else if eq .type "redis" }}{{ not .group }}
{{- else if eq .type "kafka" }}{{ or (not .group) (hasKey . "partitions") }}
{{- else }}false{{ end -}}
{{- end }}
