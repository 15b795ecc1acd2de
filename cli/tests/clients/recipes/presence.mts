// Recipe 2: presence, who is online.
import { say } from '../lines.mjs'
import { connect, nextRef, page, play, send } from './setup.mts'

const { token: accessToken, room: docId, user: userId } = page
const userDisplayName = `User ${userId}`
const pickColor = () => '#336699'
const setOnlineUsers = (users: object[]) => say({ saw: 'online', users })
const handlePresenceDiff = (joins: object, leaves: object) => say({ saw: 'diff', joins, leaves })
const window = new EventTarget()

const ws = connect(accessToken);
const channelName = `presence:doc-${docId}`;

ws.addEventListener("open", () => {
  // Join with a presence config — no postgres_changes here
  send(ws, nextRef(), channelName, "phx_join", {
    config: { presence: { key: userId } },
  });
});

ws.addEventListener("message", (e) => {
  const msg = JSON.parse(e.data);

  if (msg.event === "phx_reply" && msg.payload.status === "ok" && msg.topic === channelName) {
    // We're joined. Track our presence.
    send(ws, nextRef(), channelName, "presence_diff", {
      action: "track",
      data: {
        user_id: userId,
        display_name: userDisplayName,
        cursor_color: pickColor(userId),
        joined_at: new Date().toISOString(),
      },
    });
    return;
  }

  if (msg.event === "presence_state") {
    // Initial snapshot of everyone currently in the channel
    const everyone = msg.payload;  // { user_id: [presence_data, ...] }
    setOnlineUsers(Object.values(everyone).flat());
  }

  if (msg.event === "presence_diff") {
    // Incremental updates
    const { joins, leaves } = msg.payload;
    handlePresenceDiff(joins, leaves);
  }
});

// Untrack on tab close so others see us leave promptly
window.addEventListener("beforeunload", () => {
  send(ws, nextRef(), channelName, "presence_diff", { action: "untrack" });
});

play(ws, { unload: () => window.dispatchEvent(new Event('beforeunload')) })
