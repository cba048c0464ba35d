"""Hosts that are network namespaces of this machine: each with its own address, host name, /etc/hosts and local disk, joined
by a veth cable. They share the file system, the processes and the cores."""
import os
import signal
import subprocess
from pathlib import Path

NAMES = ("node-a", "node-b")


class NoNamespaces(Exception):
    """This machine or this user cannot make network namespaces; the text says why."""


class Hosts:
    """node-a and node-b, for a with statement. `directory` takes what they need; `disk` is a path at which each sees a folder
    of its own (`disks[name]`), `home` one at which node-a alone may write."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.prefix = f"sluice-{os.getpid()}-"
        self.disk = self.directory / "disk"
        self.disks = {name: self.directory / f"disk-of-{name}" for name in NAMES}
        self.home = self.directory / "home"
        self.enter = self.directory / "enter"
        self.agent = self.directory / "remote-shell"

    def __enter__(self):
        if os.geteuid() != 0:
            raise NoNamespaces("network namespaces need root")
        try:
            self._make()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            raise NoNamespaces(f"network namespaces cannot be made here: {error}") from error
        return self

    def __exit__(self, *_):
        for name in NAMES:
            try:
                self.kill(name)
            except (OSError, subprocess.CalledProcessError):
                pass  # it was never made
            subprocess.run(["ip", "netns", "del", self.prefix + name], stderr=subprocess.DEVNULL, check=False)

    def _make(self):
        for name in NAMES:
            self._ip("netns", "add", self.prefix + name)
        self._ip("link", "add", "eth0", "netns", self.prefix + NAMES[0], "type", "veth", "peer", "name", "eth0", "netns",
                 self.prefix + NAMES[1])
        addresses = {name: f"10.231.7.{number}" for number, name in enumerate(NAMES, 1)}
        for name, address in addresses.items():
            self._ip("-n", self.prefix + name, "addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", self.prefix + name, "link", "set", "lo", "up")
            self._ip("-n", self.prefix + name, "link", "set", "eth0", "up")
            self.disks[name].mkdir()
        self.disk.mkdir()
        self.home.mkdir()
        lines = ["127.0.0.1 localhost"] + [f"{address} {name}" for name, address in addresses.items()]
        (self.directory / "hosts").write_text("\n".join(lines) + "\n")
        self._write_scripts()
        subprocess.run(self.on(NAMES[0], "true"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _write_scripts(self):
        """`enter HOST WORD...` runs a command on a host. `remote-shell HOST WORD...` is what mpirun calls: as ssh does, it stays
        here while the command runs there, and hands no environment on."""
        self._script(self.enter, f'''host=$1
shift
exec ip netns exec {self.prefix}$host unshare --uts --mount sh -c '
  hostname "$1"
  mount --bind {self.directory}/hosts /etc/hosts
  mount --bind {self.directory}/disk-of-$1 {self.disk}
  mount --bind {self.home} {self.home}
  if [ "$1" != {NAMES[0]} ]; then mount -o remount,bind,ro {self.home}; fi
  shift
  exec "$@"' sh "$host" "$@"''')
        self._script(self.agent, f'''host=$1
shift
{self.enter} "$host" env -i PATH=/usr/bin:/bin HOME="$HOME" sh -c "$*" || exit 255''')

    def _script(self, path, text):
        path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        path.chmod(0o755)

    def _ip(self, *words):
        subprocess.run(["ip", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def on(self, name, *command):
        """The words that run `command` on a host."""
        return [str(self.enter), name, *command]

    def kill(self, name):
        """Every process of a host, at once."""
        listed = subprocess.run(["ip", "netns", "pids", self.prefix + name], check=True, stdout=subprocess.PIPE, text=True)
        for process in listed.stdout.split():
            try:
                os.kill(int(process), signal.SIGKILL)
            except ProcessLookupError:
                pass

    def unplug(self, name):
        """The host goes on, and nobody hears of it any more."""
        self._ip("-n", self.prefix + name, "link", "set", "eth0", "down")

    def plug(self, name):
        """Ends unplug()."""
        self._ip("-n", self.prefix + name, "link", "set", "eth0", "up")
