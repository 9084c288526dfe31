/** The identities and places that every folder speaks of (design.md §1). Branded, so that one is never passed for another. */
declare const brand: unique symbol;
type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Place in the stream. The first entry is 1; 0 means "none yet". */
export type Seq = Brand<number, "Seq">;

/** Raft term; 0 means "none yet". */
export type Term = Brand<number, "Term">;

/** The seq of an engine's BOOT entry: one per life of a process, never used twice. 0 means "not a member yet". */
export type EngineId = Brand<number, "EngineId">;

/** Kept on an Archive's disk: who it is when it votes. Random, below 2^48. 0 for engines that never vote. */
export type NodeId = Brand<number, "NodeId">;

/** Chosen at random by each process start, below 2^48: names a process before its BOOT is applied, and salts its sealing key. */
export type Nonce = Brand<number, "Nonce">;

/** A database's identity: 16 lower-case hexadecimal digits, random at creation. */
export type ClusterId = Brand<string, "ClusterId">;

/** Where an engine is reached: "address:port", the same port for UDP and TCP. */
export type Endpoint = Brand<string, "Endpoint">;

/** A key space: a table's rows, or a unique index's entries. `life * 65_536 + n`, chosen by the proposer of the DDL; 1 is the schema catalog's names. */
export type SpaceId = Brand<number, "SpaceId">;

/** `life * 2^24 + n`, chosen by the engine that proposes the atom's making; 1 is the schema catalog. */
export type AtomId = Brand<number, "AtomId">;

/** The how many-eth BOOT of the database an engine's was, from 1: short, where an EngineId grows with the stream. */
export type Life = Brand<number, "Life">;

/** Counts an engine's proposals from 1, without holes. */
export type ProposalSeq = Brand<number, "ProposalSeq">;

export type EngineKind = "archive" | "cache";

export const noSeq = 0 as Seq;
export const noTerm = 0 as Term;
export const noEngine = 0 as EngineId;
export const noNode = 0 as NodeId;

/** The key space of the schema catalog: its keys are object names, ASCII letters folded to lower case, as UTF-8. */
export const schemaSpace = 1 as SpaceId;

/** The key space of large values' chunks (base/large-values.ts), in every Archive's store. */
export const largeValueSpace = 2 as SpaceId;

/** The one atom of the schema catalog. */
export const schemaAtom = 1 as AtomId;

export const spacesPerEngine = 65_536;
/** Below 2^53 for 2^29 engines in a database's life. An engine that has used up its half of these starts over as a new one. */
export const atomsPerEngine = 2 ** 24;
