// Container health check: node health.mjs URL [--rpc METHOD] → exit 0 on a 2xx answer; with a method, on a result.
// Plain JavaScript on a bare socket: it runs every few seconds in every container, and node:http would double its cost.
import { connect } from "node:net";

const [url, flag, method] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const body = flag === "--rpc" ? JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: [] }) : "";
const head = [
  `${body === "" ? "GET" : "POST"} ${pathname} HTTP/1.0`,
  `host: ${hostname}`,
  "connection: close",
  ...(body === "" ? [] : ["content-type: application/json", `content-length: ${Buffer.byteLength(body)}`]),
];
const fail = (why) => {
  process.stdout.write(`${why.slice(0, 200)}\n`);
  process.exit(1);
};

let text = "";
const socket = connect(Number(port), hostname, () => socket.write(`${head.join("\r\n")}\r\n\r\n${body}`));
socket.setEncoding("utf8");
socket.setTimeout(3000, () => fail("no answer in 3 s"));
socket.on("error", (error) => fail(error.code ?? error.message));
socket.on("data", (part) => {
  text += part;
});
socket.on("end", () => {
  if (!/^HTTP\/1\.[01] 2\d\d /.test(text)) fail(text === "" ? "closed without an answer" : text);
  if (body !== "" && !text.includes('"result"')) fail(text);
  process.exit(0);
});
