"""Each rule must be able to fail: the chart is broken in one place at a time, and somebody has to say so."""

import concurrent.futures
import pathlib
import shutil
import tempfile

import rules

# File, text, its replacement, values, and what must be said of it.
BREAKAGES = [
    ("_pod.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "small", "more than it needs"),
    ("_pod.tpl", "  type: RuntimeDefault", "  type: Unconfined", "small", "seccomp"),
    ("_pod.tpl", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "small", "token"),
    ("_pod.tpl", "enableServiceLinks: false", "enableServiceLinks: true", "small", "variables of Services"),
    ("_pod.tpl", "- { name: tmp, mountPath: /tmp }\n{{ if ne", "{{ if ne", "small", "temporary files"),
    ("_pod.tpl", "{{ if $values.authorities.existingSecret -}}\n- { name", "{{ if $service.needs.index -}}\n- { name", "production", "is not mounted"),
    ("_config.tpl", "{{ if $values.authorities.existingSecret -}}", "{{ if $needs.index -}}", "production", "does not trust"),
    ("_pod.tpl", "path: {{ $file | quote }}", "path: {{ $file | quote }}, moed: 1", "production", "moed"),
    ("_pod.tpl", "    items:\n      - { key: {{ $file | quote }}", "    optional: false\n    {{- with 1 }}\n    {{- end }}\n    items:\n      - { key: other.nk", "production", "keys of other users"),
    ("_config.tpl", '{{ include "facewire.secretEnv" (list $env "FACEWIRE__POSTGRES__URL"', '- { name: FACEWIRE__POSTGRES__URL, value: x }\n{{ $_ := (list $env "FACEWIRE__POSTGRES__URL"', "small", "not from a secret"),
    ("_config.tpl", "{{- if not (hasKey (index . 0) (index . 1)) -}}", "{{- if true -}}", "existing-servers", "FACEWIRE__POSTGRES__URL twice"),
    ("deployments.yaml", "terminationGracePeriodSeconds: {{ $grace }}", "terminationGracePeriodSeconds: 25", "small", "before its drain"),
    ("deployments.yaml", "{{- add (int (index . 1).startupSeconds)", "{{- min (int (index . 1).startupSeconds)", "gpu", "is given up within"),
    ("deployments.yaml", "containerPort: {{ $root.Values.health.port }}", "containerPort: 9999", "small", "listens on"),
    ("deployments.yaml", "periodSeconds: 10", "periodSecond: 10", "small", "periodSecond"),
    ("deployments.yaml", "{{- if not (include", "{{- if (include", "small", "something scales"),
    ("accounts.yaml", "| fromYamlArray", "| fromYamlArray | rest", "small", "does not exist"),
    ("migrate.yaml", "pre-install,pre-upgrade", "post-install", "small", "no hook before"),
    ("migrate.yaml", '(list "-10" "before-hook-creation")', '(list "10" "before-hook-creation")', "small", "made after it"),
    ("scaling.yaml", "  pollingInterval:", "  pollInterval:", "production", "pollInterval"),
    ("scaling.yaml", "name: {{ include \"facewire.fullname\" $root }}-{{ $name }}\n  pollingInterval", "name: x\n  pollingInterval", "production", "does not exist"),
    ("scaling.yaml", "unhealthyPodEvictionPolicy", "unhealthyPodPolicy", "small", "unhealthyPodPolicy"),
    ("network.yaml", "{{- if $needs.rows }}", "{{- if $needs.http }}", "small", "cannot reach"),
    ("network.yaml", "{{- if $needs.index }}", "{{- if $needs.rows }}", "small", "does not need"),
    ("network.yaml", "{{- if and $needs.images (hasPrefix", "{{- if and $needs.rows (hasPrefix", "production", "cannot reach"),
    ("network.yaml", 'include "facewire.object" (list . "NetworkPolicy/deny"', 'printf "" }}{{- $_ := (list . "NetworkPolicy/deny"', "small", "denies"),
    ("network.yaml", "{{- if $root.Values.telemetry.otlp.endpoint }}", "{{- if $needs.stage }}", "production", "cannot reach"),
    ("network.yaml", "{{- if $needs.webhooks }}", "{{- if $needs.models }}", "small", "cannot reach"),
    ("network.yaml", "{{- if $needs.webhooks }}", "{{- if $needs.models }}", "production", "cannot reach"),
    ("network.yaml", '$net.dns "UDP" "TCP"', '$net.dns "TCP"', "small", "cannot reach"),
    ("network.yaml", "operator: NotIn", "operator: In", "small", "denies"),
    ("_pod.tpl", "- { name: nats-tls, mountPath: /etc/facewire/nats-tls, readOnly: true }", "", "production", "nats-tls is mounted nowhere"),
    ("_pod.tpl", "mountPath: /etc/facewire/nats-tls,", "mountPath: /etc/facewire/tls,", "production", "nats-tls/ca.crt is not mounted"),
    ("_pod.tpl", "- { name: postgres-tls, mountPath: /etc/facewire/postgres, readOnly: true }", "", "production", "postgres-tls is mounted nowhere"),
    ("_pod.tpl", "- { name: gateway-tls, mountPath: /etc/facewire/gateway-tls, readOnly: true }", "", "existing-servers", "gateway-tls/tls.crt is not mounted"),
    ("_pod.tpl", "- { name: images, mountPath: /images }", "", "existing-servers", "/images is not mounted"),
    ("_pod.tpl", "mountPath: /etc/facewire/nats,", "mountPath: /etc/facewire/seeds,", "production", "nats/match.nk is not mounted"),
    ("_pod.tpl", 'printf "%s.%s" $name', 'printf "%s_1.%s" $name', "gpu", "keys of other users|is not mounted"),
    ("_pod.tpl", "- { name: models, mountPath: /models, readOnly: true }", "- { name: models, mountPath: /packs, readOnly: true }", "small", "/models is not mounted"),
    ("_config.tpl", "(default $name $values.postgres.key)", '"migrate"', "production", "has the URL of migrate"),
    ("scaling.yaml", "minReplicaCount: {{ $service.autoscaling.minReplicas }}", "minReplicaCount: 0", "gpu", "comes back with no replica"),
    ("scaling.yaml", "maxUnavailable: 1", "maxUnavailable: 0", "small", "lets no pod go"),
    ("gateway.yaml", "targetPort: http", "targetPort: health", "small", "another port than http"),
    ("monitoring.yaml", "targetPort: health", "targetPort: http", "gpu", "another port than health"),
    ("gateway.yaml", "app.kubernetes.io/component: gateway", "app.kubernetes.io/component: gate", "small", "selects nothing"),
    ("gateway.yaml", "hostnames:", "hosts:", "gpu", "hosts"),
    ("monitoring.yaml", "targetLabel: job", "targetLable: job", "production", "targetLable"),
    ("monitoring.yaml", "$group := (index", "$group := rest (index", "production", "not what deploy/prometheus has"),
    ("monitoring.yaml", "facewire-{{ index . 1 }}.json", "facewire_{{ index . 1 }}.json", "production", "not those of deploy/grafana"),
    ("_names.tpl", "app.kubernetes.io/instance: {{ .Release.Name | quote }}", "app.kubernetes.io/instance: {{ .Release.Name }}", "gpu", "no text|not of type"),
    ("_names.tpl", "app.kubernetes.io/name: facewire", "app.kubernetes.io/name: {{ .Values.health.port }}", "small", "no text|not of type"),
]


def said(chart: pathlib.Path, breakage, render, known) -> str | None:
    """What is wrong with the checks, if the broken chart passes them."""
    file, old, new, values, words = breakage
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "facewire"
        shutil.copytree(chart, copy)
        path = copy / "templates" / file
        text = path.read_text(encoding="utf-8")
        if old not in text:
            return f"breakages.py: {file} has no {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")
        documents, error = render(copy, values)
    if error:
        return f"breakages.py: {file} with {new!r} does not render: {error}"
    found = [fault for document in documents if (fault := known.fault(document, "1.33"))]
    found += rules.faults(documents) + rules.copies(documents, chart.parents[1] / "deploy")
    if not any(word in fault for fault in found for word in words.split("|")):
        return f"breakages.py: nobody notices {new!r} in {file}: {found[:3]}"
    return None


def faults(chart: pathlib.Path, render, known) -> list[str]:
    # Without the definitions, nobody can notice a wrong field of theirs.
    cases = [b for b in BREAKAGES if not (known.unchecked_groups and b[0] in ("scaling.yaml", "monitoring.yaml"))]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(lambda breakage: said(chart, breakage, render, known), cases)
    return [fault for fault in found if fault]
