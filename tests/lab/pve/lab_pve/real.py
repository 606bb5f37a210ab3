"""The containers behind the API: real ones of LXC, under the units that Proxmox VE has for them, plugged into Open vSwitch
by hooks that do what Proxmox VE's own do."""

import asyncio
import re
import shutil
from pathlib import Path

from fakepve import TaskError

LXC = Path("/var/lib/lxc")
# LXC's monitor listens there for as long as its container runs; Proxmox VE looks at the same.
COMMAND_SOCKET = re.compile(rb"@/var/lib/lxc/(\d+)/command$", re.MULTILINE)
START_LIMIT_S = "20"
# What of a network's change has Proxmox VE plug a running container's port anew; trunks and mtu alone do not.
REPLUGGED_FOR = ("bridge", "tag", "firewall", "link_down", "rate")


class Failed(Exception):
    """A command of the host's failed."""


async def run(*command: str) -> str:
    """Runs a command of the host's and returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await process.communicate()
    if process.returncode != 0:
        raise Failed(f"{' '.join(command)}: {complaint.decode().strip()}")
    return out.decode()


def parse(text: object) -> dict:
    """A property string as a dict."""
    pairs = (part.partition("=") for part in str(text or "").split(","))
    return {key: value for key, equals, value in pairs if equals}


def networks(config: dict) -> dict[int, dict]:
    """The networks of a configuration, by number."""
    return {int(key[3:]): parse(value) for key, value in config.items() if re.fullmatch(r"net\d+", key)}


def is_running(vmid: int) -> bool:
    """Whether LXC runs it."""
    return str(vmid).encode() in COMMAND_SOCKET.findall(Path("/proc/net/unix").read_bytes())


def unit(vmid: int) -> str:
    """Its unit's name."""
    return f"pve-container@{vmid}.service"


def plugging(vmid: int, number: int, net: dict) -> list[str]:
    """The arguments of ovs-vsctl that plug a network in, as PVE::Network does; none where it is not to be plugged."""
    veth = f"veth{vmid}i{number}"
    if not net.get("bridge") or net.get("link_down") == "1":
        return []
    walled = net.get("firewall") == "1"
    port = f"fwln{vmid}o{number}" if walled else veth
    added = ["add-port", net["bridge"], port]
    if net.get("tag"):
        added.append(f"tag={net['tag']}")
    if net.get("trunks"):
        added.append(f"trunks={net['trunks'].replace(';', ',')}")
    if net.get("tag") and net.get("trunks"):
        added.append("vlan_mode=native-untagged")
    if walled:
        added += ["--", "set", "Interface", port, "type=internal"]
    return ["--if-exists", "del-port", port, "--", *added]


def unplugging(vmid: int, number: int) -> list[str]:
    """The arguments of ovs-vsctl that take its ports away."""
    return ["--if-exists", "del-port", f"veth{vmid}i{number}", "--", "--if-exists", "del-port", f"fwln{vmid}o{number}"]


def configuration(vmid: int, config: dict) -> str:
    """What LXC is told of it."""
    folder = LXC / str(vmid)
    lines = [
        f"lxc.uts.name = {config.get('hostname', f'CT{vmid}')}",
        f"lxc.rootfs.path = dir:{folder}/rootfs",
        "lxc.apparmor.profile = unconfined",
        "lxc.tty.max = 1",
        "lxc.pty.max = 1",
        "lxc.autodev = 1",
        "lxc.signal.halt = SIGUSR1",
        "lxc.mount.auto = cgroup:mixed proc:mixed sys:ro",
        f"lxc.hook.post-stop = {folder}/unplug",
    ]
    for number, net in sorted(networks(config).items()):
        at = f"lxc.net.{number}"
        lines += [f"{at}.type = veth", f"{at}.flags = up", f"{at}.name = {net.get('name', f'eth{number}')}"]
        lines += [f"{at}.veth.pair = veth{vmid}i{number}", f"{at}.script.up = {folder}/plug-{number}"]
        if net.get("hwaddr"):
            lines.append(f"{at}.hwaddr = {net['hwaddr']}")
        if "/" in net.get("ip", ""):
            lines.append(f"{at}.ipv4.address = {net['ip']}")
        if net.get("gw"):
            lines.append(f"{at}.ipv4.gateway = {net['gw']}")
    return "\n".join(lines) + "\n"


def _script(path: Path, *commands: list[str]) -> None:
    text = "".join(" ".join(command) + "\n" for command in commands)
    path.write_text("#!/bin/sh\nset -e\n" + text)
    path.chmod(0o755)


def _write(vmid: int, config: dict) -> None:
    """Its configuration and hooks, as Proxmox VE writes LXC's configuration anew at each start."""
    folder = LXC / str(vmid)
    (folder / "config").write_text(configuration(vmid, config))
    unplugged = []
    for number, net in networks(config).items():
        up = ["ip", "link", "set", f"veth{vmid}i{number}", "up"]
        plugged = plugging(vmid, number, net)
        _script(folder / f"plug-{number}", up, *([["ovs-vsctl", *plugged]] if plugged else []))
        unplugged.append(["ovs-vsctl", *unplugging(vmid, number)])
    _script(folder / "unplug", *unplugged)


async def start(vmid: int, config: dict) -> None:
    """Starts it, and returns when it runs."""
    for net in networks(config).values():
        bridge = net.get("bridge")
        try:
            if bridge:
                await run("ovs-vsctl", "br-exists", bridge)
        except Failed:
            raise TaskError(f"bridge '{bridge}' does not exist") from None
    try:
        if not (LXC / str(vmid) / "rootfs").exists():
            await run("lxc-create", "-n", str(vmid), "-t", "busybox")
            # LXC sets the addresses, as Proxmox VE does inside; busybox's DHCP client would take them away again.
            first = LXC / str(vmid) / "rootfs/etc/init.d/rcS"
            first.write_text(first.read_text().replace("/bin/udhcpc\n", ""))
        _write(vmid, config)
        # Tests start the same container more often than systemd lets a unit. One that never ran is not to be reset.
        try:
            await run("systemctl", "reset-failed", unit(vmid))
        except Failed:
            pass
        await run("systemctl", "start", unit(vmid))
        await run("lxc-wait", "-n", str(vmid), "-s", "RUNNING", "-t", START_LIMIT_S)
    except Failed as failed:
        raise TaskError(f"startup for container '{vmid}' failed: {failed}") from None


async def stop(vmid: int) -> None:
    """Stops it, if it runs."""
    await run("systemctl", "stop", unit(vmid))


async def remove(vmid: int) -> None:
    """Takes all of it away."""
    await stop(vmid)
    shutil.rmtree(LXC / str(vmid), ignore_errors=True)


async def _plug(vmid: int, number: int, net: dict) -> None:
    await run("ovs-vsctl", *unplugging(vmid, number))
    plugged = plugging(vmid, number, net)
    if plugged:
        await run("ovs-vsctl", *plugged)


async def _add(vmid: int, number: int, net: dict) -> None:
    """A network for a running container."""
    veth, inner = f"veth{vmid}i{number}", f"in{vmid}i{number}"
    pid = (await run("lxc-info", "-n", str(vmid), "-p", "-H")).strip()
    await run("ip", "link", "add", veth, "type", "veth", "peer", "name", inner)
    await run("ip", "link", "set", inner, "netns", pid)
    inside = ["nsenter", "-t", pid, "-n", "ip", "link", "set"]
    await run(*inside, inner, "name", net.get("name", f"eth{number}"))
    await run(*inside, net.get("name", f"eth{number}"), "up")
    await run("ip", "link", "set", veth, "up")
    await _plug(vmid, number, net)


async def rewire(vmid: int, before: dict, after: dict) -> None:
    """Brings the ports of a running container from one configuration's networks to another's, as far as Proxmox VE does."""
    old, new = networks(before), networks(after)
    _write(vmid, after)
    for number in sorted(set(old) | set(new)):
        if number not in new:
            await run("ovs-vsctl", *unplugging(vmid, number))
            await run("ip", "link", "del", f"veth{vmid}i{number}")
        elif number not in old:
            await _add(vmid, number, new[number])
        elif any(old[number].get(key) != new[number].get(key) for key in REPLUGGED_FOR):
            await _plug(vmid, number, new[number])
