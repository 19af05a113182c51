{{/* Seconds of 20, 20s, 5m or 1h. */}}
{{- define "millrace.seconds" -}}
{{- $text := toString . -}}
{{- if hasSuffix "h" $text -}}{{ mul 3600 (trimSuffix "h" $text | int64) }}
{{- else if hasSuffix "m" $text -}}{{ mul 60 (trimSuffix "m" $text | int64) }}
{{- else -}}{{ trimSuffix "s" $text | int64 }}{{- end -}}
{{- end }}

{{/* 512MiB as Kubernetes writes it. */}}
{{- define "millrace.quantity" -}}{{ trimSuffix "B" . }}{{- end }}

{{/* 512MiB as Redis reads it: 512mb where that is exact, else bytes. */}}
{{- define "millrace.redisAmount" -}}
{{- $units := dict "" 1 "k" 1000 "Ki" 1024 "M" 1000000 "Mi" 1048576 "G" 1000000000 "Gi" 1073741824 "T" 1000000000000 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[a-zA-Z]*$" . | trimSuffix "B" -}}
{{- $bytes := mulf (regexFind "^[0-9.]+" . | float64) (get $units $unit | float64) | int64 -}}
{{- if eq (mod $bytes 1048576) 0 -}}{{ div $bytes 1048576 }}mb{{- else -}}{{ $bytes }}{{- end -}}
{{- end }}
