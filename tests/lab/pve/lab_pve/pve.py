"""The fake with the lab's machine behind it: its local node's containers really run, and its bridges are Open vSwitch's."""

import asyncio
import re
import ssl

import fakepve.lxc
from fakepve import FakeCt, FakePve, TaskError

from . import real
from .faults import Faults, TaskLog, TaskRule
from .moving import Moving

GIB = 1024**3
APPLIANCES = ("debian-12-standard_12.7-1_amd64.tar.zst", "alpine-3.21-default_20241217_amd64.tar.xz")
APPLIANCE_BYTES = 120 * 1024**2
# Tasks that have what was asked for done to them half-way, and not before they begin.
HALF_WAY = ("vzmigrate",)


class LabCt(FakeCt):
    """A container. On the local node LXC is asked whether it runs; elsewhere it is as the fake says."""

    local_node = ""
    all_real = True

    def __init__(self, *args: object, real: bool | None = None, **kwargs: object) -> None:
        self.is_backed = self.all_real if real is None else real
        # What a task made of it, and has not been done yet.
        self.wish: str | None = None
        self.said = "stopped"
        super().__init__(*args, **kwargs)

    @property
    def is_real(self) -> bool:
        """LXC has it on this machine."""
        return self.is_backed and self.node == self.local_node and not self.template

    @property
    def status(self) -> str:
        """running or stopped."""
        if self.is_real:
            return "running" if real.is_running(self.vmid) else "stopped"
        return self.said

    @status.setter
    def status(self, value: str) -> None:
        self.said = self.wish = value


fakepve.lxc.FakeCt = LabCt


class LabPve(Moving, FakePve):
    """The API. Times of `time_scale` are those of its own tasks; all that is said in seconds here is real seconds."""

    def __init__(self, node: str, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        LabCt.local_node = node
        self.local_node = node
        self.nodes = {node: {"online": True}}
        # A tenth of Proxmox VE's times. Not 0: then tasks would end before their request is answered.
        self.time_scale = 0.1
        self.faults = Faults(self)
        self.tls: ssl.SSLContext | None = None
        # Containers that LXC has, whether or not the API still knows them.
        self.backed: set[int] = set()
        # Real bridges are Open vSwitch's; these are Linux's own.
        self.linux_bridges: list[str] = []
        # Those of other nodes, by node.
        self.remote_bridges: dict[str, list[str]] = {}
        # Two tasks that allocate on one storage at once fail, as they do where its lock is held for too long.
        self.strict_storage = False
        self.allocating: dict[str, int] = {}
        self.tasks_at_once: dict[str, int] = {}
        self.most_tasks_at_once: dict[str, int] = {}
        # The last task of each container, with what is to be done to it.
        self.at_work: dict[int, tuple] = {}

    # Listening

    def _build_app(self) -> object:
        app = super()._build_app()
        app.middlewares.insert(0, self.faults.serve)
        return app

    async def listen(self) -> None:
        """Listens, with the certificate it has now."""
        from aiohttp import web

        self.runner = web.AppRunner(self._build_app(), shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.host, self.port, ssl_context=self.tls, reuse_address=True).start()

    # What the fake has no state for

    def _routes_lab(self) -> list:
        return [
            ("GET", "/nodes/{node}/network", self._network),
            ("GET", "/nodes/{node}/aplinfo", self._appliances),
            ("POST", "/nodes/{node}/aplinfo", self._appliance),
        ]

    async def _network(self, values: dict, _user: str) -> list:
        if values["node"] != self.local_node:
            there = self.remote_bridges.get(values["node"], ["vmbr0"])
            return [{"iface": name, "type": "bridge", "active": 1} for name in there]
        bridges = [(name, "OVSBridge") for name in (await real.run("ovs-vsctl", "list-br")).split()]
        bridges += [(name, "bridge") for name in self.linux_bridges]
        kind = values.get("type")
        wanted = {"any_bridge": ("OVSBridge", "bridge"), "any_local_bridge": ("OVSBridge", "bridge")}.get(kind, (kind,))
        return [
            {"iface": name, "type": of, "active": 1, "autostart": 1, "method": "manual"}
            for name, of in bridges
            if kind is None or of in wanted
        ]

    async def _appliances(self, _values: dict, _user: str) -> list:
        return [{"template": name, "section": "system", "package": name.split("_")[0]} for name in APPLIANCES]

    async def _appliance(self, values: dict, user: str) -> str:
        name, storage = values["template"], values["storage"]
        if name not in APPLIANCES:
            from fakepve import PveError

            raise PveError(400, "Parameter verification failed.", {"template": "no such template"})

        async def body() -> None:
            self.store_file(storage, name, APPLIANCE_BYTES, "vztmpl")

        return await self.task(values["node"], "download", storage, user, body, log=[f"downloading {name}"])

    # Tasks

    async def task(self, node, ttype, tid, user, body, vm=None, lock=True, log=()):  # noqa: ANN001, PLR0913 - as the fake's
        """A task, with what was asked for done to it, and with the machine brought to where it says it is."""
        holder: dict = {}

        async def whole() -> str | None:
            record = holder["record"]
            self.tasks_at_once[ttype] = now = self.tasks_at_once.get(ttype, 0) + 1
            self.most_tasks_at_once[ttype] = max(now, self.most_tasks_at_once.get(ttype, 0))
            try:
                return await self._work(ttype, tid, body, vm, record)
            finally:
                self.tasks_at_once[ttype] -= 1

        upid = await super().task(node, ttype, tid, user, whole, vm=vm, lock=lock, log=log)
        record = holder["record"] = self.tasks[upid]
        record["log"] = TaskLog(record["log"])
        asyncio.get_running_loop().create_task(self._told(record))
        return upid

    async def _told(self, record: dict) -> None:
        """Tells of a task's begin, and again when it has ended."""
        await self.faults.note(record)
        while record["status"] == "running":
            await asyncio.sleep(0.01)
        await self.faults.note(record)

    async def _work(self, ttype: str, tid: object, body: object, vm: object, record: dict) -> str | None:
        rule = self.faults.task_rule(ttype, tid)
        makes = ttype in ("vzcreate", "vzclone")
        storages = self._storages_of(vm) if makes and self.strict_storage else set()
        try:
            for storage in storages:
                self.allocating[storage] = self.allocating.get(storage, 0) + 1
                if self.allocating[storage] > 1:
                    raise TaskError(f"can't lock file '/var/lock/pve-manager/pve-storage-{storage}' - got timeout")
            if ttype in HALF_WAY:
                self.at_work[vm.vmid] = (rule, record)
            else:
                await self.befall(rule, record)
            note = await body()
            await self.follow()
        except TaskError:
            if makes and not (rule and rule.leave) and vm in self.cts:
                self._drop(vm)
            raise
        finally:
            for storage in storages:
                self.allocating[storage] -= 1
        if rule and rule.do == "warn":
            record["log"].append(f"WARN: {rule.message}")
            raise TaskError("WARNINGS: 1")
        return note

    @staticmethod
    async def befall(rule: TaskRule | None, record: dict) -> None:
        """Does to a task what was asked for."""
        if rule and rule.do == "delay":
            record["log"].append("extracting archive")
            await asyncio.sleep(rule.secs)
        if rule and rule.do == "hold":
            record["log"].append(rule.message or "extracting archive")
            await rule.gate.wait()
        if rule and rule.do == "fail":
            raise TaskError(rule.message)

    @staticmethod
    def _storages_of(ct: object) -> set[str]:
        return {str(mount["volume"]).partition(":")[0] for _, mount in ct.volumes()} or {"local-lvm"}


    # The machine

    async def follow(self) -> None:
        """Stops and takes away what tasks have stopped and taken away."""
        for ct in list(self.cts):
            wish, ct.wish = ct.wish, None
            if ct.is_real and wish == "stopped":
                await real.stop(ct.vmid)
        for vmid in self.backed - {ct.vmid for ct in self.cts}:
            self.backed.discard(vmid)
            await real.remove(vmid)

    async def _start_steps(self, ct, user, skiplock=False):  # noqa: ANN001 - as the fake's
        await super()._start_steps(ct, user, skiplock)
        ct.wish = None
        if ct.is_real:
            self.backed.add(ct.vmid)
            await real.start(ct.vmid, ct.config)

    async def _ct_powerdown(self, ct, timeout, force):  # noqa: ANN001 - as the fake's
        await super()._ct_powerdown(ct, timeout, force)
        await self.follow()

    async def _update_config(self, ct, user, values, deletes, reverts):  # noqa: ANN001, PLR0913 - as the fake's
        before = dict(ct.config)
        await super()._update_config(ct, user, values, deletes, reverts)
        if ct.is_real and ct.status == "running":
            await real.rewire(ct.vmid, before, ct.config)

    async def change(self, vmid: int, config: dict) -> None:
        """Somebody else changes a configuration; a value of null takes a key away."""
        ct = self.ct(vmid)
        before = dict(ct.config)
        for key, value in config.items():
            if value is None:
                ct.config.pop(key, None)
            else:
                ct.config[key] = fakepve.lxc.normalise(key, value)
        if ct.is_real and ct.status == "running":
            await real.rewire(vmid, before, ct.config)

    def room(self, storage: str, gib: float) -> None:
        """Says how much is free on a storage."""
        self.storages[storage]["avail"] = int(gib * GIB)

    async def _lxc_create(self, user, v):  # noqa: ANN001 - as the fake's
        """A create whose root file system does not fit fails in its task, and leaves nothing."""
        storage, _, gib = str(v.get("rootfs", "")).partition(",")[0].partition(":")
        free = self.storages.get(storage, {}).get("avail")
        if free is not None and re.fullmatch(r"\d+(\.\d+)?", gib) and float(gib) * GIB > free:
            message = f"unable to create CT {v['vmid']} - storage '{storage}' is out of space"
            full = TaskRule("fail", "vzcreate", int(v["vmid"]), 1, message)
            self.faults.task_rules.append(full)
        return await super()._lxc_create(user, v)

    async def clear(self) -> None:
        """Takes every real container away."""
        for vmid in self.backed:
            await real.remove(vmid)
        self.backed.clear()
