# SPDX-License-Identifier: Apache-2.0
"""A mount of the host's that tells others of what is mounted on it."""
import os, subprocess, time


class SharedMount:
    """A shared mount of the host's, with a directory `later` in it."""

    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "shared", self.path], check=True)
        subprocess.run(["mount", "--make-shared", self.path], check=True)
        os.makedirs(self.path + "/later")

    def mount(self, name, **files):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "t", path], check=True)
        for f, text in files.items():
            with open(os.path.join(path, f), "w") as out:
                out.write(text)

    def umount(self, name):
        """The sandbox holds nothing that it does not use for longer than a moment."""
        for _ in range(1000):
            r = subprocess.run(["umount", os.path.join(self.path, name)], stderr=subprocess.PIPE, text=True)
            if r.returncode == 0:
                return
            assert "busy" in r.stderr, r.stderr
            time.sleep(0.02)
        raise AssertionError(r.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        subprocess.run(["umount", "-R", "-l", self.path])
