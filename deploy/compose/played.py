"""The chart's objects as `podman play kube` takes them: for deploy/play-kube.sh. Reads what Helm rendered, and writes three files into a
folder: `services.yaml`, the Deployments; `migrate.yaml`, the hook that runs before them; `test.yaml`, what `helm
test` runs; each with its ConfigMaps. Pods stay as the chart has them but for what podman 4.3 does otherwise than Kubernetes:

* It has no Jobs: the migration's pod is written as a Pod.
* It publishes every containerPort on the machine, where pods with the same one collide: ports are left out.
* It makes a curl in the container of each probe, and asks by timers of systemd: probes are left out, and play-kube.sh asks instead.
* It removes an init container that has ended, and fails where it takes it for running still: an annotation of the Deployment lets
  it stay.
* It writes a ConfigMap's files anew for every pod that mounts it, while a pod that was made before reads them, and finds an empty
  file: each pod gets ConfigMaps of its own.
* It knows an emptyDir by its name alone, and gives it to every pod that has the name: the pod's name is put before it. It knows no
  fsGroup: the script makes these volumes for the user of the pods, by the names that are printed.

    played.py FOLDER <rendered.yaml
"""

import pathlib
import sys

import yaml

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
STAYS = {"io.podman.annotations.init.container.type": "always"}


def adapted(name, pod, maps, empty):
    """Changes a pod's spec in place, and gives copies of the ConfigMaps that it mounts, for it alone; `empty` gets the volumes that the
    script makes."""
    names, copies = {}, []
    for volume in pod["volumes"]:
        if mounted := volume.get("configMap"):
            copies.append(maps[mounted["name"]] | {"metadata": {"name": f"{name}-{volume['name']}"}})
            mounted["name"] = copies[-1]["metadata"]["name"]
        if "emptyDir" in volume:
            names[volume["name"]] = volume["name"] = f"{name}-{volume['name']}"
    empty += names.values()
    for container in pod["containers"] + pod.get("initContainers", []):
        for key in ("ports", *PROBES):
            container.pop(key, None)
        for mount in container["volumeMounts"]:
            mount["name"] = names.get(mount["name"], mount["name"])
    return copies


def main():
    folder, documents = pathlib.Path(sys.argv[1]), [d for d in yaml.safe_load_all(sys.stdin) if d]
    files, empty = {"services": [], "migrate": [], "test": []}, []
    maps = {d["metadata"]["name"]: d for d in documents if d["kind"] == "ConfigMap"}
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "Deployment":
            file, pod = files["services"], document["spec"]["template"]["spec"]
        elif kind == "Job":
            file, template = files["migrate"], document["spec"]["template"]
            pod, metadata = template["spec"], {"name": name} | template["metadata"]
            document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}
        elif kind == "Pod":
            file, pod = files["test"], document["spec"]
        else:
            # Accounts, policies, budgets and Services: podman has none of them. ConfigMaps come with the pods.
            continue
        document["metadata"]["annotations"] = document["metadata"].get("annotations", {}) | STAYS
        file += [*adapted(name, pod, maps, empty), document]
    for file, objects in files.items():
        (folder / f"{file}.yaml").write_text(yaml.safe_dump_all(objects, sort_keys=False))
    print(*empty, sep="\n")


main()
