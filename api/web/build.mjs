// Builds the page into dist/ (committed, so that a machine with only Rust can build the program) and the unit
// tests into build/. `--check` builds into memory and compares with dist/ without writing anything.
import { build, context } from "esbuild";
import { readFile, readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import path from "node:path";

const here = path.dirname(fileURLToPath(import.meta.url));
const page = {
  absWorkingDir: here,
  entryPoints: { app: "app.tsx", style: "style.css", index: "index.html", icon: "icon.svg" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  legalComments: "none",
  loader: { ".html": "copy", ".svg": "copy" },
  external: ["/assets/*"],
  logLevel: "warning",
};

const mode = process.argv[2] ?? "";
if (mode === "--watch") {
  await (await context(page)).watch();
} else if (mode === "--tests") {
  const tests = (await readdir(path.join(here, "tests"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    absWorkingDir: here,
    entryPoints: tests.map((name) => `tests/${name}`),
    outdir: "build/tests",
    bundle: true,
    platform: "node",
    format: "esm",
    outExtension: { ".js": ".mjs" },
    logLevel: "warning",
  });
} else if (mode === "--check") {
  const { outputFiles } = await build({ ...page, write: false });
  const stale = [];
  for (const file of outputFiles) {
    const kept = await readFile(file.path).catch(() => undefined);
    if (kept === undefined || !kept.equals(Buffer.from(file.contents))) stale.push(path.relative(here, file.path));
  }
  const built = new Set(outputFiles.map((file) => path.basename(file.path)));
  for (const name of await readdir(path.join(here, "dist"))) {
    if (!built.has(name)) stale.push(`dist/${name} (no longer built)`);
  }
  if (stale.length > 0) {
    console.error(`out of date: ${stale.join(", ")}; run \`npm ci && npm run build\` in api/web and commit dist/`);
    process.exit(1);
  }
  console.log(`dist/ is what the sources give (${built.size} files)`);
} else if (mode === "") {
  await build(page);
} else {
  console.error(`unknown option ${mode}; known: --watch, --tests, --check`);
  process.exit(2);
}
