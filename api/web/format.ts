// Times and prices for the eye. Prices stay strings.

import { show } from "./decimal.ts";

/** A price with its currency. */
export function money(price: string, currency: string, scale: number): string {
  return `${show(price, scale)}\u00a0${currency}`;
}

const clockForm = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayForm = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** Hours, minutes and seconds, local. */
export function clock(at: string | number): string {
  return clockForm.format(new Date(at));
}

/** Day and minute, local. */
export function day(at: string | number): string {
  return dayForm.format(new Date(at));
}

/** A rest of time: `4:32`, `1:04:32`, `2 d 03:10`. Whole seconds, rounded up, so that 0 means over. */
export function rest(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  const two = (value: number) => String(value).padStart(2, "0");
  const [d, h, m, s] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d > 0) return `${d} d ${two(h)}:${two(m)}`;
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Seconds as minutes, without a needless fraction. */
export function minutes(seconds: number): string {
  return String(Math.round((seconds / 60) * 100) / 100);
}

/** A whole number from 0 that a person typed: a count, or seconds. Never for a price. */
export function whole(typed: string): number | undefined {
  return /^\d{1,9}$/.test(typed.trim()) ? Number(typed.trim()) : undefined;
}

/** Minutes that a person typed, perhaps with a fraction, as whole seconds. */
export function toSeconds(typedMinutes: string): number | undefined {
  const value = Number(typedMinutes.trim());
  return typedMinutes.trim() !== "" && Number.isFinite(value) && value > 0 ? Math.round(value * 60) : undefined;
}

/** Seconds as minutes for a field, so that reading them back gives the same seconds. */
export function fromSeconds(seconds: number): string {
  return String(Math.round((seconds / 60) * 1_000) / 1_000);
}
