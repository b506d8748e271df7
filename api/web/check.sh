#!/usr/bin/env bash
# Checks the page: that no float touches a price, types, the tests of the feed's state machine, and that dist/ is what
# the sources give.
# Works in a copy, so that the tree stays as it is. Says SKIPPED where Node or the packages can't be had.
set -euo pipefail
cd "$(dirname "$0")"
# Prices and scores are strings and BigInt. The types forbid arithmetic on strings; what could still turn one into a
# float is looked for here. Numbers are read from text in format.ts (times and counts) and decimal.ts (a place to draw
# at, after the division), and from `seq` in feed.ts.
sources=(*.ts *.tsx page/*.ts page/*.tsx)
inexact=$(
  grep -nE 'parseFloat|parseInt|toFixed|toPrecision|valueAsNumber|fround' "${sources[@]}" || true
  grep -nE '\bNumber\(' "${sources[@]}" | grep -vE '^(format|decimal)\.ts:|^feed\.ts:.*\["seq"\]' || true
  grep -nE '[=(,:?] *\+[A-Za-z(]' "${sources[@]}" || true
)
[ -z "$inexact" ] || { echo "a price may become a float here:"; echo "$inexact"; exit 1; }

skip() {
  echo "   SKIPPED: $1; the page's types, tests and bundle were not checked"
  exit 0
}
command -v node >/dev/null && command -v npm >/dev/null || skip "Node and npm are not installed"
[ "$(node -p 'Number(process.versions.node.split(".")[0]) >= 20')" = true ] || skip "Node is older than 20"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
find . -mindepth 1 -maxdepth 1 ! -name node_modules ! -name build -exec cp -R {} "$copy/" \;
cd "$copy"
npm ci --ignore-scripts --prefer-offline --no-audit --no-fund --silent >npm.log 2>&1 || { tail -3 npm.log; skip "npm can't get the packages"; }
npm run --silent verify >verify.log 2>&1 || { cat verify.log; exit 1; }
tail -1 verify.log
