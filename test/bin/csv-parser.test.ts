import fc from "fast-check";
import { expect, test } from "vitest";
import { createCsvParser } from "../../src/bin/csv-parser.js";

function parse(pieces: readonly string[]): (string | null)[][] {
  const parser = createCsvParser();
  return [...pieces.flatMap((piece) => parser.push(piece)), ...parser.end()].map((record) => [...record.fields]);
}

const field = fc.oneof(fc.constant(null), fc.string({ unit: fc.constantFrom("a", ",", '"', "\n", "\r", "é", " ") }));

test("any records come back as they were written, however the text is cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(field, { minLength: 2, maxLength: 4 }), { maxLength: 6 }),
      fc.constantFrom("\n", "\r\n"),
      fc.array(fc.nat(), { maxLength: 8 }),
      (records, lineEnd, cuts) => {
        const text = records
          .map((record) => record.map((value) => (value === null ? "" : `"${value.replaceAll('"', '""')}"`)).join(",") + lineEnd)
          .join("");
        const places = [0, ...cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b), text.length];
        const pieces = places.slice(1).map((place, index) => text.slice(places[index], place));
        expect(parse(pieces)).toEqual(records);
      },
    ),
    { numRuns: 500 },
  );
});

test.each<[string, (string | null)[][]]>([
  ["a,b", [["a", "b"]]],
  ["a,\n", [["a", null]]],
  [",", [[null, null]]],
  ["\n\na\n\n", [["a"]]],
  ['""\n', [[""]]],
  ['a"b,c"\n', [['a"b', 'c"']]],
  ["a\rb\n", [["a\rb"]]],
  ["a\r", [["a"]]],
])("%j", (text, records) => {
  expect(parse([text])).toEqual(records);
  expect(parse([...text])).toEqual(records);
});

test("records know their lines", () => {
  const parser = createCsvParser();
  expect(parser.push('a\n"b\nc"\n\nd\n').map((record) => record.line)).toEqual([1, 2, 5]);
});
