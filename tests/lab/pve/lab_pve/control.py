"""What a test tells the lab's Proxmox VE, and asks of it: over a socket, a line of JSON each way.

A request is `{"do": NAME, ...}`, the answer `{"ok": VALUE}` or `{"error": TEXT}`.
"""

import asyncio
import hashlib
import json
from pathlib import Path

from . import tls
from .faults import Rule, TaskRule
from .pve import LabPve

# What op-dbus's token may do unless a test says otherwise: all that it can need on a cluster, and not more.
RIGHTS = (
    "VM.Allocate", "VM.Audit", "VM.Clone", "VM.Config.CPU", "VM.Config.Disk", "VM.Config.Memory", "VM.Config.Network",
    "VM.Config.Options", "VM.Migrate", "VM.PowerMgmt", "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate",
    "Datastore.Audit", "Pool.Allocate", "Pool.Audit", "SDN.Use", "SDN.Audit", "Sys.Audit", "Sys.Modify",
)  # fmt: skip


class Control:
    """The other side of tests/kit's `Pve`."""

    def __init__(self, pve: LabPve, folder: Path) -> None:
        self.pve = pve
        self.folder = folder

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one caller until it leaves."""
        while line := await reader.readline():
            asked = json.loads(line)
            try:
                answer = {"ok": await getattr(self, "do_" + asked.pop("do"))(**asked)}
            except Exception as error:  # noqa: BLE001 - the test shall see what it is
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer, default=sorted).encode() + b"\n")
            await writer.drain()
        writer.close()

    # What there is

    async def do_add_ct(self, vmid: int, **told: object) -> None:
        """A container, as FakeCt takes it; `real` = LXC runs it (on the local node, unless told otherwise)."""
        running = told.pop("status", "stopped") == "running"
        told.setdefault("node", self.pve.local_node)
        ct = self.pve.add_ct(vmid, **told)
        for key in [key for key in ct.config if key.startswith("net")]:
            await self.pve.change(vmid, {key: ct.config[key]})
        if running and ct.is_real:
            await self.pve._start_steps(ct, "root@pam")  # noqa: SLF001 - as its own start does
        elif running:
            ct.status = "running"

    async def do_add_vm(self, vmid: int, name: str, node: str | None = None) -> None:
        """A virtual machine: its id is taken."""
        self.pve.add_vm(vmid, name, node=node or self.pve.local_node)

    async def do_add_node(self, name: str, bridges: list | None = None) -> None:
        """One more node, with these bridges, or vmbr0 alone."""
        self.pve.add_node(name)
        self.pve.remote_bridges[name] = bridges or ["vmbr0"]

    async def do_add_storage(self, name: str, options: dict) -> None:
        """One more storage; options as in storage.cfg."""
        self.pve.storages[name] = {"active": 1, "files": set(), **options}

    async def do_add_template(self, name: str, storage: str = "local") -> None:
        """A template on a storage."""
        self.pve.store_file(storage, name, 3 * 1024**2, "vztmpl")

    async def do_uploaded(self) -> dict:
        """The last upload's form, with the digest of the file in place of the file."""
        fields = dict(self.pve.uploaded)
        return fields | {"sha256": hashlib.sha256(fields.pop("data")).hexdigest(), "data": None}

    async def do_add_pool(self, name: str) -> None:
        """A pool."""
        self.pve.pools.setdefault(name, set())
        self.pve.pool_info.setdefault(name, {"comment": None, "storage": set()})

    async def do_join_pool(self, vmid: int, pool: str) -> None:
        """Somebody else takes a guest into a pool, out of whichever it was in."""
        await self.pve._pool_update({"poolid": pool, "vms": str(vmid), "allow-move": 1}, "root@pam")  # noqa: SLF001

    async def do_room(self, storage: str, gib: float) -> None:
        """How much is free."""
        self.pve.room(storage, gib)

    async def do_cts(self) -> list:
        """Every container: vmid, node, status, config, pending."""
        return [
            {"vmid": ct.vmid, "node": ct.node, "status": ct.status, "config": ct.config, "pending": ct.pending}
            for ct in self.pve.cts
        ]

    async def do_change(self, vmid: int, config: dict) -> None:
        """Somebody else changes a configuration."""
        await self.pve.change(vmid, config)

    async def do_order(self, vmid: int, what: str) -> None:
        """Somebody else starts, stops or destroys a container, and waits for it."""
        ct = self.pve.ct(vmid)
        handler = getattr(self.pve, f"_lxc_{what}")
        upid = await handler("root@pam", {"node": ct.node, "vmid": vmid})
        await self.do_wait_task(upid=upid, status="stopped")

    # Who may what

    async def do_token(self, id: str, secret: str, rights: list | None = None, path: str = "/") -> None:  # noqa: A002
        """A token with rights; without them, those that op-dbus needs."""
        self.pve.apitokens[id] = secret
        self.pve.grant(id, path, *(RIGHTS if rights is None else rights))

    async def do_rights(self, id: str, rights: list, path: str = "/") -> None:  # noqa: A002
        """Exactly these rights from now on."""
        self.pve.acl[id] = []
        self.pve.grant(id, path, *rights)

    async def do_expire(self, id: str) -> None:  # noqa: A002
        """The token is good no more."""
        del self.pve.apitokens[id]

    # Faults

    async def do_fail(self, method: str, path: str, **how: object) -> None:
        """Requests fail, as FakePve.fail has it (status and message, or error; times; html)."""
        self.pve.fail(method, path, **how)

    async def do_request(self, what: str, method: str, path: str, times: int = 1, **more: object) -> None:
        """drop-before, drop-after or meddle (vmid, config) with requests."""
        self.pve.faults.rules.append(Rule(what, method, path, times, **more))

    async def do_task(self, what: str, type: str, vmid: int = 0, times: int = 1, **more: object) -> None:  # noqa: A002
        """fail, warn, delay (secs) or hold (until let go) of tasks."""
        self.pve.faults.task_rules.append(TaskRule(what, type, vmid, times, **more))

    async def do_let_go(self) -> None:
        """Tasks that are held go on."""
        for rule in self.pve.faults.task_rules:
            rule.gate.set()

    async def do_node(self, name: str, online: bool) -> None:
        """A node goes away, or comes back."""
        self.pve.set_node_offline(name, offline=not online)

    async def do_quorum(self, held: bool) -> None:
        """The cluster loses its quorum, or has it again."""
        self.pve.quorate = held

    async def do_network(self, **how: object) -> None:
        """latency_s and jitter_s of each answer, the shares drop_rate and hang_rate of requests, hang_s."""
        scale = self.pve.time_scale
        self.pve.network.update(
            latency=how.get("latency_s", 0) / scale,
            jitter=how.get("jitter_s", 0) / scale,
            drop_rate=how.get("drop_rate", 0),
            hang_rate=how.get("hang_rate", 0),
            hang_secs=how.get("hang_s", 60) / scale,
        )

    async def do_hold_config(self, vmid: int) -> None:
        """Another task holds the lock of a container's configuration."""
        await self.pve.hold_config_lock(vmid, None)

    async def do_release_config(self, vmid: int) -> None:
        """And lets it go."""
        self.pve.release_config_lock(vmid)

    async def do_lock(self, vmid: int, lock: str | None) -> None:
        """A container is locked (backup, migrate, snapshot, ...), or no more."""
        self.pve.ct(vmid).lock = lock

    async def do_start_error(self, vmid: int, message: str | None) -> None:
        """A container cannot be started."""
        self.pve.ct(vmid).start_error = message

    async def do_migrate(self, vmid: int, node: str) -> None:
        """A container is on another node now."""
        self.pve.nodes.setdefault(node, {"online": True})
        self.pve.ct(vmid).node = node

    async def do_refuse_move(self, vmid: int, node: str, because: list) -> None:
        """High availability keeps a container from a node, because of these resources; of none, and no more."""
        refused = self.pve.refused_moves.setdefault(vmid, {})
        refused.pop(node, None)
        if because:
            refused[node] = because

    async def do_managed(self, vmid: int) -> None:
        """A container is high availability's from now on."""
        ct = self.pve.ct(vmid)
        ct.ha_state = "started" if ct.status == "running" else "stopped"

    async def do_strict_storage(self, on: bool) -> None:
        """Two creates on one storage at once fail."""
        self.pve.strict_storage = on

    async def do_bare_errors(self, on: bool) -> None:
        """Errors tell in the reason phrase alone."""
        self.pve.faults.bare = on

    async def do_away(self) -> None:
        """Nothing listens any more; what there is stays."""
        await self.pve.stop()

    async def do_back(self) -> None:
        """It listens again."""
        await self.pve.listen()

    async def do_certificate(self, name: str) -> str:
        """It listens with another certificate, of an authority of its own; returns its fingerprint."""
        fingerprint = tls.make(self.folder, name, self.pve.host, self.pve.local_node)
        self.pve.tls = tls.context(self.folder, name)
        await self.pve.stop()
        await self.pve.listen()
        return fingerprint

    async def do_heal(self) -> None:
        """Nothing goes wrong any more."""
        faults = self.pve.faults
        await self.do_let_go()
        faults.rules.clear()
        faults.task_rules.clear()
        faults.bare = False
        self.pve.failures.clear()
        await self.do_network()
        self.pve.quorate = True
        for node in self.pve.nodes.values():
            node["online"] = True

    # What was seen

    async def do_requests(self, since: int = 0) -> list:
        """Every request from that number on."""
        return self.pve.faults.seen[since:]

    async def do_tasks(self) -> list:
        """Every task, oldest first."""
        return self.pve.tasklog

    async def do_most_at_once(self) -> dict:
        """The most requests, and tasks of a type, that were under way at once."""
        return {"requests": self.pve.faults.most_at_once, "tasks": self.pve.most_tasks_at_once}

    async def do_wait_request(self, method: str, path: str, since: int = 0, answered: bool = True) -> dict:
        """Waits for a request, one that was answered unless told otherwise; returns it."""

        def found() -> dict | None:
            for seen in self.pve.faults.seen[since:]:
                if seen["method"] == method and seen["path"].endswith(path) and (not answered or seen["status"]):
                    return seen
            return None

        return await self._until(found)

    async def do_wait_task(
        self, upid: str | None = None, type: str | None = None, vmid: int | None = None, status: str = "running"  # noqa: A002
    ) -> dict:
        """Waits for a task that is running, or has stopped; returns it."""

        def found() -> dict | None:
            for task in self.pve.tasklog:
                if upid in (None, task["upid"]) and type in (None, task["type"]) and task["status"] == status:
                    if vmid is None or task["id"] == str(vmid):
                        return task
            return None

        return await self._until(found)

    async def _until(self, found: object) -> dict:
        async with self.pve.faults.changed:
            while (it := found()) is None:
                await self.pve.faults.changed.wait()
            return it
