// Prices are exact: compared by value, added without rounding, read only when there is one reading.
import assert from "node:assert/strict";
import { test } from "node:test";
import { add, compare, parse, percent, read, show, subtract, thousandths } from "../decimal.ts";

test("compares by value, whatever the digits", () => {
  assert.equal(compare("419.50", "419.5"), 0);
  assert.equal(compare("419.51", "419.5"), 1);
  assert.equal(compare("-1", "0.0"), -1);
  assert.equal(compare("9007199254740993.01", "9007199254740993.02"), -1); // beyond a float
});

test("adds and subtracts exactly", () => {
  assert.equal(add("0.1", "0.2"), "0.3");
  assert.equal(subtract("1000", "0.01"), "999.99");
  assert.equal(subtract("1.00", "2.5"), "-1.50");
  assert.equal(subtract("100000000000000000.1", "0.1"), "100000000000000000.0");
});

test("reads only decimals", () => {
  for (const text of ["", ".5", "1.", "1e3", "0x10", "NaN", " 1", "1,000"]) assert.equal(parse(text), undefined, text);
  assert.deepEqual(parse("-0.50"), { units: -50n, scale: 2 });
  assert.throws(() => compare("1", "one"), RangeError);
});

test("shows groups and fills up the scale", () => {
  assert.equal(show("1234567.5", 2), "1,234,567.50");
  assert.equal(show("100", 0), "100");
  assert.equal(show("-1000.25", 2), "-1,000.25");
  assert.equal(show("0.123", 2), "0.123");
});

test("reads what a person typed, and does not guess", () => {
  assert.equal(read(" 1,250.50 "), "1250.50");
  assert.equal(read("1 250"), "1250");
  assert.equal(read("١٢٥٠٫٥"), "1250.5");
  assert.equal(read("1,5"), undefined);
  assert.equal(read("-5"), undefined);
  assert.equal(read("12,34.5"), undefined);
});

test("percentages round half up, at one digit", () => {
  assert.equal(percent("180", "1000"), "18.0");
  assert.equal(percent("1", "3"), "33.3");
  assert.equal(percent("0.5", "1000"), "0.1");
  assert.equal(percent("-0.5", "1000"), "-0.1");
  assert.equal(percent("1", "0.00"), undefined);
});

test("a place to draw at stays within its range", () => {
  assert.equal(thousandths("150.5", "100", "200"), 505);
  assert.equal(thousandths("99", "100", "200"), 0);
  assert.equal(thousandths("5", "5", "5"), 500);
});
