/**
 * CSV by RFC 4180, piece by piece: fields in quotes may hold commas, line ends and doubled quotes. Lines end in LF or CRLF. A field of
 * nothing is null, and one of empty quotes is the empty text. Empty lines are passed over, since they hold no record.
 *
 * | state   | quote            | comma      | line end    | other    |
 * |---------|------------------|------------|-------------|----------|
 * | start   | quoted           | null field | null field, record | plain |
 * | plain   | kept as it is    | field      | field, record | kept   |
 * | quoted  | closing          | kept       | kept        | kept     |
 * | closing | a quote; quoted  | field      | field, record | fault  |
 */
import { DatabaseError } from "../base/errors.js";

export interface CsvRecord {
  readonly fields: readonly (string | null)[];
  /** Of the record's first character, from 1. */
  readonly line: number;
}

export interface CsvParser {
  /** The records that end in this piece. DatabaseError where the text is not CSV. */
  push(text: string): CsvRecord[];
  /** The record that the end of the file ends, if there is one. */
  end(): CsvRecord[];
}

/** Characters of one record; an unclosed quote would otherwise take the whole file into memory. */
const recordCharsMax = 64 * 1024 * 1024;

const enum State {
  start = 0,
  plain = 1,
  quoted = 2,
  closing = 3,
}

const quote = 0x22;
const comma = 0x2c;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;

export function createCsvParser(): CsvParser {
  let state: State = State.start;
  let field = "";
  let fields: (string | null)[] = [];
  let line = 1;
  let recordLine = 1;
  let charCount = 0;
  let isAtFileStart = true;
  /** A CR at the end of a piece: part of a line end, or a character of its own. */
  let heldReturn = false;

  const endField = (): void => {
    fields.push(state === State.start ? null : field);
    field = "";
    state = State.start;
  };
  const endRecord = (records: CsvRecord[]): void => {
    const isEmptyLine = fields.length === 0 && state === State.start;
    endField();
    if (!isEmptyLine) records.push({ fields, line: recordLine });
    fields = [];
    charCount = 0;
    recordLine = line + 1;
  };

  const push = (piece: string): CsvRecord[] => {
    const records: CsvRecord[] = [];
    let text = heldReturn ? `\r${piece}` : piece;
    heldReturn = false;
    if (isAtFileStart && text.length > 0) {
      isAtFileStart = false;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    if (text.endsWith("\r")) {
      heldReturn = true;
      text = text.slice(0, -1);
    }
    /** Where the characters begin that were not yet taken into the field. */
    let from = 0;
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (state === State.quoted) {
        if (code === quote) {
          field += text.slice(from, index);
          state = State.closing;
        } else if (code === lineFeed) line++;
        continue;
      }
      if (code === quote && state !== State.plain) {
        // The second of two is itself part of the field.
        from = state === State.start ? index + 1 : index;
        state = State.quoted;
      } else if (code === comma) {
        if (state === State.plain) field += text.slice(from, index);
        endField();
      } else if (code === lineFeed || (code === carriageReturn && text.charCodeAt(index + 1) === lineFeed)) {
        if (state === State.plain) field += text.slice(from, index);
        endRecord(records);
        if (code === carriageReturn) index++;
        line++;
      } else if (state === State.closing) {
        throw csvFault(line, `${JSON.stringify(text.charAt(index))} behind a closing quote: a quote within quotes is written twice`);
      } else if (state === State.start) {
        state = State.plain;
        from = index;
      }
    }
    if (state === State.plain || state === State.quoted) field += text.slice(from);
    charCount += text.length;
    if (field.length > recordCharsMax || (records.length === 0 && charCount > recordCharsMax)) {
      throw csvFault(recordLine, `a record of more than ${recordCharsMax} characters (a quote that is not closed?)`);
    }
    return records;
  };

  return {
    push,
    end() {
      const records = heldReturn ? push("\n") : [];
      if (state === State.quoted) throw csvFault(recordLine, "a quote that is not closed");
      if (fields.length > 0 || state !== State.start) endRecord(records);
      return records;
    },
  };
}

export function csvFault(line: number, what: string): DatabaseError {
  return new DatabaseError("ATOMCAST_IMPORT_UNREADABLE", `Line ${line}: ${what}.`);
}
