# SPDX-License-Identifier: Apache-2.0
"""A small client of Kubernetes' container runtime interface: what the kubelet asks of containerd."""
import importlib, os, subprocess, sys, tempfile

import grpc

HERE = os.path.dirname(os.path.abspath(__file__))


def load_messages():
    """The message classes of cri.proto, made by protoc."""
    with tempfile.TemporaryDirectory() as d:
        subprocess.run(["protoc", "-I", HERE, "--python_out", d, "cri.proto"], check=True)
        sys.path.insert(0, d)
        try:
            return importlib.import_module("cri_pb2")
        finally:
            sys.path.remove(d)


pb = load_messages()

CALLS = {
    "Version": ("VersionRequest", "VersionResponse"),
    "RunPodSandbox": ("RunPodSandboxRequest", "PodSandboxId"),
    "StopPodSandbox": ("PodSandboxId", "Empty"),
    "RemovePodSandbox": ("PodSandboxId", "Empty"),
    "PodSandboxStatus": ("PodSandboxId", "PodSandboxStatusResponse"),
    "ListPodSandbox": ("Empty", "PodSandboxList"),
    "CreateContainer": ("CreateContainerRequest", "ContainerId"),
    "StartContainer": ("ContainerId", "Empty"),
    "StopContainer": ("ContainerId", "Empty"),
    "RemoveContainer": ("ContainerId", "Empty"),
    "ListContainers": ("Empty", "ContainerList"),
    "ContainerStatus": ("ContainerId", "ContainerStatusResponse"),
    "ContainerStats": ("ContainerId", "ContainerStatsResponse"),
    "ExecSync": ("ExecSyncRequest", "ExecSyncResponse"),
    "UpdateContainerResources": ("UpdateContainerResourcesRequest", "Empty"),
}


class Client:
    def __init__(self, socket, timeout=60):
        self.channel = grpc.insecure_channel("unix://" + socket)
        self.timeout = timeout
        for name, (ask, answer) in CALLS.items():
            setattr(self, "_" + name, self.channel.unary_unary(
                "/runtime.v1.RuntimeService/" + name,
                request_serializer=getattr(pb, ask).SerializeToString,
                response_deserializer=getattr(pb, answer).FromString))

    def call(self, method, **fields):
        request = getattr(pb, CALLS[method][0])(**fields)
        return getattr(self, "_" + method)(request, timeout=self.timeout)

    def pod_config(self, name, logs, **linux):
        linux.setdefault("pid", pb.CONTAINER)  # as the kubelet says by default
        return pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=name + "-uid", namespace="test"), hostname=name,
            log_directory=logs, linux=pb.LinuxPodSandboxConfig(
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=pb.NamespaceOption(**linux))))

    def run_pod(self, config, handler):
        return self.call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id

    def create(self, pod, config, name, command, image, tty=False, resources=None, mounts=(), **namespaces):
        namespaces.setdefault("pid", pb.CONTAINER)
        return self.call("CreateContainer", pod_sandbox_id=pod, sandbox_config=config, config=pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name), image=pb.ImageSpec(image=image), command=command,
            log_path=name + ".log", tty=tty, mounts=mounts, linux=pb.LinuxContainerConfig(
                resources=resources, security_context=pb.LinuxContainerSecurityContext(
                    namespace_options=pb.NamespaceOption(**namespaces))))).container_id

    def start(self, pod, config, name, command, image, **more):
        container = self.create(pod, config, name, command, image, **more)
        self.call("StartContainer", container_id=container)
        return container

    def exec(self, container, *cmd, timeout=20):
        r = self.call("ExecSync", container_id=container, cmd=cmd, timeout=timeout)
        return r.exit_code, r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace")

    def status(self, container):
        return self.call("ContainerStatus", container_id=container).status
