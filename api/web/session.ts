// Who is signed in: the tokens, kept for this tab or (if the person asks for it) for this computer, and renewed in
// time. A refresh token works once, so tabs that share one take turns.

import { computed, signal } from "@preact/signals";
import { call, useTokens } from "./rest.ts";

interface Tokens {
  access: string;
  refresh: string;
  /** Local time at which the access token is too old to start something with. */
  staleAt: number;
}

/** The person and its organisation. */
export interface Me {
  user: { id: string; email: string; name: string };
  organisation: { id: string; name: string; kind: "buyer" | "supplier" | "both" };
}

interface TokenAnswer {
  access_token: string;
  refresh_token: string;
  expires_in: number;
}

const PLACE = "reversetender.session";

/** `undefined`: not known yet; `null`: nobody is signed in. */
export const me = signal<Me | null | undefined>(undefined);
/** May run tenders. */
export const buys = computed(() => me.value?.organisation.kind === "buyer" || me.value?.organisation.kind === "both");
/** May bid. */
export const supplies = computed(() => me.value?.organisation.kind === "supplier" || me.value?.organisation.kind === "both");
/** Set when a session ended by itself, so that the sign-in page can say so. */
export const ended = signal(false);

function place(): Storage {
  return localStorage.getItem(PLACE) === null ? sessionStorage : localStorage;
}

function kept(): Tokens | null {
  const text = place().getItem(PLACE);
  return text === null ? null : (JSON.parse(text) as Tokens);
}

function keep(answer: TokenAnswer, where: Storage): Tokens {
  const tokens: Tokens = {
    access: answer.access_token,
    refresh: answer.refresh_token,
    staleAt: Date.now() + Math.max(5, answer.expires_in - 60) * 1_000,
  };
  where.setItem(PLACE, JSON.stringify(tokens));
  return tokens;
}

/** One renewal at a time, over all tabs where the browser can do that. */
async function alone<T>(work: () => Promise<T>): Promise<T> {
  return "locks" in navigator ? navigator.locks.request(PLACE, work) : work();
}

let renewal: Promise<string | null> | undefined;

/** A token that is good for a while, or `null` if nobody is signed in. Throws when the server can't be reached. */
export async function accessToken(refused?: string): Promise<string | null> {
  const tokens = kept();
  if (tokens === null) return null;
  if (tokens.access !== refused && Date.now() < tokens.staleAt) return tokens.access;
  renewal ??= alone(async () => {
    const now = kept();
    if (now === null) return null;
    if (now.access !== tokens.access) return now.access; // Another tab was faster.
    try {
      const answer = await call<TokenAnswer>("POST", "/v1/auth/refresh", {
        body: { refresh_token: now.refresh },
        anonymous: true,
      });
      return keep(answer, place()).access;
    } catch (problem) {
      const status = (problem as { status?: number }).status ?? 0;
      if (status < 400 || status >= 500 || status === 429) throw problem;
      ended.value = me.value !== null;
      forget();
      return null;
    }
  }).finally(() => (renewal = undefined));
  return renewal;
}

function forget(): void {
  localStorage.removeItem(PLACE);
  sessionStorage.removeItem(PLACE);
  me.value = null;
}

/** Finds out who is signed in. */
export async function restore(): Promise<void> {
  useTokens(accessToken);
  if (kept() === null) {
    me.value = null;
    return;
  }
  try {
    me.value = await call<Me>("GET", "/v1/me");
  } catch (problem) {
    if ((problem as { status?: number }).status === 401) forget();
    else throw problem;
  }
}

/** Signs in; throws a `Problem` if the server refuses. */
export async function signIn(email: string, password: string, stay: boolean): Promise<void> {
  const answer = await call<TokenAnswer>("POST", "/v1/auth/token", { body: { email, password }, anonymous: true });
  keep(answer, stay ? localStorage : sessionStorage);
  ended.value = false;
  me.value = await call<Me>("GET", "/v1/me");
}

/** Ends the session, here first: what the server then closes is no surprise to anybody. */
export async function signOut(): Promise<void> {
  const token = await accessToken().catch(() => null);
  forget();
  if (token !== null) await call("POST", "/v1/auth/logout", { token }).catch(() => undefined);
}
