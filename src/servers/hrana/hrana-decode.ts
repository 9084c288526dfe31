/**
 * Hrana's requests out of parsed JSON. Everything is checked before anything runs: a request that is malformed anywhere is refused whole,
 * with the path of what is wrong. By hand, since this is the hot path; unknown fields are ignored, as the protocol says.
 */
import type { SqlValue } from "../../base/values.js";
import type { Condition, StatementArgs } from "../../sql/local-store.js";
import { badRequest, type HttpFault } from "./hrana-errors.js";
import { conditionDepthMax } from "./hrana-limits.js";

/** A text, or the id of one that the stream has stored. */
export type SqlSource = string | number;

export interface RequestedStatement {
  readonly sql: SqlSource;
  readonly args: StatementArgs;
  readonly wantRows: boolean;
}

export interface RequestedStep extends RequestedStatement {
  readonly condition: Condition | null;
}

export type StreamRequest =
  | { readonly kind: "close" }
  | { readonly kind: "execute"; readonly statement: RequestedStatement }
  | { readonly kind: "batch"; readonly steps: readonly RequestedStep[] }
  | { readonly kind: "sequence"; readonly sql: SqlSource }
  | { readonly kind: "describe"; readonly sql: SqlSource }
  | { readonly kind: "store_sql"; readonly id: number; readonly sql: string }
  | { readonly kind: "close_sql"; readonly id: number }
  | { readonly kind: "get_autocommit" };

export interface Pipeline {
  readonly baton: string | null;
  readonly requests: readonly StreamRequest[];
}

export interface CursorRequest {
  readonly baton: string | null;
  readonly steps: readonly RequestedStep[];
}

type Fields = Readonly<Record<string, unknown>>;

export function decodePipeline(body: unknown): Pipeline {
  const fields = object(body, "body");
  return { baton: baton(fields), requests: array(fields.requests, "requests").map((item, index) => streamRequest(item, `requests[${index}]`)) };
}

export function decodeCursorRequest(body: unknown): CursorRequest {
  const fields = object(body, "body");
  return { baton: baton(fields), steps: batchSteps(fields.batch, "batch") };
}

/** Body of POST /v1/execute. */
export function decodeExecuteBody(body: unknown): RequestedStatement {
  return statement(object(body, "body").stmt, "stmt");
}

/** Body of POST /v1/batch. */
export function decodeBatchBody(body: unknown): readonly RequestedStep[] {
  return batchSteps(object(body, "body").batch, "batch");
}

/** Body of POST /v1/remove: a node id. */
export function decodeRemoveBody(body: unknown): number {
  const { nodeId } = object(body, "body");
  if (typeof nodeId !== "number" || !Number.isSafeInteger(nodeId) || nodeId < 1 || nodeId >= 2 ** 48)
    throw wrong("nodeId", "a whole number from 1 to 2^48 - 1", nodeId);
  return nodeId;
}

function streamRequest(value: unknown, path: string): StreamRequest {
  const fields = object(value, path);
  switch (fields.type) {
    case "execute":
      return { kind: "execute", statement: statement(fields.stmt, `${path}.stmt`) };
    case "batch":
      return { kind: "batch", steps: batchSteps(fields.batch, `${path}.batch`) };
    case "sequence":
      return { kind: "sequence", sql: sqlSource(fields, path) };
    case "describe":
      return { kind: "describe", sql: sqlSource(fields, path) };
    case "store_sql":
      return { kind: "store_sql", id: int32(fields.sql_id, `${path}.sql_id`), sql: text(fields.sql, `${path}.sql`) };
    case "close_sql":
      return { kind: "close_sql", id: int32(fields.sql_id, `${path}.sql_id`) };
    case "get_autocommit":
      return { kind: "get_autocommit" };
    case "close":
      return { kind: "close" };
    default:
      throw wrong(`${path}.type`, "one of execute, batch, sequence, describe, store_sql, close_sql, get_autocommit, close", fields.type);
  }
}

function batchSteps(value: unknown, path: string): readonly RequestedStep[] {
  return array(object(value, path).steps, `${path}.steps`).map((item, index) => {
    const stepPath = `${path}.steps[${index}]`;
    const fields = object(item, stepPath);
    const requested = statement(fields.stmt, `${stepPath}.stmt`);
    return { ...requested, condition: optional(fields.condition) ? null : condition(fields.condition, `${stepPath}.condition`, index, 0) };
  });
}

function condition(value: unknown, path: string, stepIndex: number, depth: number): Condition {
  if (depth > conditionDepthMax) throw badRequest(`${path}: nested deeper than ${conditionDepthMax}`);
  const fields = object(value, path);
  switch (fields.type) {
    case "ok":
    case "error":
      return { kind: fields.type, step: earlierStep(fields.step, `${path}.step`, stepIndex) };
    case "not":
      return { kind: "not", condition: condition(fields.cond, `${path}.cond`, stepIndex, depth + 1) };
    case "and":
    case "or": {
      const conditions = array(fields.conds, `${path}.conds`).map((item, index) => condition(item, `${path}.conds[${index}]`, stepIndex, depth + 1));
      return { kind: fields.type, conditions };
    }
    case "is_autocommit":
      return { kind: "isAutocommit" };
    default:
      throw wrong(`${path}.type`, "one of ok, error, not, and, or, is_autocommit", fields.type);
  }
}

function earlierStep(value: unknown, path: string, stepIndex: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= stepIndex)
    throw wrong(path, "the index of an earlier step", value);
  return value;
}

const noArgs: StatementArgs = { positional: [], named: [] };

function statement(value: unknown, path: string): RequestedStatement {
  const fields = object(value, path);
  const wantRows = fields.want_rows;
  if (!optional(wantRows) && typeof wantRows !== "boolean") throw wrong(`${path}.want_rows`, "true or false", wantRows);
  return { sql: sqlSource(fields, path), args: statementArgs(fields, path), wantRows: wantRows !== false };
}

function statementArgs(fields: Fields, path: string): StatementArgs {
  const hasPositional = !isEmptyList(fields.args);
  const hasNamed = !isEmptyList(fields.named_args);
  if (!hasPositional && !hasNamed) return noArgs;
  const positional = hasPositional ? array(fields.args, `${path}.args`).map((item, index) => decodeValue(item, `${path}.args[${index}]`)) : [];
  const named = hasNamed ? array(fields.named_args, `${path}.named_args`).map((item, index) => namedArg(item, `${path}.named_args[${index}]`)) : [];
  return { positional, named };
}

function isEmptyList(value: unknown): boolean {
  return optional(value) || (Array.isArray(value) && value.length === 0);
}

function namedArg(value: unknown, path: string): { name: string; value: SqlValue } {
  const fields = object(value, path);
  return { name: text(fields.name, `${path}.name`), value: decodeValue(fields.value, `${path}.value`) };
}

const integerText = /^-?\d{1,19}$/;
const base64Text = /^[A-Za-z0-9+/]*={0,2}$/;

export function decodeValue(value: unknown, path: string): SqlValue {
  const fields = object(value, path);
  switch (fields.type) {
    case "null":
      return null;
    case "integer":
      return integer(fields.value, path);
    case "float":
      if (typeof fields.value !== "number") throw wrong(`${path}.value`, "a number", fields.value);
      return fields.value;
    case "text":
      return text(fields.value, `${path}.value`);
    case "blob":
      return blob(fields.base64, `${path}.base64`);
    default:
      throw wrong(`${path}.type`, "one of null, integer, float, text, blob", fields.type);
  }
}

/** A decimal string; a whole JSON number too, which some hand-written clients send. */
function integer(value: unknown, path: string): bigint {
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  if (typeof value !== "string" || !integerText.test(value)) throw wrong(`${path}.value`, "a 64-bit integer as a decimal string", value);
  const parsed = BigInt(value);
  if (parsed !== BigInt.asIntN(64, parsed)) throw wrong(`${path}.value`, "a 64-bit integer as a decimal string", value);
  return parsed;
}

function blob(value: unknown, path: string): Uint8Array {
  if (typeof value !== "string" || !base64Text.test(value)) throw wrong(path, "base64", value);
  const digitCount = value.endsWith("==") ? value.length - 2 : value.endsWith("=") ? value.length - 1 : value.length;
  if (digitCount % 4 === 1) throw wrong(path, "base64", value);
  return Buffer.from(value, "base64");
}

function sqlSource(fields: Fields, path: string): SqlSource {
  const hasSql = !optional(fields.sql);
  if (hasSql === !optional(fields.sql_id)) throw badRequest(`${path}: exactly one of sql and sql_id is wanted`);
  return hasSql ? text(fields.sql, `${path}.sql`) : int32(fields.sql_id, `${path}.sql_id`);
}

function baton(fields: Fields): string | null {
  return optional(fields.baton) ? null : text(fields.baton, "baton");
}

function optional(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

function object(value: unknown, path: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(path, "an object", value);
  return value as Fields;
}

function array(value: unknown, path: string): readonly unknown[] {
  if (!Array.isArray(value)) throw wrong(path, "an array", value);
  return value;
}

function text(value: unknown, path: string): string {
  if (typeof value !== "string") throw wrong(path, "a string", value);
  return value;
}

function int32(value: unknown, path: string): number {
  if (typeof value !== "number" || (value | 0) !== value) throw wrong(path, "a 32-bit integer", value);
  return value;
}

function wrong(path: string, wanted: string, value: unknown): HttpFault {
  const shown =
    value === undefined
      ? "nothing"
      : typeof value === "object" && value !== null
        ? Array.isArray(value)
          ? "an array"
          : "an object"
        : JSON.stringify(value);
  return badRequest(`${path}: ${wanted} is wanted, not ${shown.length > 60 ? `${shown.slice(0, 60)}…` : shown}`);
}
