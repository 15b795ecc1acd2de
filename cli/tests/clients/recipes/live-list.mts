// Recipe 1: live-updating list with Postgres Changes.
import { say } from '../lines.mjs'
import { connect, nextRef, page, play, send } from './setup.mts'

const localStorage = { getItem: () => page.token }
const addTodoToUI = (row: object) => say({ saw: 'added', row })
const updateTodoInUI = (row: object) => say({ saw: 'updated', row })
const removeTodoFromUI = (id: unknown) => say({ saw: 'removed', id })
const console = { log: (...words: unknown[]) => say({ saw: 'logged', words }) }

const accessToken = localStorage.getItem("powabase_access_token");
const ws = connect(accessToken);

ws.addEventListener("open", () => {
  // Join the channel. Topic is arbitrary, but the convention is "realtime:<schema>:<table>".
  send(ws, nextRef(), "realtime:public:todos", "phx_join", {
    config: {
      postgres_changes: [
        {
          event: "*",  // INSERT, UPDATE, DELETE, or "*" for all three
          schema: "public",
          table: "todos",
        },
      ],
    },
  });
});

ws.addEventListener("message", (e) => {
  const msg = JSON.parse(e.data);

  if (msg.event === "phx_reply" && msg.payload.status === "ok") {
    console.log("Joined channel:", msg.topic);
    return;
  }

  if (msg.event === "postgres_changes") {
    const { eventType, new: newRow, old: oldRow } = msg.payload.data;
    switch (eventType) {
      case "INSERT": addTodoToUI(newRow); break;
      case "UPDATE": updateTodoInUI(newRow); break;
      case "DELETE": removeTodoFromUI(oldRow.id); break;
    }
  }
});

play(ws)
