// Which page is shown: the address bar is the state.

import { signal } from "@preact/signals";

/** The path of the page that is shown. */
export const path = signal(location.pathname);

/** Goes to another page of ours. */
export function go(to: string): void {
  if (to !== location.pathname) history.pushState(null, "", to);
  path.value = to;
  scrollTo(0, 0);
}

/** Lets plain links work without loading the page again, and the back button with it. */
export function begin(): void {
  addEventListener("popstate", () => (path.value = location.pathname));
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest("a");
    if (link === null || link === undefined || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target !== "") return;
    if (link.origin !== location.origin || link.hash !== "" || link.pathname.startsWith("/v1/")) return;
    event.preventDefault();
    go(link.pathname);
  });
}
