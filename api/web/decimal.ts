// Prices as they travel: decimal strings. Compared, added and shown exactly, on BigInt; a float never touches one.

/** A decimal number: `units` × 10^-`scale`. */
export interface Decimal {
  readonly units: bigint;
  readonly scale: number;
}

const FORM = /^([+-]?)(\d+)(?:\.(\d+))?$/;

/** Reads a decimal string as the server writes it; `undefined` if it is none. */
export function parse(text: string): Decimal | undefined {
  const match = FORM.exec(text);
  if (match === null || text.length > 60) return undefined;
  const [, sign, whole = "", part = ""] = match;
  const units = BigInt(whole + part);
  return { units: sign === "-" ? -units : units, scale: part.length };
}

function demand(text: string): Decimal {
  const value = parse(text);
  if (value === undefined) throw new RangeError(`no decimal: ${JSON.stringify(text)}`);
  return value;
}

function rescale(value: Decimal, scale: number): bigint {
  return value.units * 10n ** BigInt(scale - value.scale);
}

function write(units: bigint, scale: number): string {
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, "0");
  const cut = digits.length - scale;
  const text = scale === 0 ? digits : `${digits.slice(0, cut)}.${digits.slice(cut)}`;
  return units < 0n ? `-${text}` : text;
}

/** Negative, zero or positive as `a` is less than, equal to or more than `b`, by value. */
export function compare(a: string, b: string): number {
  const [x, y] = [demand(a), demand(b)];
  const scale = Math.max(x.scale, y.scale);
  const [left, right] = [rescale(x, scale), rescale(y, scale)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** `a` + `b`, at the finer scale of the two. */
export function add(a: string, b: string): string {
  const [x, y] = [demand(a), demand(b)];
  const scale = Math.max(x.scale, y.scale);
  return write(rescale(x, scale) + rescale(y, scale), scale);
}

/** `a` − `b`, at the finer scale of the two. */
export function subtract(a: string, b: string): string {
  const [x, y] = [demand(a), demand(b)];
  const scale = Math.max(x.scale, y.scale);
  return write(rescale(x, scale) - rescale(y, scale), scale);
}

/** How much of `whole` the `part` is, in percent with one digit, half up; `undefined` when `whole` is zero. */
export function percent(part: string, whole: string): string | undefined {
  const [x, y] = [demand(part), demand(whole)];
  const scale = Math.max(x.scale, y.scale);
  const [top, bottom] = [rescale(x, scale), rescale(y, scale)];
  if (bottom === 0n) return undefined;
  const twice = (top * 2000n) / bottom + (top * bottom < 0n ? -1n : 1n);
  return write(twice / 2n, 1);
}

/**
 * Where `value` lies between `low` and `high`, in thousandths (0 to 1000): for drawing only, never for deciding.
 */
export function thousandths(value: string, low: string, high: string): number {
  const scale = Math.max(...[value, low, high].map((text) => demand(text).scale));
  const [at, from, to] = [value, low, high].map((text) => rescale(demand(text), scale)) as [bigint, bigint, bigint];
  if (to === from) return 500;
  const share = ((at - from) * 1000n) / (to - from);
  return Number(share < 0n ? 0n : share > 1000n ? 1000n : share);
}

/** For the eye: thousands grouped, and the digits behind the point filled up to `scale`. */
export function show(text: string, scale = 0): string {
  const value = parse(text);
  if (value === undefined) return text;
  const wide = value.scale < scale ? { units: rescale(value, scale), scale } : value;
  const [whole = "", part] = write(wide.units, wide.scale).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return part === undefined ? grouped : `${grouped}.${part}`;
}

/**
 * What a person typed as a price, as a decimal string: spaces and grouping commas fall away, Arabic digits and marks
 * are read. `undefined` if it cannot be a price; a comma that could be a decimal point (`1,5`) is not guessed at.
 */
export function read(typed: string): string | undefined {
  const latin = typed
    .trim()
    .replace(/[٠-٩]/g, (digit) => String(digit.charCodeAt(0) - 0x0660))
    .replace(/[۰-۹]/g, (digit) => String(digit.charCodeAt(0) - 0x06f0))
    .replace(/٫/g, ".")
    .replace(/٬/g, ",");
  const ungrouped = latin.replace(/[\s\u00a0\u202f]/g, "");
  const plain = /^\d{1,3}(,\d{3})+(\.\d+)?$/.test(ungrouped) ? ungrouped.replaceAll(",", "") : ungrouped;
  return /^\d+(\.\d+)?$/.test(plain) ? plain : undefined;
}
