/** Faults as Hrana clients know them: `{message, code}`, in a result or as the body of a 4xx or 5xx reply. */
import { DatabaseError } from "../../base/errors.js";
import type { SqlFault } from "../../sql/local-store.js";

/** Ends a whole HTTP request. Nothing of it ran, unless it says otherwise. */
export class HttpFault extends Error {
  override name = "HttpFault";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** A request whose JSON or shape is not Hrana's; told before anything of it runs. */
export function badRequest(message: string): HttpFault {
  return new HttpFault(400, "HRANA_PROTO_ERROR", message);
}

/** What SQLite's tokenizer and parser say; everything else has passed them. */
const parseErrorMessage = /(?:^|: )(?:near ".*": syntax error|incomplete input|unrecognized token: ".*)$/s;

/** The code that libSQL's clients expect: SQLite's primary code, or their own for text that does not parse. */
export function clientCode(code: string, message: string): string {
  if (code.startsWith("SQLITE_")) {
    if (code === "SQLITE_ERROR") return parseErrorMessage.test(message) ? "SQL_PARSE_ERROR" : code;
    const end = code.indexOf("_", 7);
    return end < 0 ? code : code.slice(0, end);
  }
  return code;
}

/** `offset` and `extended_code` are additions; the protocol has clients ignore fields that they do not know. */
export function encodeFault(fault: SqlFault): string {
  const code = clientCode(fault.code, fault.message);
  let json = `{"message":${JSON.stringify(fault.message)},"code":${JSON.stringify(code)}`;
  if (code !== fault.code) json += `,"extended_code":${JSON.stringify(fault.code)}`;
  if (fault.offset >= 0) json += `,"offset":${fault.offset}`;
  return `${json}}`;
}

/** A rejection of the engine as a fault. Anything but a DatabaseError is a bug: its text is for the log, not for clients. */
export function faultOf(error: unknown): SqlFault {
  if (error instanceof DatabaseError) return { code: error.code, message: error.message, offset: -1 };
  if (error instanceof HttpFault) return { code: error.code, message: error.message, offset: -1 };
  return {
    code: "INTERNAL_ERROR",
    message: "The server failed on this request; its log says why. Whether the statement took effect is not known.",
    offset: -1,
  };
}

/** The status of a reply that is nothing but this fault. */
export function statusOf(error: unknown): number {
  if (error instanceof HttpFault) return error.status;
  if (!(error instanceof DatabaseError)) return 500;
  if (error.code === "ATOMCAST_UNAVAILABLE") return 503;
  return error.code.startsWith("ATOMCAST_") ? 500 : 400;
}
