/**
 * Keeps web pages away from a server on loopback that asks no token. A page in a browser can send requests to 127.0.0.1, and a name
 * of its own can be made to resolve there (DNS rebinding). Engines' clients are no browsers, so nothing that they need is refused.
 *
 * | row | request                                                                 | answer |
 * |-----|-------------------------------------------------------------------------|--------|
 * | H1  | Host required to be loopback, and absent or another name                | 403    |
 * | O1  | Origin present, and not this very server ("null" included)              | 403    |
 * | S1  | Sec-Fetch-Site present, and neither same-origin nor none                | 403    |
 * | C1  | POST with a Content-Type other than application/json                    | 415    |
 * | A1  | anything else                                                           | passes |
 *
 * H1 ends rebinding: the browser sends the page's name. O1 and S1 end requests of foreign pages; every browser sends Origin with a
 * cross-origin POST. C1 ends forms and "simple" requests once more, in case a proxy drops Origin: application/json needs a preflight,
 * which is never granted. A POST without Content-Type is what some Go and C clients send; from a browser it would carry Origin.
 */
export interface GuardedRequest {
  readonly method: string;
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly fetchSite: string | undefined;
  readonly contentType: string | undefined;
}

export interface Refusal {
  readonly status: 403 | 415;
  readonly code: string;
  readonly message: string;
}

export function guardRequest(request: GuardedRequest, requireLoopbackHost: boolean): Refusal | null {
  const { host, origin, fetchSite, contentType } = request;
  if (requireLoopbackHost && (host === undefined || !isLoopbackHost(host))) {
    return {
      status: 403,
      code: "HOST_REFUSED",
      message: `Host ${JSON.stringify(host ?? "")} is refused: this server answers to localhost, 127.x.x.x and [::1] only.`,
    };
  }
  if (origin !== undefined && (host === undefined || (origin !== `http://${host}` && origin !== `https://${host}`))) {
    return {
      status: 403,
      code: "ORIGIN_REFUSED",
      message: `Origin ${JSON.stringify(origin)} is refused: web pages of other origins may not use this server.`,
    };
  }
  if (fetchSite !== undefined && fetchSite !== "same-origin" && fetchSite !== "none") {
    return { status: 403, code: "ORIGIN_REFUSED", message: "A request of a web page of another origin is refused." };
  }
  if (request.method === "POST" && contentType !== undefined && contentType !== "application/json" && !isJsonType(contentType)) {
    return {
      status: 415,
      code: "CONTENT_TYPE_REFUSED",
      message: `Content-Type ${JSON.stringify(contentType)} is refused: send application/json.`,
    };
  }
  return null;
}

function isJsonType(contentType: string): boolean {
  const end = contentType.indexOf(";");
  return (end < 0 ? contentType : contentType.slice(0, end)).trim().toLowerCase() === "application/json";
}

const loopbackHost = /^(?:localhost|127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}|\[::1\])(?::\d{1,5})?$/i;

/** True for "localhost", an address of 127.0.0.0/8 or "[::1]", with or without a port. */
export function isLoopbackHost(host: string): boolean {
  return loopbackHost.test(host);
}
