/** Endpoints as sockets and seals want them. Engines are named by IPv4 addresses only: a name is resolved before it becomes an endpoint. */
import { isIPv4 } from "node:net";
import type { Endpoint } from "../../base/ids.js";

export interface EndpointAddress {
  readonly address: string;
  readonly port: number;
  /** Address and port as 6 bytes. */
  readonly bytes: Buffer;
}

export function endpointOf(address: string, port: number): Endpoint {
  return `${address}:${port}` as Endpoint;
}

/** null: not "IPv4 address:port". Endpoints come from other engines too, so a bad one is no bug of this engine. */
export function parseEndpoint(endpoint: Endpoint): EndpointAddress | null {
  const colon = endpoint.indexOf(":");
  const portText = endpoint.slice(colon + 1);
  if (colon < 0 || !/^[1-9][0-9]{0,4}$/.test(portText)) return null;
  return endpointAddress(endpoint.slice(0, colon), Number(portText));
}

export function endpointAddress(address: string, port: number): EndpointAddress | null {
  if (!isIPv4(address) || port > 65_535) return null;
  const bytes = Buffer.alloc(6);
  address.split(".").forEach((part, index) => {
    bytes[index] = Number(part);
  });
  bytes.writeUInt16BE(port, 4);
  return { address, port, bytes };
}

export function isLoopback(address: string): boolean {
  return address.startsWith("127.");
}
