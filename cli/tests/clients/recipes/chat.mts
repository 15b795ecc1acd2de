// Recipe 3: broadcast chat; `page.private` is the private room of its last part.
import { say } from '../lines.mjs'
import { connect, nextRef, page, play, send } from './setup.mts'

const { token: accessToken, room: roomId, user: userId } = page
const userDisplayName = `User ${userId}`
const appendMessageToUI = (message: object) => say({ saw: 'message', message })

const ws = connect(accessToken);
const channelName = `chat:room-${roomId}`;

ws.addEventListener("open", () => {
  if (page.private) {
    send(ws, nextRef(), channelName, "phx_join", {
      config: {
        broadcast: { self: false, ack: true },
        private: true,  // Realtime will check realtime.messages RLS
      },
    });
    return;
  }
  send(ws, nextRef(), channelName, "phx_join", {
    config: { broadcast: { self: false, ack: true } },
  });
});

// Send a message
function sendMessage(text: string) {
  send(ws, nextRef(), channelName, "broadcast", {
    type: "broadcast",
    event: "chat_message",
    payload: { user_id: userId, display_name: userDisplayName, text, at: Date.now() },
  });
}

ws.addEventListener("message", (e) => {
  const msg = JSON.parse(e.data);

  if (msg.event === "broadcast" && msg.payload.event === "chat_message") {
    appendMessageToUI(msg.payload.payload);
  }
});

play(ws, { write: ({ text }) => sendMessage(text) })
