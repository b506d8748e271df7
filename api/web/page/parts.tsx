// Small parts that several pages share: fields, messages, dialogs, the state of the connection, the time left.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { LotState, Phase } from "../feed.ts";
import { clock, rest } from "../format.ts";
import { link, localTime, lost, serverTime, tick } from "../live.ts";
import { Problem } from "../rest.ts";
import { refusal, t } from "../texts.ts";

/** The title of the window while a page is shown. */
export function useTitle(title: string | undefined): void {
  useEffect(() => {
    document.title = title === undefined ? t.name : `${title} · ${t.name}`;
  }, [title]);
}

/** A labelled input with a hint and the server's word on it. */
export function Field(props: {
  label: string;
  name: string;
  hint?: string;
  error?: string | undefined;
  children?: (ids: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ComponentChildren;
  input?: JSX.IntrinsicElements["input"];
}) {
  const id = useId();
  const described = `${id}-said`;
  const ids = { id, "aria-describedby": described, "aria-invalid": props.error !== undefined };
  return (
    <div class="field" data-field={props.name}>
      <label for={id}>{props.label}</label>
      {props.children?.(ids) ?? <input name={props.name} {...ids} {...props.input} />}
      <p class="said" id={described}>
        {props.error !== undefined ? <span class="wrong">{props.error}</span> : props.hint}
      </p>
    </div>
  );
}

/** A message that something went wrong; nothing when it did not. */
export function Trouble(props: { problem: unknown; again?: () => void }) {
  if (props.problem === undefined || props.problem === null) return null;
  return (
    <div class="notice bad" role="alert">
      <span>{explain(props.problem)}</span>
      {props.again !== undefined && (
        <button type="button" class="quiet" onClick={props.again}>
          {t.retry}
        </button>
      )}
    </div>
  );
}

/** Any failure in words. */
export function explain(problem: unknown): string {
  if (problem instanceof Problem) return refusal(problem.code, problem.errors[0]?.detail ?? problem.message);
  return problem instanceof Error ? problem.message : String(problem);
}

/** A stage as a word with a colour and a mark. */
export function Stage(props: { stage: string }) {
  return <span class={`stage ${props.stage}`}>{t.stage[props.stage] ?? props.stage}</span>;
}

/** A dialog that is open as long as it is rendered. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog !== null && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog ref={ref} aria-labelledby={id} onCancel={(event) => (event.preventDefault(), props.onClose())}>
      <h2 id={id}>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** A question with an optional reason and number, and the action that the answer starts. */
export function Ask(props: {
  title: string;
  text?: string;
  action: string;
  danger?: boolean;
  reason?: "needed" | "optional";
  minutes?: boolean;
  onClose: () => void;
  act: (answer: { reason: string; minutes: string }) => Promise<void>;
}) {
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    try {
      await props.act({ reason: String(form.get("reason") ?? "").trim(), minutes: String(form.get("minutes") ?? "") });
      props.onClose();
    } catch (failure) {
      setProblem(failure);
      setBusy(false);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={submit}>
        {props.text !== undefined && <p>{props.text}</p>}
        {props.minutes === true && (
          <Field label={t.tender.seconds} name="minutes" input={{ type: "number", min: 1, max: 43_200, value: "5", required: true }} />
        )}
        {props.reason !== undefined && (
          <Field
            label={props.reason === "needed" ? t.decide.reason : t.decide.reasonOptional}
            name="reason"
            hint={t.tender.reasonHint}
            input={{ required: props.reason === "needed", maxLength: 1_000, autocomplete: "off" }}
          />
        )}
        <Trouble problem={problem} />
        <div class="row end">
          <button type="button" class="quiet" onClick={props.onClose}>
            {t.close}
          </button>
          <button type="submit" class={props.danger === true ? "danger" : "primary"} disabled={busy}>
            {props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** The state of the connection, always in sight. */
export function Connection() {
  const { phase, retryAt, why } = link.value;
  if (phase === "idle") return null;
  tick.value;
  const offline = phase === "ended" || !navigator.onLine;
  const seconds = retryAt === undefined ? 0 : Math.ceil((retryAt - localTime()) / 1_000);
  const word =
    why === "signed_out" ? t.link.endedSignedOut
    : why === "forbidden" ? t.link.endedForbidden
    : why === "protocol" ? t.link.endedProtocol
    : phase === "live" ? t.link.live
    : offline ? t.link.offline
    : phase === "waiting" && seconds > 1 ? t.link.reconnectingIn(seconds)
    : t.link.reconnecting;
  const look = phase === "live" ? "live" : offline ? "offline" : "reconnecting";
  return (
    <span class={`connection ${look}`} role="status" aria-label={`${t.link.label}: ${word}`} data-link={look}>
      {word}
    </span>
  );
}

/** Said above live figures while they may be out of date. */
export function Stale() {
  if (!lost.value) return null;
  return <p class="notice warn stale">{t.link.stale}</p>;
}

/** The rest of a lot's time, by the server's clock. What it says decides nothing: the close is an event. */
export function TimeLeft(props: { lot: Pick<LotState, "stage" | "opens_at" | "closes_at"> }) {
  tick.value;
  const { stage, opens_at, closes_at } = props.lot;
  const now = serverTime();
  if (stage === "pending") {
    return opens_at === null ? <span class="soft">–</span> : <span>{rest(Date.parse(opens_at) - now)}</span>;
  }
  if (stage === "open" && closes_at !== null) {
    const left = Date.parse(closes_at) - now;
    return <span class={left <= 60_000 ? "soon" : ""}>{left <= 0 ? t.lot.closing : rest(left)}</span>;
  }
  return <span class="soft">{stage === "paused" ? (t.stage["paused"] ?? "") : "–"}</span>;
}

/** The rest of a phase. What it says decides nothing: the next phase is an event. */
export function PhaseLeft(props: { phase: Phase }) {
  tick.value;
  const { ends_at } = props.phase;
  if (ends_at === null) return <span class="soft">{t.stage["paused"]}</span>;
  const left = Date.parse(ends_at) - serverTime();
  return (
    <span class={left <= 5_000 ? "soon" : ""} role="timer">
      {rest(left)}
    </span>
  );
}

/** When a lot ends, as a clock time. */
export function EndsAt(props: { at: string | null }) {
  return props.at === null ? null : <time dateTime={props.at}>{t.lot.endsAt(clock(props.at))}</time>;
}
