"""What goes wrong on demand, beyond what the fake can do by itself: with requests on their way, and with tasks."""

import asyncio
import json
import re
from dataclasses import dataclass, field

from aiohttp import web


class TaskLog(list):
    """A task's log, with the last line that Proxmox VE gives a task: what it failed of stands there alone."""

    def append(self, line: str) -> None:
        if self and line == f"TASK ERROR: {self[-1]}":
            self.pop()
        error, _, rest = line.partition("TASK ERROR: WARNINGS: ")
        super().append(f"TASK WARNINGS: {rest}" if rest and not error else line)


@dataclass
class Rule:
    """Something done to requests whose method and end of path are these."""

    do: str  # drop-before, drop-after, meddle
    method: str
    path: str
    times: int
    vmid: int = 0
    config: dict = field(default_factory=dict)

    def takes(self, request: web.Request) -> bool:
        """Whether it is meant, and has not been done often enough."""
        return self.times > 0 and request.method == self.method and request.path.endswith(self.path)


@dataclass
class TaskRule:
    """Something done to tasks of a type, and of a guest where that is not 0."""

    do: str  # fail, warn, delay, hold
    type: str
    vmid: int
    times: int
    message: str = ""
    secs: float = 0.0
    leave: bool = False  # what it has begun stays, as where the node lost power
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, kind: str, tid: object) -> bool:
        """Whether it is meant, and has not been done often enough."""
        return self.times > 0 and kind == self.type and self.vmid in (0, int(tid or 0))


def upload_fields(body: bytes) -> dict:
    """The parameters of an upload: of the file its name alone."""
    fields = {}
    for head, value in re.findall(rb'form-data; name="([^\r]*)"\r\n(?:Content-Type: [^\r]*\r\n)?\r\n([^\r]*)', body):
        name, _, file = head.decode().partition('"; filename="')
        fields[name] = file or value.decode()
    return fields


class Faults:
    """Middleware around all of the API: what is recorded of each request, and what is done to some."""

    def __init__(self, pve: object) -> None:
        self.pve = pve
        self.rules: list[Rule] = []
        self.task_rules: list[TaskRule] = []
        self.seen: list[dict] = []
        self.changed = asyncio.Condition()
        self.at_once = 0
        self.most_at_once = 0
        self.refusal_delay_s = 0.2  # of a 401; Proxmox VE takes 3 s
        self.bare = False  # errors say what is wrong in the reason phrase alone

    def rule(self, request: web.Request, *kinds: str) -> Rule | None:
        """The first rule of these kinds that takes the request, counted as done."""
        for rule in self.rules:
            if rule.do in kinds and rule.takes(request):
                rule.times -= 1
                return rule
        return None

    def task_rule(self, kind: str, tid: object) -> TaskRule | None:
        """The first rule that takes the task, counted as done."""
        for rule in self.task_rules:
            if rule.takes(kind, tid):
                rule.times -= 1
                return rule
        return None

    async def note(self, record: dict, **more: object) -> None:
        """Tells whoever waits for requests or tasks."""
        record.update(more)
        async with self.changed:
            self.changed.notify_all()

    @web.middleware
    async def serve(self, request: web.Request, handler: object) -> web.StreamResponse:
        """Records a request, has it answered, and does to the answer what was asked for."""
        record = {"method": request.method, "path": request.path, "query": dict(request.query), "status": None}
        record["body"] = await self.body(request)
        record["token"] = request.headers.get("Authorization", "").removeprefix("PVEAPIToken=").partition("=")[0]
        self.seen.append(record)
        await self.note(record)
        if self.rule(request, "drop-before"):
            self.drop(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = await handler(request)
        except web.HTTPException as refusal:
            await self.note(record, status=refusal.status)
            raise
        finally:
            self.at_once -= 1
        meddle = self.rule(request, "meddle")
        if meddle:
            await self.pve.change(meddle.vmid, meddle.config)
        await self.note(record, status=answer.status)
        if self.rule(request, "drop-after"):
            self.drop(request)
        if answer.status == 401:
            await asyncio.sleep(self.refusal_delay_s)
            return web.Response(status=401, reason=answer.reason)
        if answer.status >= 400 and self.bare and answer.content_type == "application/json":
            text = json.dumps({"data": None})
            return web.Response(status=answer.status, reason=answer.reason, text=text, content_type="application/json")
        return answer

    @staticmethod
    def drop(request: web.Request) -> None:
        """The connection breaks."""
        request.transport.abort()
        raise ConnectionResetError("the lab's Proxmox VE drops the connection")

    @staticmethod
    async def body(request: web.Request) -> dict:
        """The parameters in the body."""
        if not request.can_read_body:
            return {}
        if request.content_type == "multipart/form-data":
            return upload_fields(await request.read())
        if request.content_type == "application/json":
            return json.loads(await request.text())
        return dict(await request.post())
