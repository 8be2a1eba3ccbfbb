"""A root folder with an operating system in it, and commands run inside: with mounts and processes of their own."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PACKAGES: Final = "python3,python3-venv,ca-certificates"
RELEASE: Final = "bookworm"
NEEDED: Final = ("mmdebstrap", "unshare", "chroot", "ip", "mount")
_LENT: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")
"""What a build needs of this machine to reach the package registries."""
_LENT_VARIABLES: Final = ("PIP_", "UV_", "SSL_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_", "no_proxy")


def make_base(archive: Path) -> None:
    """A Debian with Python, from Debian's packages. It takes the place of the image that the Dockerfile begins with."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", RELEASE, str(archive)]
    subprocess.run(command, check=True)


class Root:
    """One root folder."""

    def __init__(self, folder: Path, archive: Path) -> None:
        """Unpacks the base into `folder`, which must not be there."""
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)

    def copy_in(self, source: Path, target: str, *, link: bool = False) -> None:
        """As COPY does it: a folder's content, or a file, to `target`. Linked files share their content: never ours."""
        to = self.folder / target.lstrip("/")
        if source.is_dir():
            to.mkdir(parents=True, exist_ok=True)
            how = ["--link"] if link else []
            subprocess.run(["cp", "-a", *how, "--no-preserve=ownership", f"{source}/.", to], check=True)
        else:
            (to if target.endswith("/") else to.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to)

    def build(self, script: str, environment: Mapping[str, str], folder: str, caches: Mapping[str, Path]) -> None:
        """Runs a shell's script as root, with the network and the registries of this machine, and caches mounted.

        Raises:
            subprocess.CalledProcessError: it ends with another exit code than 0.
        """
        mounts = [_bound(path, self.folder, path) for path in _LENT if Path(path).exists()]
        mounts += [_bound(str(source), self.folder, target) for target, source in caches.items()]
        lent = {name: value for name, value in os.environ.items() if name.startswith(_LENT_VARIABLES)}
        inside = f"cd {shlex.quote(folder)} && {script}"
        self._run([*mounts, _chroot(self.folder, {**lent, **environment}, ["/bin/sh", "-c", inside])], network=True)

    def serve(
        self, command: Sequence[str], environment: Mapping[str, str], user: str, lent: Mapping[str, Path], data: Path
    ) -> int:
        """Runs a command as the pod would: as `user`, the root read-only, /tmp new, `data` at /data; without a network.

        Args:
            command: what runs, as the image's user.
            environment: all that it sees.
            user: UID:GID.
            lent: what is mounted where, for reading.
            data: the volume.

        Returns:
            Its exit code.
        """
        uid, _, gid = user.partition(":")
        mounts = [_bound(str(source), self.folder, target) for target, source in lent.items()]
        mounts += [_bound(str(data), self.folder, "/data"), f"chown {user} {shlex.quote(str(data))}"]
        root = shlex.quote(str(self.folder))
        closed = [
            f"mount -o remount,bind,ro {root}",
            f"mount -t tmpfs -o uid={uid},gid={gid},mode=0700 tmpfs {root}/tmp",  # noqa: S108 - the one inside
            "ip link set lo up",
        ]
        try:
            self._run([*mounts, *closed, _chroot(self.folder, environment, command, user)], network=False)
        except subprocess.CalledProcessError as error:
            return error.returncode
        return 0

    def _run(self, steps: Sequence[str], *, network: bool) -> None:
        root = shlex.quote(str(self.folder))
        script = "\n".join(
            [
                "set -e",
                f"mount --bind {root} {root}",
                f"mount -t proc proc {root}/proc",
                f"mount --rbind /dev {root}/dev",
                *steps,
            ]
        )
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        subprocess.run([*apart, "/bin/sh", "-c", script], check=True)


def _bound(source: str, root: Path, target: str) -> str:
    """The shell's command that mounts something inside; what it is mounted on is made if need be."""
    inside = root / target.lstrip("/")
    if Path(source).is_dir():
        inside.mkdir(parents=True, exist_ok=True)
    elif not inside.exists():
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.touch()
    return f"mount --bind {shlex.quote(os.path.realpath(source))} {shlex.quote(str(inside))}"


def _chroot(root: Path, environment: Mapping[str, str], command: Sequence[str], user: str = "0:0") -> str:
    variables = [f"{name}={value}" for name, value in environment.items()]
    words = ["exec", "chroot", f"--userspec={user}", str(root), "/usr/bin/env", "-i", *variables, *command]
    return shlex.join(words)
