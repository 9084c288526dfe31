/**
 * A disk that can lose its power. `recordFiles` passes every operation on and notes when it began and ended; `imageAt` says what the disk
 * may hold after a loss of power at any such moment: what was synced, and of the rest any sectors and any first few changes of names.
 */
import type { Random } from "../../src/base/random.js";
import type { FileSystem, OpenFile, OpenMode } from "../../src/storage/file-system.js";

type Operation =
  | { readonly kind: "create" | "remove"; readonly path: string }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  | { readonly kind: "syncNames" }
  | { readonly kind: "write"; readonly file: number; readonly offset: number; readonly bytes: Buffer; readonly isDurable: boolean }
  | { readonly kind: "sync"; readonly file: number };

interface Event {
  readonly operation: Operation;
  /** For create: the file made. */
  readonly file: number;
  readonly beganAt: number;
  endedAt: number;
  /** A write that the page cache has and nobody was told of. */
  isOnlyCached: boolean;
}

/** Path → content. */
export type Image = Map<string, Buffer>;

const sectorBytes = 512;

export class CrashRecord {
  readonly events: Event[] = [];
  /** Moments: every beginning and end of an operation takes one. */
  now = 0;
  readonly #start: Image;
  readonly #names = new Map<string, number>();
  #fileCount = 0;

  constructor(start: Image = new Map()) {
    this.#start = new Map([...start].map(([path, bytes]) => [path, Buffer.from(bytes)]));
    for (const path of this.#start.keys()) this.#names.set(path, ++this.#fileCount);
  }

  files(inner: FileSystem): FileSystem {
    return {
      open: async (path, mode) => {
        if (mode === "create") {
          await this.#note({ kind: "create", path }, ++this.#fileCount, () => inner.open(path, mode).then((file) => file.close()));
          this.#names.set(path, this.#fileCount);
        }
        const file = await inner.open(path, mode === "create" ? "write" : mode);
        return this.#file(file, this.#names.get(path) ?? 0, mode);
      },
      list: inner.list,
      rename: async (path, to) => {
        await this.#note({ kind: "rename", path, to }, 0, () => inner.rename(path, to));
        this.#names.set(to, this.#names.get(path) ?? 0);
        this.#names.delete(path);
      },
      remove: (path) => this.#note({ kind: "remove", path }, 0, () => inner.remove(path)),
      syncDirectory: (path) => this.#note({ kind: "syncNames" }, 0, () => inner.syncDirectory(path)),
    };
  }

  #file(inner: OpenFile, file: number, mode: OpenMode): OpenFile {
    return {
      read: inner.read,
      size: inner.size,
      close: inner.close,
      write: (bytes, offset) =>
        this.#note({ kind: "write", file, offset, bytes: Buffer.from(bytes), isDurable: mode === "durable" }, 0, () => inner.write(bytes, offset)),
      sync: () => this.#note({ kind: "sync", file }, 0, () => inner.sync()),
    };
  }

  async #note(operation: Operation, file: number, perform: () => Promise<void>): Promise<void> {
    const event: Event = { operation, file, beganAt: this.now++, endedAt: Number.POSITIVE_INFINITY, isOnlyCached: false };
    this.events.push(event);
    await perform();
    event.endedAt = this.now++;
  }

  /** The process is killed: what it had under way is in the page cache, and on the disk only once somebody syncs it. */
  kill(): void {
    for (const event of this.events) {
      if (event.endedAt < this.now) continue;
      event.endedAt = this.now++;
      event.isOnlyCached = true;
    }
  }

  imageAt(moment: number, random: Random): Image {
    const begun = this.events.filter((event) => event.beganAt < moment);
    const isDone = (event: Event): boolean => event.endedAt < moment;
    const contents = new Map<number, Buffer>();
    const names = new Map<string, number>();
    let startCount = 0;
    for (const [path, bytes] of this.#start) {
      names.set(path, ++startCount);
      contents.set(startCount, Buffer.from(bytes));
    }
    for (const event of begun) {
      const { operation } = event;
      if (operation.kind !== "write") continue;
      const isSynced =
        isDone(event) &&
        ((operation.isDurable && !event.isOnlyCached) ||
          begun.some((one) => one.operation.kind === "sync" && one.operation.file === operation.file && one.beganAt > event.endedAt && isDone(one)));
      contents.set(operation.file, written(contents.get(operation.file), operation.offset, operation.bytes, isSynced ? null : random));
    }
    const changes = begun.filter(({ operation }) => operation.kind === "create" || operation.kind === "rename" || operation.kind === "remove");
    const lastSync = Math.max(-1, ...begun.filter((one) => one.operation.kind === "syncNames" && isDone(one)).map((one) => one.beganAt));
    const surely = changes.filter((one) => one.endedAt < lastSync).length;
    for (const { operation, file } of changes.slice(0, surely + random.integer(changes.length - surely + 1))) {
      if (operation.kind === "create") names.set(operation.path, file);
      else if (operation.kind === "remove") names.delete(operation.path);
      else if (operation.kind === "rename") {
        names.set(operation.to, names.get(operation.path) ?? 0);
        names.delete(operation.path);
      }
    }
    return new Map([...names].map(([path, file]) => [path, contents.get(file) ?? Buffer.alloc(0)]));
  }
}

/** `random` null: all of it; else some sectors of it, in one of the ways in which disks lose them. */
function written(before: Buffer | undefined, offset: number, bytes: Buffer, random: Random | null): Buffer {
  const old = before ?? Buffer.alloc(0);
  const sectors: number[] = [];
  for (let at = Math.floor(offset / sectorBytes) * sectorBytes; at < offset + bytes.length; at += sectorBytes) sectors.push(at);
  const manner = random === null ? 0 : random.integer(4);
  const cut = random === null ? 0 : random.integer(sectors.length + 1);
  const kept = sectors.filter((_, index) => {
    if (random === null || manner === 0) return true;
    if (manner === 1) return index < cut;
    if (manner === 2) return index >= cut;
    return random.integer(2) === 0;
  });
  let result = old;
  for (const sector of kept) {
    const from = Math.max(sector, offset);
    const to = Math.min(sector + sectorBytes, offset + bytes.length);
    if (to > result.length) result = Buffer.concat([result, Buffer.alloc(to - result.length)]);
    else if (result === old) result = Buffer.from(old);
    bytes.copy(result, from, from - offset, to - offset);
  }
  return result;
}

/** The image as a file system, changed in place. */
export function imageFiles(image: Image): FileSystem {
  const contentOf = (path: string): Buffer => {
    const bytes = image.get(path);
    if (bytes === undefined) throw Object.assign(new Error(`ENOENT: ${path}`), { code: "ENOENT" });
    return bytes;
  };
  return {
    async open(path, mode) {
      if (mode === "create") image.set(path, Buffer.alloc(0));
      contentOf(path);
      return {
        read: async (offset, count) => Buffer.from(contentOf(path).subarray(offset, offset + count)),
        write: async (bytes, offset) => {
          await Promise.resolve();
          image.set(path, written(contentOf(path), offset, Buffer.from(bytes), null));
        },
        sync: async () => {},
        size: async () => contentOf(path).length,
        close: async () => {},
      };
    },
    async list(directory) {
      return [...image.keys()]
        .filter((path) => path.startsWith(`${directory}/`))
        .map((path) => path.slice(directory.length + 1))
        .sort();
    },
    async rename(from, to) {
      image.set(to, contentOf(from));
      image.delete(from);
    },
    async remove(path) {
      contentOf(path);
      image.delete(path);
    },
    async syncDirectory() {},
  };
}
