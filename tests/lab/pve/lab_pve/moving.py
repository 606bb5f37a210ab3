"""Containers that move between nodes, as PVE::LXC::Migrate has it: looked over, shut down where they run, locked, moved,
unlocked, started where they ran before."""

import asyncio

from fakepve import PveError, TaskError

from . import real

SHUTDOWN_DEFAULT_S = 180


def pairs(text: str | None) -> dict[str, str]:
    """A storage-pair-list: which storage's volumes go to which."""
    return dict(part.split(":") for part in text.split(",")) if text else {}


class Moving:
    """Mixin for the lab's Proxmox VE, over the fake's own containers."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        # What high availability keeps from where: container, node, and the resources that are why.
        self.refused_moves: dict[int, dict[str, list[str]]] = {}

    async def _lxc_migrate_check(self, user: str, values: dict) -> dict:
        found = await super()._lxc_migrate_check(user, values)
        refused = self.refused_moves.get(int(values["vmid"]), {})
        found["allowed-nodes"] = [node for node in found["allowed-nodes"] if node not in refused]
        found["not-allowed-nodes"] = {
            node: {"blocking-ha-resources": [{"sid": sid, "cause": "resource-affinity"} for sid in sids]}
            for node, sids in refused.items()
        }
        return found

    async def _lxc_migrate(self, user: str, values: dict) -> str:
        target = values["target"]
        if target == values["node"]:
            raise PveError(400, "Parameter verification failed.", {"target": "target is local node."})
        self.need_quorum()
        if target not in self.nodes:
            raise PveError(500, f"no such cluster node '{target}'")
        ct = self._find_ct(values["node"], values["vmid"])
        if ct.status == "running" and not values.get("online") and not values.get("restart"):
            raise PveError(500, "can't migrate running container without --online or --restart")

        async def move() -> str:
            return await self._move(ct, target, values, user)

        begin = [f"starting migration of CT {ct.vmid} to node '{target}'"]
        if not ct.ha_managed:
            return await self._ct_task(ct, "vzmigrate", user, move, lock=False, log=begin)

        async def ask() -> None:
            # Whoever manages the cluster's resources does it in its own time.
            later = self._ct_task(ct, "vzmigrate", "root@pam", move, lock=False, log=begin)
            asyncio.get_running_loop().create_task(later)

        asked = [f"Requesting HA migration for CT {ct.vmid} to node {target}"]
        return await self._ct_task(ct, "hamigrate", user, ask, lock=False, log=asked)

    async def _move(self, ct: object, target: str, values: dict, user: str) -> str:
        rule, record = self.at_work[ct.vmid]
        try:
            places = self._looked_over(ct, target, values)
            was_running = ct.status == "running"
            if was_running:
                record["log"].append(f"shutdown CT {ct.vmid}")
                await self._ct_powerdown(ct, values.get("timeout") or SHUTDOWN_DEFAULT_S, True)
            ct.lock = "migrate"
            try:
                await self.befall(rule, record)
                await self.pause(self.ct_secs["migrate"])
            except TaskError:
                if not rule.leave:
                    ct.lock = None
                    if was_running:
                        record["log"].append("start container on source node")
                        await self._start_steps(ct, user)
                raise
        except TaskError as why:
            record["log"].append(f"ERROR: migration aborted (duration 00:00:01): {why}")
            raise TaskError("migration aborted") from why
        for key, mount in ct.volumes():
            storage, _, name = mount["volume"].partition(":")
            old, new = f"{storage}:{name}", f"{places.get(storage, storage)}:{name}"
            ct.config[key] = ct.config[key].replace(old, new)
        if ct.vmid in self.backed:
            self.backed.discard(ct.vmid)
            await real.remove(ct.vmid)
        ct.node = target
        ct.lock = None
        if was_running:
            record["log"].append("start container on target node")
            await self._start_steps(ct, user)
        return "migration finished successfully"

    def _looked_over(self, ct: object, target: str, values: dict) -> dict[str, str]:
        """What is looked at before anything is done; returns where volumes go whose storage the other node lacks."""
        self._task_lock(ct)
        if ct.status == "running" and not values.get("restart"):
            raise TaskError("running container can only be migrated in restart mode")
        places = pairs(values.get("target-storage"))
        for key, text in ct.config.items():
            if key.startswith("mp") and text.startswith("/") and "shared=1" not in text:
                raise TaskError(f"cannot migrate local bind mount point '{key}'")
        for _, mount in ct.volumes():
            storage = mount["volume"].partition(":")[0]
            shared = self.storages.get(storage, {}).get("shared")
            there = storage if shared else places.get(storage, storage)
            if there not in self.storages or not self._storage_enabled(there, target):
                raise TaskError(f"storage '{there}' is not available on node '{target}'")
            if "rootdir" not in self.storages[there]["content"]:
                raise TaskError(f"{mount['volume']}: content type 'rootdir' is not available on storage '{there}'")
        if not self.nodes[target].get("online", True):
            raise TaskError("Can't connect to destination address using public key")
        return places
