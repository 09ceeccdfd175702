# SPDX-License-Identifier: Apache-2.0
"""Packs one layer into an image archive that containerd, podman and docker all load: an OCI layout with docker's own
manifest beside it."""
import hashlib, io, json, tarfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Archive:
    def __init__(self, path):
        self.tar = tarfile.open(path, "w")

    def add(self, name, data):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        self.tar.addfile(info, io.BytesIO(data))

    def blob(self, kind, data):
        """Adds a blob; returns its descriptor."""
        name = hashlib.sha256(data).hexdigest()
        self.add("blobs/sha256/" + name, data)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + name, "size": len(data)}


def make(layer_path, ref, out_path, command, env=(PATH,)):
    with open(layer_path, "rb") as f:
        layer = f.read()
    a = Archive(out_path)
    a.add("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    layer_blob = a.blob("layer.v1.tar", layer)
    config_blob = a.blob("config.v1+json", json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Env": list(env), "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [layer_blob["digest"]]},
        "history": [{"created_by": "busybox"}]}).encode())
    manifest = a.blob("manifest.v1+json", json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_blob, "layers": [layer_blob]}).encode())
    manifest["annotations"] = {"io.containerd.image.name": ref, "org.opencontainers.image.ref.name": ref.split(":")[-1]}
    a.add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
    blob = lambda d: "blobs/sha256/" + d["digest"].split(":")[1]
    a.add("manifest.json", json.dumps(
        [{"Config": blob(config_blob), "RepoTags": [ref], "Layers": [blob(layer_blob)]}]).encode())
    a.tar.close()
