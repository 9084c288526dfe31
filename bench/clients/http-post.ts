/** JSON by POST on one keep-alive connection: node:http without anything around it, so that a system is measured and not a client. */
import { Agent, request } from "node:http";

export interface Poster {
  post(path: string, body: string): Promise<string>;
  get(path: string): Promise<string>;
  close(): void;
}

export function openPoster(url: string): Poster {
  const { hostname, port } = new URL(url);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const send = (method: string, path: string, body: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const asked = request({ hostname, port, path, method, agent, headers }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => {
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${path}: ${response.statusCode} ${text.slice(0, 300)}`));
        });
        response.on("error", reject);
      });
      asked.on("error", reject);
      asked.end(body);
    });
  return { post: (path, body) => send("POST", path, body), get: (path) => send("GET", path, ""), close: () => agent.destroy() };
}
