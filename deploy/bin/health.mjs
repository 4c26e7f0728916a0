// Container health check: node health.mjs URL → exit 0 when it answers 2xx, or, for JSON-RPC (`--rpc METHOD`), a result.
// Plain JavaScript without imports from the project: it starts in some 40 ms, every few seconds, in every container.
import { request } from "node:http";

const [url, flag, method] = process.argv.slice(2);
const body = flag === "--rpc" ? JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: [] }) : undefined;
const fail = (why) => {
  process.stdout.write(`${why}\n`);
  process.exit(1);
};
const headers = body === undefined ? {} : { "content-type": "application/json" };
const call = request(url, { method: body === undefined ? "GET" : "POST", headers, timeout: 3000 }, (response) => {
  let text = "";
  response.setEncoding("utf8");
  response.on("data", (part) => {
    text += part;
  });
  response.on("end", () => {
    const ok = response.statusCode >= 200 && response.statusCode < 300;
    if (!ok) fail(`${response.statusCode} ${text.slice(0, 200)}`);
    if (body !== undefined && !/"result"/.test(text)) fail(text.slice(0, 200));
    process.exit(0);
  });
});
call.on("timeout", () => fail("no answer in 3 s"));
call.on("error", (error) => fail(error.code ?? error.message));
call.end(body);
