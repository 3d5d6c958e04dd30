// Works around gradio 6.31's client (js/client: `open_stream`, `close_stream`), which loses answers of events. The client keeps one
// stream of answers (GET /queue/data) and takes it for open until it has read the message `close_stream`; the server has already
// forgotten the stream by then. An event that joins in between (POST /queue/join) is answered to nobody, and the page waits for good.
// This wraps `fetch` for the two addresses: while an answer is outstanding, `close_stream` is held back and the stream opened anew.
// tests/web/test_queue.py fails without it on a slow line, and its `test_the_workaround_is_for_this_gradio` asks for a look
// whenever gradio changes. No issue of gradio names it; its pull request #7926 (April 2024) mended a neighbour in the same client.
{
  const ask = window.fetch.bind(window);
  const unanswered = new Set(), early = new Set(); // ids of events; early: answered before the request for it had returned
  const joins = new Set(); // requests on their way

  const join = async (...request) => {
    const response = await ask(...request);
    const { event_id } = await response.clone().json().catch(() => ({}));
    if (response.ok && event_id && !early.delete(event_id)) unanswered.add(event_id);
    return response;
  };

  // Passes the messages of a stream on, but keeps the one that ends it. Returns that.
  const pass = async (response, onward) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let read = "", end = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const messages = (read + part.value).split("\n\n");
      read = messages.pop();
      for (const message of messages) {
        const { msg, event_id } = JSON.parse(message.replace(/^data:/, ""));
        if (msg === "process_completed" && !unanswered.delete(event_id)) early.add(event_id);
        if (msg === "close_stream") end = message;
        else onward(message);
      }
    }
    return end;
  };

  const answers = async (...request) => {
    const first = await ask(...request);
    if (!first.ok) return first;
    const encoder = new TextEncoder();
    const start = async (stream) => {
      const onward = (message) => stream.enqueue(encoder.encode(`${message}\n\n`));
      try {
        let end = "";
        for (let response = first; response.ok; response = await ask(...request)) {
          end = await pass(response, onward);
          while (joins.size) await Promise.allSettled([...joins]);
          if (!end || !unanswered.size) break;
        }
        if (end) onward(end);
        stream.close();
      } catch (error) {
        stream.error(error);
      }
    };
    return new Response(new ReadableStream({ start }), { status: first.status, headers: first.headers });
  };

  window.fetch = (...request) => {
    const path = new URL(request[0].url ?? request[0], location.href).pathname;
    if (path.endsWith("/queue/data")) return answers(...request);
    if (!path.endsWith("/queue/join")) return ask(...request);
    const joined = join(...request);
    joins.add(joined);
    joined.finally(() => joins.delete(joined)).catch(() => {});
    return joined;
  };
}
