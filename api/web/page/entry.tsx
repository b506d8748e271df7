// The front door: what this is, sign in, sign up.

import { useState } from "preact/hooks";
import { call, Problem } from "../rest.ts";
import { go } from "../router.ts";
import { ended, signIn } from "../session.ts";
import { t } from "../texts.ts";
import { Field, Trouble, useTitle } from "./parts.tsx";

function SignIn() {
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    try {
      await signIn(String(form.get("email")), String(form.get("password")), form.get("stay") !== null);
      if (location.pathname.startsWith("/sign-")) go("/");
    } catch (failure) {
      const wrong = failure instanceof Problem && (failure.status === 401 || failure.status === 403);
      setProblem(wrong ? new Error(t.entry.wrong) : failure);
      setBusy(false);
    }
  };
  return (
    <form class="card entry" onSubmit={submit} data-form="sign-in">
      <h2>{t.entry.signIn}</h2>
      {ended.value && <p class="notice warn">{t.entry.ended}</p>}
      <Field label={t.entry.email} name="email" input={{ type: "email", autocomplete: "username", required: true }} />
      <Field label={t.entry.password} name="password" input={{ type: "password", autocomplete: "current-password", required: true }} />
      <label class="check">
        <input type="checkbox" name="stay" /> {t.entry.stay}
      </label>
      <Trouble problem={problem} />
      <button type="submit" class="primary wide" disabled={busy}>
        {t.entry.signIn}
      </button>
      <p class="soft">
        {t.entry.toSignUp} <a href="/sign-up">{t.entry.signUp}</a>
      </p>
    </form>
  );
}

function SignUp() {
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const of = (pointer: string) =>
    problem instanceof Problem ? problem.errors.find((error) => error.pointer === pointer)?.detail : undefined;
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const [email, password] = [String(form.get("email")), String(form.get("password"))];
    setBusy(true);
    try {
      const organisation = { name: String(form.get("organisation")).trim(), kind: String(form.get("kind")) };
      const body = { email, password, name: String(form.get("name")).trim(), organisation };
      await call("POST", "/v1/auth/register", { body, anonymous: true });
      await signIn(email, password, false);
      go("/");
    } catch (failure) {
      setProblem(failure);
      setBusy(false);
    }
  };
  const kinds = [["buyer", t.entry.kindBuyer], ["supplier", t.entry.kindSupplier], ["both", t.entry.kindBoth]] as const;
  return (
    <form class="card entry" onSubmit={submit} data-form="sign-up">
      <h2>{t.entry.signUp}</h2>
      <Field label={t.entry.organisation} name="organisation" error={of("/organisation/name")} input={{ autocomplete: "organization", required: true, maxLength: 200 }} />
      <fieldset>
        <legend>{t.entry.kind}</legend>
        {kinds.map(([kind, words], at) => (
          <label class="check" key={kind}>
            <input type="radio" name="kind" value={kind} defaultChecked={at === 0} /> {words}
          </label>
        ))}
      </fieldset>
      <Field label={t.entry.yourName} name="name" error={of("/name")} input={{ autocomplete: "name", required: true, maxLength: 200 }} />
      <Field label={t.entry.email} name="email" error={of("/email")} input={{ type: "email", autocomplete: "username", required: true }} />
      <Field
        label={t.entry.password}
        name="password"
        hint={t.entry.passwordHint}
        error={of("/password")}
        input={{ type: "password", autocomplete: "new-password", required: true, minLength: 8 }}
      />
      <Trouble problem={problem} />
      <button type="submit" class="primary wide" disabled={busy}>
        {t.entry.signUp}
      </button>
      <p class="soft">
        {t.entry.toSignIn} <a href="/sign-in">{t.entry.signIn}</a>
      </p>
    </form>
  );
}

/** The page of those who are not signed in. */
export function Entry(props: { signUp: boolean }) {
  useTitle(props.signUp ? t.entry.signUp : t.entry.signIn);
  return (
    <div class="front">
      <div class="claim">
        <h1>{t.entry.claim}</h1>
        <p class="lede">{t.entry.lede}</p>
      </div>
      {props.signUp ? <SignUp /> : <SignIn />}
    </div>
  );
}
