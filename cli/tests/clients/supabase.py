"""Channels of the `realtime` package, driven as lines.mjs says."""

import asyncio
import json
import sys

from realtime import AsyncRealtimeClient

clients = {}
channels = {}


def plain(value):
    return value.model_dump(by_alias=True) if hasattr(value, "model_dump") else str(value)


def say(**seen):
    print(json.dumps(seen, default=plain), flush=True)


async def client(command):
    made = AsyncRealtimeClient(f"{command['url']}/realtime/v1", command["token"])
    clients[command["client"]] = made
    await made.connect()


async def open_channel(command):
    client_name, name = command["client"], command["channel"]

    def seen(saw, **more):
        say(client=client_name, channel=name, saw=saw, **more)

    params = {"config": {"broadcast": {"ack": False, "self": False}, "presence": {"key": ""}, "private": False}}
    params["config"].update(command.get("config", {}))
    channel = clients[client_name].channel(name, params)
    wanted = command.get("listen", {})
    for binding in wanted.get("changes", []):
        channel.on_postgres_changes(**binding, callback=lambda payload: seen("change", payload=payload))
    for event in wanted.get("broadcast", []):
        channel.on_broadcast(event, lambda payload: seen("broadcast", payload=payload))
    if wanted.get("presence"):
        channel.on_presence_sync(lambda: seen("sync", state=channel.presence_state()))
        channel.on_presence_join(lambda key, _, new: seen("join", key=key, new=new))
        channel.on_presence_leave(lambda key, _, left: seen("leave", key=key, left=left))
    channel.on_system(lambda payload: seen("system", payload=payload))
    channels[client_name, name] = channel
    await channel.subscribe(lambda status, error: seen("status", status=status, error=str(error) if error else None))


def channel_of(command):
    return channels[command["client"], command["channel"]]


COMMANDS = {
    "client": client,
    "open": open_channel,
    "send": lambda command: channel_of(command).send_broadcast(command["event"], command["payload"]),
    "track": lambda command: channel_of(command).track(command["payload"]),
    "untrack": lambda command: channel_of(command).untrack(),
    "leave": lambda command: channel_of(command).unsubscribe(),
    "auth": lambda command: clients[command["client"]].set_auth(command["token"]),
}


async def obey(command):
    about = {"client": command.get("client"), "channel": command.get("channel"), "did": command["do"]}
    try:
        await COMMANDS[command["do"]](command)
        say(**about, saw="done", result=None)
    except Exception as error:  # told to the test, which decides
        say(**about, saw="failed", error=repr(error))


async def main():
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say(saw="up")
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(obey(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
