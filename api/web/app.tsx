// The page: header with the connection, and the page that the address names.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { begin as beginLive } from "./live.ts";
import { CreateTender } from "./page/create.tsx";
import { Entry } from "./page/entry.tsx";
import { TenderList } from "./page/list.tsx";
import { LotPage } from "./page/lot.tsx";
import { Connection, Trouble } from "./page/parts.tsx";
import { TenderPage } from "./page/tender.tsx";
import { begin as beginRouter, go, path } from "./router.ts";
import { ended, me, restore, signOut } from "./session.ts";
import { t } from "./texts.ts";

function Shown() {
  const [, first = "", second = "", more, beyond] = path.value.split("/");
  const known = me.value !== null && me.value !== undefined;
  // A page belongs to one reader: another one begins afresh.
  const reader = me.value?.user.id ?? "";
  if (!known && ended.value) return <Entry signUp={false} />;
  if (first === "tenders" && second === "new" && known && more === undefined) return <CreateTender key={reader} />;
  if (first === "tenders" && more === "edit" && known && beyond === undefined) return <CreateTender id={second} key={second + reader} />;
  if (first === "tenders" && second !== "" && second !== "new" && more === undefined) return <TenderPage id={second} key={second + reader} />;
  if (first === "lots" && second !== "" && more === undefined) return <LotPage id={second} key={second + reader} />;
  if (!known) return <Entry signUp={first === "sign-up"} />;
  if (first === "" || first === "sign-in" || first === "sign-up") return <TenderList />;
  return <p class="notice">{t.notFound}</p>;
}

function App() {
  const [problem, setProblem] = useState<unknown>();
  const find = () => {
    setProblem(undefined);
    restore().catch(setProblem);
  };
  useEffect(find, []);
  const who = me.value;
  return (
    <>
      <a class="skip" href="#main">
        {t.skip}
      </a>
      <header class="bar">
        <a class="brand" href="/" aria-label={t.name}>
          <span class="mark" aria-hidden="true" />
          <span class={who == null ? "" : "name"}>{t.name}</span>
        </a>
        <Connection />
        {who != null ? (
          <span class="who">
            <span class="soft name">{who.organisation.name}</span>
            <button
              type="button"
              class="quiet"
              data-action="sign-out"
              onClick={() => {
                void signOut().then(() => go("/"));
              }}
            >
              {t.signOut}
            </button>
          </span>
        ) : (
          who === null && (
            <a class="button quiet" href="/sign-in">
              {t.entry.signIn}
            </a>
          )
        )}
      </header>
      <main id="main" tabIndex={-1}>
        <Trouble problem={problem} again={find} />
        {who === undefined ? problem === undefined && <p class="soft">{t.loading}</p> : <Shown />}
      </main>
    </>
  );
}

beginRouter();
beginLive();
const root = document.getElementById("app");
if (root !== null) render(<App />, root);
