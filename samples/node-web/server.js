// A page that shows what the platform gave this dyno.
import { createServer } from "node:http";
import { hostname } from "node:os";
import mime from "mime";

const { GREETING = "Hello from Deodar", DYNO, HEROKU_RELEASE_VERSION: release, PORT = 3000 } = process.env;

const server = createServer((request, response) => {
  response.setHeader("content-type", mime.getType("txt"));
  response.end(`${GREETING}\n${DYNO ?? "no dyno"} (${release ?? "no release"}) on ${hostname()}\n`);
});
server.listen(Number(PORT), () => console.log(`listening on ${PORT}`));

process.on("SIGTERM", () => {
  console.log("stopping in peace");
  server.close();
  server.closeIdleConnections();
});
